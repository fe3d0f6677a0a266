defmodule Bench.Nodes do
  @moduledoc "Other nodes on this machine, with the code of this one."

  @type t :: {pid(), node()}

  @doc "Makes this node distributed."
  def start_distribution do
    unless Node.alive?(),
      do: {:ok, _} = Node.start(:"bench-#{System.pid()}@127.0.0.1", :longnames)

    node()
  end

  @doc "Starts a node with this environment of the library, and the library there. It ends with this one."
  def start(env) do
    {:ok, peer, node} =
      :peer.start(%{
        name: :"bench-#{System.pid()}-#{System.unique_integer([:positive])}",
        host: ~c"127.0.0.1",
        longnames: true,
        args:
          ~w(-kernel prevent_overlapping_partitions false)c ++
            [~c"-setcookie", Atom.to_charlist(Node.get_cookie())] ++
            Enum.flat_map(:code.get_path(), &[~c"-pa", &1])
      })

    one = {peer, node}

    for {key, value} <- env,
        do: :ok = call(one, Application, :put_env, [:phoenix_gen_api, key, value])

    {:ok, _} = call(one, Application, :ensure_all_started, [:logger])
    :ok = call(one, Logger, :configure, [[level: :error]])
    {:ok, _} = call(one, Application, :ensure_all_started, [:phoenix_gen_api])
    one
  end

  @doc "Runs a function there."
  def call({_peer, node}, module, function, args),
    do: :erpc.call(node, module, function, args, 120_000)
end
