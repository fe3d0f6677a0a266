# The second gateway, for the members of the room that are connected to it.
{:ok, _} = Application.ensure_all_started(:phoenix_gen_api)
Demo.Nodes.follow_gateway()
