defmodule PhoenixGenApi.Test.Cluster do
  @moduledoc false
  # Real nodes for tests: this one becomes distributed, others are started and end with the
  # process that started them.

  alias PhoenixGenApi.Await

  @host "127.0.0.1"

  # Where calls begin on the nodes that they are for.
  @entries [
    {PhoenixGenApi.RPC.Server, :run},
    {PhoenixGenApi.RPC.Producer, :run},
    {:erpc, :execute_call}
  ]

  @doc "Makes this node distributed, once. The name is free also when several test runs share a machine."
  @spec start_distribution() :: node()
  def start_distribution do
    unless Node.alive?() do
      start_epmd()
      {:ok, _pid} = Node.start(node_name("test"), :longnames)
    end

    node()
  end

  # `epmd -daemon` returns before the daemon listens.
  defp start_epmd do
    unless epmd?() do
      {_output, 0} = System.cmd(epmd_path(), ["-daemon"])
      Await.until(&epmd?/0)
    end
  end

  defp epmd?, do: match?({:ok, _names}, :erl_epmd.names(String.to_charlist(@host)))

  defp epmd_path do
    System.find_executable("epmd") ||
      Path.wildcard("#{:code.root_dir()}/erts-*/bin/epmd") |> List.first()
  end

  @doc "A node name that is used only once, for a node that may be started later."
  @spec node_name(String.t()) :: node()
  def node_name(prefix),
    do: :"#{prefix}-#{System.pid()}-#{System.unique_integer([:positive])}@#{@host}"

  @doc """
  Starts a node and connects to it.

  Options:

    * `:name` - its node name, see `node_name/1`
    * `:app` - the environment of `:phoenix_gen_api`, which is then started there, for example
      `[client_mode: true]`; nil (the default) starts nothing
    * `:code` - whether the node has the code of the library and of `test/support` (true)
    * `:connect` - false leaves it unconnected to this node (true)
  """
  @spec start_peer(keyword()) :: {pid(), node()}
  def start_peer(opts \\ []) do
    opts = Keyword.validate!(opts, [:name, :app, code: true, connect: true])
    start_distribution()
    name = opts[:name] || node_name("peer")

    {:ok, peer, ^name} =
      :peer.start_link(%{
        name: name |> Atom.to_string() |> String.split("@") |> hd() |> String.to_charlist(),
        host: String.to_charlist(@host),
        longnames: true,
        connection: :standard_io,
        wait_boot: 60_000,
        args: arguments(opts[:code])
      })

    if opts[:app], do: start_app(peer, opts[:app])
    if opts[:connect], do: true = Node.connect(name)
    {peer, name}
  end

  @doc "Ends a node that `start_peer/1` has started; returns when distribution has noticed."
  @spec stop_peer({pid(), node()}) :: :ok
  def stop_peer({peer, node}) do
    :ok = :peer.stop(peer)
    Await.until(fn -> node not in Node.list(:connected) end)
    :ok
  end

  @doc """
  Suspends a node: its connections stay and it says nothing. Returns what wakes it up, which
  the end of the test does at the latest, as a suspended node cannot be stopped.
  """
  @spec suspend({pid(), node()}) :: (-> :ok)
  def suspend(peer) do
    pid = peer |> call(:os, :getpid, []) |> to_string()
    signal(pid, "STOP")
    # It is told at once and done by each thread in its own time.
    Await.until(fn -> pid |> states() |> Enum.all?(&(&1 == "T")) end)
    ExUnit.Callbacks.on_exit(fn -> System.cmd("kill", ["-CONT", pid], stderr_to_stdout: true) end)
    fn -> signal(pid, "CONT") end
  end

  @doc """
  Fills the connection to a suspended node, as somebody does who sends and sends: from now on the
  VM makes everybody wait who sends there and has not asked it not to. Until the end of the test.
  """
  @spec fill_connection(node()) :: :ok
  def fill_connection(node) do
    sender = spawn(fn -> send_on({:nobody, node}, String.duplicate("x", 1_000_000)) end)
    ExUnit.Callbacks.on_exit(fn -> Process.exit(sender, :kill) end)
    Await.until(fn -> Process.info(sender, :status) == {:status, :suspended} end)
    :ok
  end

  defp send_on(to, message) do
    send(to, message)
    send_on(to, message)
  end

  defp signal(pid, signal) do
    {_, 0} = System.cmd("kill", ["-#{signal}", pid])
    :ok
  end

  # Of each thread; where there is no /proc that has to be taken on trust.
  defp states(pid) do
    for stat <- Path.wildcard("/proc/#{pid}/task/*/stat"), {:ok, line} <- [File.read(stat)] do
      [_name, state] = Regex.run(~r/.*\) (\w)/, line)
      state
    end
  end

  @doc """
  The name of a node that accepts connections and never says a word, until the calling process
  ends. Connecting to it takes seven seconds, and fails.
  """
  @spec silent_node() :: node()
  def silent_node do
    start_distribution()
    node = node_name("silent")
    [name, _host] = node |> Atom.to_string() |> String.split("@")
    {:ok, listener} = :gen_tcp.listen(0, active: false)
    {:ok, port} = :inet.port(listener)

    # What a starting node tells epmd, which forgets it when this connection is closed.
    {:ok, epmd} = :gen_tcp.connect(String.to_charlist(@host), 4369, [:binary, active: false])
    entry = <<port::16, 77, 0, 6::16, 5::16, byte_size(name)::16, name::binary, 0::16>>
    :ok = :gen_tcp.send(epmd, <<byte_size(entry) + 1::16, 120, entry::binary>>)
    {:ok, <<118, 0, _creation::32>>} = :gen_tcp.recv(epmd, 6, 5_000)
    node
  end

  @doc "Runs a function on a node that need not be connected."
  @spec call({pid(), node()}, module(), atom(), [term()]) :: term()
  def call({peer, _node}, module, function, args),
    do: :peer.call(peer, module, function, args, 30_000)

  @doc "The processes on a node in which functions run for other nodes, whichever way they were begun."
  @spec calls_on(node()) :: [pid()]
  def calls_on(node) do
    for pid <- :erpc.call(node, :erlang, :processes, []),
        {_, {module, function, _arity}} <-
          [:erpc.call(node, :erlang, :process_info, [pid, :initial_call])],
        {module, function} in @entries,
        do: pid
  end

  defp arguments(code?) do
    paths = if code?, do: Enum.flat_map(:code.get_path(), &[~c"-pa", &1]), else: []

    # A node that is stopped on purpose must not make `global` cut others off.
    [~c"-setcookie", Atom.to_charlist(Node.get_cookie())] ++
      [~c"-kernel", ~c"prevent_overlapping_partitions", ~c"false"] ++ paths
  end

  defp start_app(peer, env) do
    call = &:peer.call(peer, &1, &2, &3, 60_000)
    call.(:application, :load, [:logger])
    call.(:application, :set_env, [:logger, :level, :critical])
    for {key, value} <- env, do: call.(:application, :set_env, [:phoenix_gen_api, key, value])
    {:ok, _started} = call.(:application, :ensure_all_started, [:phoenix_gen_api])
  end
end
