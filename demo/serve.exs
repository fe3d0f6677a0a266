# The gateway of bin/demo --serve: elixir serve.exs PORT
alias Demo.Nodes
alias PhoenixGenApi.Http

# Short, so that one sees nodes come back.
Application.put_env(:phoenix_gen_api, :node_selector, probe_interval: 1_000)
Application.put_env(:phoenix_gen_api, :describe, :public)
{:ok, _} = Application.ensure_all_started(:phoenix_gen_api)
# As in a release: no request waits for a module to be loaded.
:ok = :phoenix_gen_api |> Application.spec(:modules) |> Code.ensure_all_loaded()

nodes = [Nodes.service_a(), Nodes.service_b()]
true = Nodes.await(nodes)
# They offer their functions to every gateway that they are connected with.
true = Enum.all?(["shop", "text", "cluster"], &Nodes.offer?(&1, nodes))

serve = fn port ->
  Http.Inets.start_link(
    port: port,
    identity: %{user_id: "ann", user_roles: []},
    console: true,
    allow: true
  )
end

Process.flag(:trap_exit, true)
[wanted] = System.argv()

server =
  case serve.(String.to_integer(wanted)) do
    {:ok, server} -> server
    # Somebody else has that port.
    {:error, _in_use} -> elem(serve.(0), 1)
  end

address = "http://localhost:#{Http.Inets.port(server)}"

IO.puts("""
#{address}/

  curl #{address}/shop/price -H 'content-type: application/json' -d '{"item": "tea", "quantity": 3}'

One gateway and two service nodes, #{Enum.map_join(nodes, " and ", &Nodes.short/1)}. Ctrl-C ends them.\
""")

receive do
  {:EXIT, ^server, _reason} -> System.halt(1)
end
