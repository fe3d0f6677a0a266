defmodule PhoenixGenApi.DocsTest do
  # Blocks store functions in the one config table.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import ExUnit.CaptureLog
  import PhoenixGenApi.DocBlocks

  alias PhoenixGenApi.{ArgumentHandler, Await, ConfigDb, Native, Offers}
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Telemetry

  @root Path.expand("..", __DIR__)
  @guides Path.wildcard("guides/*.{md,cheatmd}")
  @notebooks Path.wildcard("livebooks/*.livemd")
  @documents ["README.md", "usage-rules.md", "CONTRIBUTING.md" | @guides]

  setup do
    before = stored()
    services = offered()
    # A module of an example is often that of another document, or a later form of the same one.
    Code.put_compiler_option(:ignore_module_conflict, true)

    on_exit(fn ->
      Code.put_compiler_option(:ignore_module_conflict, false)
      # What a document offers stops with the process that has run it.
      Await.until(fn -> Enum.all?(offered() -- services, &(Offers.Store.up(&1) == [])) end)
      for service <- offered() -- services, do: Offers.Sources.superseded(service)
      Await.until(fn -> offered() -- services == [] end)
      for key <- stored() -- before, do: apply(ConfigDb, :delete, key)
    end)
  end

  defp offered, do: Offers.Store.services()

  defp stored do
    for {service, types} <- ConfigDb.get_all_functions(),
        {type, versions} <- types,
        version <- versions,
        do: [service, type, version]
  end

  for file <- @documents do
    test "the code in #{file} runs and gives what is written below it" do
      file = unquote(file)
      blocks = file |> read() |> blocks()
      env = Code.env_for_eval(file: file)

      # A document is one session: later blocks see what earlier ones have set.
      printed =
        capture_io(fn ->
          capture_log(fn ->
            for(%{not_run: nil} = block <- blocks, statement <- statements(block), do: statement)
            |> Enum.reduce({[], env}, fn statement, session -> run(statement, session, file) end)
          end)
        end)

      assert read(file) =~ String.trim(printed),
             "#{file} does not show what is printed:\n#{printed}"
    end

    test "every block that is left out of the tests of #{file} says why" do
      for %{not_run: reason, line: line} <- unquote(file) |> read() |> blocks(), reason != nil do
        assert String.length(reason) > 10, "#{unquote(file)}:#{line}: no reason"
      end
    end

    test "the JSON in #{file} is JSON" do
      for {line, code} <- unquote(file) |> read() |> blocks_of("json") do
        assert {:ok, _decoded} = JSON.decode(code), "#{unquote(file)}:#{line}"
      end
    end

    if System.find_executable("node") do
      @tag :tmp_dir
      test "the JavaScript in #{file} parses", %{tmp_dir: dir} do
        for {line, code} <- unquote(file) |> read() |> blocks_of("javascript") do
          path = Path.join(dir, "#{line}.mjs")
          File.write!(path, code)

          assert {_output, 0} = System.cmd("node", ["--check", path], stderr_to_stdout: true),
                 "#{unquote(file)}:#{line}"
        end
      end
    end
  end

  for file <- @notebooks do
    test "the cells of #{file} run and give the output below them" do
      file = unquote(file)
      env = Code.env_for_eval(file: file)
      cells = file |> read() |> cells()
      assert length(cells) > 5

      capture_log(fn -> Enum.reduce(cells, {[], env}, &run(&1, &2, file)) end)
    end
  end

  for file <- @documents ++ @notebooks do
    test "the files and headings that #{file} links to exist" do
      for [_, target | heading] <-
            Regex.scan(~r/\]\(([^)#:]+)(?:#([^)]*))?\)/, read(unquote(file))) do
        path = unquote(file) |> Path.dirname() |> Path.join(target)
        assert File.exists?(Path.join(@root, path)), "#{unquote(file)} links to #{target}"

        for anchor <- heading do
          assert anchor in headings(path), "#{unquote(file)} links to #{target}##{anchor}"
        end
      end
    end
  end

  test "a block after a reason is left out, and the next one is not" do
    assert [%{not_run: "two nodes", line: 4}, %{not_run: nil, code: "2\n"}] =
             blocks("""
             <!-- not run: two nodes -->

             ```elixir
             1
             ```

             ```elixir
             2
             ```
             """)
  end

  test "a prompt and the value below it belong together" do
    code = "iex> x = [\n...>   1]\n[1]\n\niex> y = 2\niex> x\n[\n  1\n]\n"

    assert statements(%{code: code, line: 10, not_run: nil}) ==
             [{10, "x = [\n  1]", "[1]"}, {14, "y = 2", nil}, {15, "x", "[\n  1\n]"}]
  end

  test "every result in the argument guide is what the call gets" do
    rows = rows(read("guides/arguments.md"), ~w(Type Value Result))
    assert length(rows) > 30

    for {line, [type, value, result]} <- rows do
      given = convert(type, value)

      assert given === {:ok, [eval(result)]},
             "guides/arguments.md:#{line} gives #{inspect(given)}"
    end
  end

  test "every message in the argument guide is what a wrong argument gets" do
    rows = rows(read("guides/arguments.md"), ~w(Type Value Message))
    assert length(rows) > 30

    for {line, [type, value, message]} <- rows do
      assert {:error, exception} = convert(type, value), "guides/arguments.md:#{line}"
      given = Exception.message(exception)
      assert given == message, "guides/arguments.md:#{line} gives #{given}"
    end
  end

  test "every sentence in the argument guide about a wrong type is what registering it gets" do
    rows = rows(read("guides/arguments.md"), ["arg_types", "arg_orders", "Sentence"])
    assert length(rows) > 8

    for {line, [types, orders, sentence]} <- rows do
      config = %{config(eval(types)) | arg_orders: eval(orders)}
      given = FunConfig.validate_with_details(config)
      assert given == {:error, [sentence]}, "guides/arguments.md:#{line} gives #{inspect(given)}"
    end
  end

  test "the tables of events and metrics in the telemetry guide are those of the code" do
    tables = [
      events: Telemetry.docs(),
      relay: Telemetry.Events.docs(Telemetry.Events.extra()),
      metrics: Telemetry.Metrics.docs()
    ]

    for {table, docs} <- tables do
      # The comment above a table says where to get it from.
      table = ~r/(<!-- #{table}: the output of `.*` -->\n\n)(.*)(\n<!-- end of #{table})/s
      guide = read("guides/telemetry.md")

      if System.get_env("GUIDES") == "write" do
        File.write!("guides/telemetry.md", Regex.replace(table, guide, "\\1#{docs}\\3"))
      else
        assert [_, _before, ^docs, _after] = Regex.run(table, guide),
               "out of date: GUIDES=write bin/mix test #{Path.relative_to_cwd(__ENV__.file)}"
      end
    end
  end

  test "native/README.md lists every NIF once, on the scheduler it runs on" do
    documented =
      for {_line, [name, scheduler | _]} <-
            rows(read("native/README.md"), ~w(NIF Scheduler Bound Does)),
          do: {name, scheduler}

    names = Native.__info__(:functions) -- [load: 0, file: 0, status: 0]
    stubs = for {name, _arity} <- names, do: Atom.to_string(name)

    assert Enum.sort(for {name, _} <- documented, do: name) == Enum.sort(stubs)

    dirty =
      for path <- Path.wildcard(Path.join(@root, "native/gen_api_nif/src/*.rs")),
          [_, name] <-
            Regex.scan(~r/nif\(schedule = "DirtyCpu"\)\]\s+fn (\w+)/, File.read!(path)),
          do: name

    for {name, scheduler} <- documented do
      expected = if name in dirty, do: "dirty CPU", else: "normal"
      assert {name, scheduler} == {name, expected}
    end
  end

  defp run({line, code, expected}, {binding, env}, file) do
    {value, binding, env} = eval(code, binding, env, file, line)

    if expected do
      {wanted, _binding, _env} = eval(expected, binding, env, file, line)
      assert value === wanted, "#{file}:#{line}: #{inspect(value)} is not #{expected}"
    end

    {binding, env}
  end

  defp eval(code, binding, env, file, line) do
    code
    |> Code.string_to_quoted!(file: file, line: line)
    |> Code.eval_quoted_with_env(binding, env)
  end

  defp eval(code), do: code |> Code.eval_string() |> elem(0)

  # "(missing)" in a table is an argument that is not sent.
  defp convert(type, value) do
    args = if value == "(missing)", do: %{}, else: %{"age" => eval(value)}
    request = %Request{request_id: "1", service: "people", request_type: "save", args: args}
    ArgumentHandler.convert_args(config(%{"age" => eval(type)}), request)
  end

  defp config(arg_types) do
    %FunConfig{
      service: "people",
      request_type: "save",
      nodes: :local,
      mfa: {People, :save, []},
      arg_types: arg_types
    }
  end

  # As ExDoc makes them of plain text.
  defp headings(path) do
    for [_, heading] <- Regex.scan(~r/^##+ (.+)$/m, read(path)) do
      heading |> String.downcase() |> String.replace(~r/[^\w -]/u, "") |> String.replace(" ", "-")
    end
  end

  defp read(path), do: @root |> Path.join(path) |> File.read!()
end
