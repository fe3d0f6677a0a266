# A service node: elixir service.exs a|b
Application.put_env(:phoenix_gen_api, :client_mode, true)
{:ok, _} = Application.ensure_all_started(:phoenix_gen_api)
if System.argv() == ["a"], do: {:ok, _} = Demo.ServiceA.start_link()
Demo.Nodes.follow_gateway()
