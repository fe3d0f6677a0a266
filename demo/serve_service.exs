# A service node of bin/demo --serve.
Application.put_env(:phoenix_gen_api, :client_mode, true)
{:ok, _} = Application.ensure_all_started(:phoenix_gen_api)
child = {PhoenixGenApi.Service, apis: [Demo.Shop, Demo.Text, Demo.Whereabouts]}
{:ok, _} = Supervisor.start_link([child], strategy: :one_for_one)
Demo.Nodes.follow_gateway()
