Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.Execute do
  @moduledoc "Whole requests, here and on another node, against the bare means of OTP."

  import Bench.Harness

  alias Bench.Gateway
  alias PhoenixGenApi.{ConfigDb, Executor}
  alias PhoenixGenApi.Structs.{Request, Response}

  @timeout 5_000

  def run do
    if Code.ensure_loaded?(Executor) and function_exported?(Executor, :execute!, 1) do
      figures(here() ++ elsewhere())
    else
      IO.puts("\nleft out: this build has no PhoenixGenApi.Executor.execute!/1")
    end
  end

  defp here do
    request = registered("here", :local)
    task = fn %Request{args: args} -> task(args) end
    assert_same("local", &execute/1, task, [request])

    results = compare([{"execute!", &Executor.execute!/1}, {"Task", task}], [request])
    times("a local function, `String.upcase/1`, timeout 5 s", results)

    [
      {"local, against a bare Task", {:times, ratio(results, "execute!", "Task")},
       {:at_most, 1.5}}
    ]
  end

  defp elsewhere do
    node = peer("service")
    {:ok, _started} = :erpc.call(node, :application, :ensure_all_started, [:phoenix_gen_api])
    ratio = against_erpc(node, "a node that runs the library")
    bare = against_erpc(peer("bare"), "a node that does not")

    [
      {"remote, against a bare `:erpc.call/5`, p50", {:times, ratio}, {:at_most, 1.1}},
      {"the same for a node without the library", {:times, bare}, nil}
    ]
  end

  defp against_erpc(node, title) do
    request = registered("on #{node}", [node])

    erpc = fn %Request{args: args} ->
      :erpc.call(node, String, :upcase, [args["text"]], @timeout)
    end

    assert_same("remote", &execute/1, erpc, [request])

    # One by one: the figure is the median of single calls.
    rounds =
      in_rounds([ours: &Executor.execute!/1, bare: erpc], 21, fn {_name, fun} ->
        singles(fun, request, 1_000)
      end)

    percentile = fn name, fraction -> median_of(rounds, &quantile(&1[name], fraction)) end

    IO.puts("\n#### the same function on another node of this machine, #{title}\n")

    table(
      ["", "p50", "p99"],
      for {label, name} <- [{"execute!", :ours}, {":erpc.call/5", :bare}] do
        [label, ns(percentile.(name, 0.5)), ns(percentile.(name, 0.99))]
      end
    )

    median_of(rounds, &(quantile(&1.ours, 0.5) / quantile(&1.bare, 0.5)))
  end

  defp singles(fun, request, count) do
    :erlang.garbage_collect()

    for _ <- 1..count do
      start = :erlang.monotonic_time(:nanosecond)
      fun.(request)
      :erlang.monotonic_time(:nanosecond) - start
    end
  end

  defp registered(type, nodes) do
    :ok =
      ConfigDb.add(
        Gateway.config(
          request_type: type,
          nodes: nodes,
          choose_node_mode: :random,
          timeout: @timeout,
          arg_types: %{"text" => :string},
          arg_orders: ["text"]
        )
      )

    Gateway.request(request_type: type, args: %{"text" => "grace hopper"})
  end

  defp execute(request) do
    %Response{success: true, result: result} = Executor.execute!(request)
    result
  end

  defp task(args) do
    task = Task.async(String, :upcase, [args["text"]])

    case Task.yield(task, @timeout) || Task.shutdown(task) do
      {:ok, result} -> result
      _ -> raise "the task did not answer"
    end
  end

  defp peer(name) do
    start_distribution()
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])

    {:ok, _pid, node} =
      :peer.start_link(%{
        name: ~c"#{name}#{System.pid()}",
        host: ~c"127.0.0.1",
        longnames: true,
        args:
          paths ++
            [~c"-setcookie", Atom.to_charlist(Node.get_cookie())] ++
            [~c"-phoenix_gen_api", ~c"client_mode", ~c"true"]
      })

    {:module, String} = :erpc.call(node, :code, :ensure_loaded, [String])
    node
  end

  defp start_distribution do
    unless Node.alive?() do
      System.cmd("epmd", ["-daemon"])
      {:ok, _} = Node.start(:"bench#{System.pid()}@127.0.0.1", :longnames)
    end
  end
end

Bench.Execute.run()
