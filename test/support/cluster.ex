defmodule PhoenixGenApi.Test.Cluster do
  @moduledoc false
  # Real nodes for tests: this one becomes distributed when a test needs it to be, others are
  # VMs of `Pool` that are nodes for one test.

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.Test.Cluster.Pool

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
      Node.set_cookie(cookie())
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

  @doc "The cookie of all nodes of this test run."
  @spec cookie() :: atom()
  def cookie, do: :"of-#{System.pid()}"

  @doc "A node name that is used only once, for a node that may be started later."
  @spec node_name(String.t()) :: node()
  def node_name(prefix),
    do: :"#{prefix}-#{System.pid()}-#{System.unique_integer([:positive])}@#{@host}"

  @doc """
  Starts a node and connects to it. It ends with the test, or with the tests of the module if it
  is started in `setup_all`.

  Options:

    * `:name` - its node name, see `node_name/1`
    * `:app` - the environment of `:phoenix_gen_api`, which is then started there, for example
      `[client_mode: true]`; nil (the default) starts nothing
    * `:code` - whether the node has the code of the library and of `test/support` (true)
    * `:connect` - false leaves it unconnected to this node (true)
  """
  @spec start_peer(keyword()) :: {pid(), node()}
  def start_peer(opts \\ []), do: hd(start_peers([opts]))

  @doc "Starts nodes with such options, see `start_peer/1`: the first one is the oldest."
  @spec start_peers([keyword()]) :: [{pid(), node()}]
  def start_peers(all) do
    start_epmd()
    all = for opts <- all, do: Keyword.validate!(opts, [:name, :app, code: true, connect: true])

    vms =
      all
      |> Task.async_stream(&named/1, timeout: :infinity, max_concurrency: 2)
      |> Enum.map(fn {:ok, named} -> named end)

    for vm <- vms, do: at_the_end(fn -> give_back(vm) end)

    for {opts, {peer, name} = vm} <- Enum.zip(all, vms) do
      if opts[:app], do: start_app(peer, opts[:app])

      if opts[:connect] do
        start_distribution()
        true = Node.connect(name)
      end

      vm
    end
  end

  defp named(opts) do
    name = opts[:name] || node_name("peer")
    peer = Pool.take(opts[:code])
    arguments = [name, %{name_domain: :longnames}]
    # A name that was used before is free when epmd has noticed.
    Await.until(fn -> match?({:ok, _}, :peer.call(peer, :net_kernel, :start, arguments)) end)
    {peer, name}
  end

  # What does not run in a test keeps its nodes until it ends.
  defp at_the_end(fun) do
    ExUnit.Callbacks.on_exit(fun)
  rescue
    ArgumentError -> :ok
  end

  defp give_back({peer, node}) do
    try do
      :peer.call(peer, :net_kernel, :stop, [], 120_000)
    catch
      :exit, _gone -> :ok
    end

    Pool.give_back(peer)
    await_gone(node)
  end

  @doc "Ends a node that `start_peer/1` has started; returns when distribution has noticed."
  @spec stop_peer({pid(), node()}) :: :ok
  def stop_peer({peer, node}) do
    :ok = :peer.stop(peer)
    await_gone(node)
  end

  defp await_gone(node) do
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
    do: :peer.call(peer, module, function, args, 120_000)

  @doc "The processes on a node in which functions run for other nodes, whichever way they were begun."
  @spec calls_on(node()) :: [pid()]
  def calls_on(node) do
    for pid <- :erpc.call(node, :erlang, :processes, []),
        {_, {module, function, _arity}} <-
          [:erpc.call(node, :erlang, :process_info, [pid, :initial_call])],
        {module, function} in @entries,
        do: pid
  end

  defp start_app(peer, env) do
    call = &:peer.call(peer, &1, &2, &3, 120_000)
    for {key, value} <- env, do: call.(:application, :set_env, [:phoenix_gen_api, key, value])
    {:ok, _started} = call.(:application, :ensure_all_started, [:phoenix_gen_api])
  end
end
