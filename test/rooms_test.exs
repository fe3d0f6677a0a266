defmodule PhoenixGenApi.RoomsTest do
  # What `mix xref graph` says of lib/, against the plan of the house: floors, of which each reads only
  # those below it, and no cycles. Nothing is compiled for it: the graph is that of the last compilation.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  # From the top. Diagnostics read everything, and only the front door reads them. A room is a folder with the file of the same name beside it, or one file; the
  # longest name counts. Rooms of one floor may read each other.
  @floors [
    front_door: ~w(lib/phoenix_gen_api application lib/mix testing doctor),
    diagnostics: ~w(diagnostics),
    start: ~w(supervisor boot_audit),
    entrances: ~w(channel channel_helpers http plug),
    one_request: ~w(executor stream_call),
    groups: ~w(relay),
    services:
      ~w(service service_guard config_pusher config_puller config_receiver config_sync contract json_config offers),
    parts:
      ~w(argument_handler client_connection config_db failure_log hooks node_selector permission rate_limiter service_nodes undefined_functions worker_pool),
    calls: ~w(rpc),
    plans: ~w(candidate_set circuits cluster decisions plan service_sets),
    ground: ~w(
      config config_failed deadline error_response errors explanation format gateway http_status identity impl_helper integers jason_encoding jason_impl_helper
      json_encoding log native owned_table permission/permission_denied process_names safe_inspect
      security service_guard/refused structs table_printer telemetry
    )
  ]

  # Arrows that point up, each with its reason. One that is no longer there has to go from here.
  @up %{
    {"structs/fun_config", "argument_handler"} => "public functions of the struct that delegate",
    {"structs/fun_config", "node_selector"} => "public functions of the struct that delegate",
    {"structs/fun_config", "permission"} => "public functions of the struct that delegate",
    {"structs/fun_config/validation", "argument_handler/type_parser"} =>
      "argument types have a syntax of their own, which is part of a config",
    {"structs/stream_helper", "rpc/credit"} =>
      "a public function of the struct, called on the service node, waits for credit",
    {"config/type", "rate_limiter/limit"} => "limits are a type of the config",
    {"service/gateway_pusher", "supervisor"} =>
      "monitors the application of another node by the name of its supervisor"
  }

  # Cycles of files, each with its reason: at most two, of at most three files.
  @cycles %{
    ["channel/queue", "channel/requests"] =>
      "requests that have to wait are put into a queue, which starts them in their turn"
  }

  @most_cycles 2
  @largest_cycle 3

  setup_all do
    edges = edges()
    # That the graph is there at all.
    assert length(edges) > 500
    %{edges: edges}
  end

  test "no cycle of files but those listed here" do
    assert Enum.sort(cycles()) == @cycles |> Map.keys() |> Enum.map(&Enum.sort/1) |> Enum.sort()
  end

  test "the listed cycles are few and small" do
    assert map_size(@cycles) <= @most_cycles
    for {files, _reason} <- @cycles, do: assert(length(files) <= @largest_cycle)
  end

  test "no file is compiled again because of a cycle", %{edges: edges} do
    graph = :digraph.new()

    for {from, to, _label} <- edges, file <- [from, to], do: :digraph.add_vertex(graph, file)
    for {from, to, _label} <- edges, do: :digraph.add_edge(graph, from, to)

    assert for({from, to, :compile} <- edges, :digraph.get_path(graph, to, from), do: from) == []
  end

  test "every file of lib/ is in a room", %{edges: edges} do
    files = for {from, to, _label} <- edges, file <- [from, to], uniq: true, do: file
    assert for(file <- files, depth(file) == nil, do: file) == []
  end

  test "arrows between rooms point down only, but for those listed here", %{edges: edges} do
    up = for {from, to, _label} <- edges, depth(from) > depth(to), uniq: true, do: {from, to}
    assert Enum.sort(up) == @up |> Map.keys() |> Enum.sort()
  end

  defp depth(file) do
    {_length, floor} =
      for {{_name, rooms}, floor} <- Enum.with_index(@floors),
          room <- rooms,
          file == room or String.starts_with?(file, room <> "/"),
          reduce: {0, nil} do
        {length, _floor} when byte_size(room) > length -> {byte_size(room), floor}
        found -> found
      end

    floor
  end

  defp edges do
    for line <- xref(["--format", "dot", "--output", "-"]),
        [from, to | label] <- [
          Regex.run(~r/"(.+)" -> "(.+?)"(?: \[label="\((\w+)\)"\])?/, line,
            capture: :all_but_first
          )
        ],
        of_lib?(from) and of_lib?(to),
        do: {name(from), name(to), label(label)}
  end

  defp cycles do
    ["--format", "cycles"]
    |> xref()
    |> Enum.chunk_by(&String.starts_with?(&1, "    "))
    |> Enum.filter(&match?(["    " <> _file | _], &1))
    |> Enum.map(fn lines -> for line <- lines, do: line |> String.split() |> hd() end)
    |> Enum.filter(fn files -> Enum.all?(files, &of_lib?/1) end)
    |> Enum.map(fn files -> files |> Enum.map(&name/1) |> Enum.sort() end)
  end

  defp of_lib?(file), do: String.starts_with?(file, "lib/")

  defp name("lib/phoenix_gen_api/" <> file), do: Path.rootname(file)
  defp name(file), do: Path.rootname(file)

  defp label([]), do: :runtime
  defp label([label]), do: String.to_existing_atom(label)

  defp xref(args) do
    output = capture_io(fn -> Mix.Task.rerun("xref", ["graph", "--no-compile" | args]) end)
    String.split(output, "\n", trim: true)
  end
end
