# A service node: elixir service.exs a|b
Application.put_env(:logger, :default_handler, [config: [type: :standard_error]],
  persistent: true
)

Application.put_env(:phoenix_gen_api, :client_mode, true)
{:ok, _} = Application.ensure_all_started(:phoenix_gen_api)

gateway = Demo.Nodes.gateway()
:ok = :net_kernel.monitor_nodes(true)

if System.argv() == ["a"], do: {:ok, _} = Demo.ServiceA.start_link()

# A service node of the demo does not outlive its gateway.
receive do
  {:nodeup, ^gateway} -> :ok
after
  30_000 -> System.halt(1)
end

receive do
  {:nodedown, ^gateway} -> System.halt(0)
end
