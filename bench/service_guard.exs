Code.require_file("support/harness.ex", __DIR__)

defmodule Bench.ServiceGuard do
  @moduledoc "What the guard costs: each remote call where there is none, and the calls of a guarded node."

  import Bench.Harness

  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.ServiceGuard
  alias PhoenixGenApi.Structs.FunConfig

  def run do
    [open, guarded] = for guard <- [false, true], do: peer(guard)
    register(guarded)
    call = &RPC.call(&1, String, :upcase, ["text"], 5_000)
    # Also makes both nodes known.
    assert_same("call", fn _ -> call.(open) end, fn _ -> call.(guarded) end, [:once])
    {true, true} = {RPC.Capabilities.lookup(open), RPC.Capabilities.lookup(guarded)}

    {:raised, :error, %ServiceGuard.Refused{}, []} =
      RPC.call(guarded, String, :trim, [""], 5_000)

    figures(lookup([open, guarded]) ++ calls(call, open, guarded))
  end

  defp lookup(nodes) do
    results = compare([{"known/1", &RPC.Capabilities.lookup/1}, {"nothing", & &1}], nodes)
    times("how a node is called, on the path of every remote call", results)
    [{"the lookup", {:ns, result(results, "known/1").median}, {:at_most, 100}}]
  end

  defp calls(call, open, guarded) do
    results =
      compare(
        [{"without a guard", fn _ -> call.(open) end}, {"guarded", fn _ -> call.(guarded) end}],
        [:once],
        round_ms: 50
      )

    times("`String.upcase/1` on another node of this machine", results)

    [
      {"a guarded node against one that is not",
       {:times, ratio(results, "guarded", "without a guard")}, {:at_most, 1.1}}
    ]
  end

  # Among ten thousand other functions.
  defp register(node) do
    config =
      &%FunConfig{service: "s", nodes: [node], mfa: {&1, &2, []}, arg_types: %{"text" => :string}}

    others = for n <- 1..10_000, do: config.(Bench, :"function_#{n}")
    :ok = :erpc.call(node, ServiceGuard, :register, [[config.(String, :upcase) | others]])
  end

  defp peer(guard) do
    unless Node.alive?(),
      do: {:ok, _} = Node.start(:"bench-#{System.pid()}@127.0.0.1", :longnames)

    {:ok, _peer, node} =
      :peer.start_link(%{
        name: :"bench-#{guard}-#{System.pid()}",
        host: ~c"127.0.0.1",
        longnames: true,
        args:
          [~c"-setcookie", Atom.to_charlist(Node.get_cookie())] ++
            Enum.flat_map(:code.get_path(), &[~c"-pa", &1])
      })

    for {key, value} <- [client_mode: true, service_guard: guard],
        do: :ok = :erpc.call(node, Application, :put_env, [:phoenix_gen_api, key, value])

    {:ok, _} = :erpc.call(node, Application, :ensure_all_started, [:phoenix_gen_api])
    node
  end
end

Bench.ServiceGuard.run()
