defmodule PhoenixGenApi.Test.Cluster.Pool do
  @moduledoc false
  # VMs for nodes of tests. Booting one costs more than most tests do with it, so a VM that a test
  # is done with is kept for the next one: the pool hands out VMs that have no node name and know
  # nobody, with the library's dependencies running and the library itself stopped. Whoever takes
  # one names it, which makes it a node that nobody has heard of before.
  #
  # VMs are reached over a connection of their own, so neither they nor this node need distribution
  # for it, and they end with this VM. (Over their standard input every byte becomes two characters:
  # a megabyte takes a second.) The pool starts them itself: nothing of them is a child of the test
  # that happened to need the first one.
  use GenServer

  alias PhoenixGenApi.Await

  @native PhoenixGenApi.Native
  @app :phoenix_gen_api

  # Those beyond are not worth their memory.
  @most_idle 6

  # Booted while a test does something else.
  @ahead 1

  @doc "A VM with or without the code of the library, by the process that controls it."
  @spec take(boolean()) :: pid()
  def take(code?) do
    case GenServer.call(server(), {:take, code?}, :infinity) do
      {:ok, peer} -> peer
      {:error, reason} -> raise "no VM could be started: #{reason}"
    end
  end

  @doc "Gives one back, which by now has no node name. It ends unless it can be made as new."
  @spec give_back(pid()) :: :ok
  def give_back(peer), do: GenServer.cast(server(), {:give_back, peer})

  @doc "The arguments of a VM: few processes of its own, and no busy waiting."
  @spec arguments(boolean(), atom()) :: [charlist()]
  def arguments(code?, cookie) do
    # A node that is stopped on purpose must not make `global` cut others off.
    ~w(+S 2:2 +SDio 2 +sbwt none +sbwtdcpu none +sbwtdio none)c ++
      ~w(-kernel prevent_overlapping_partitions false)c ++
      [~c"-setcookie", Atom.to_charlist(cookie)] ++
      if(code?, do: Enum.flat_map(paths(), &[~c"-pa", &1]), else: [])
  end

  # Of the library and all that it runs with. What is Erlang's own is found anyway.
  defp paths do
    for app <- applications(),
        path = :code.lib_dir(app),
        not List.starts_with?(path, :code.lib_dir()),
        do: path ++ ~c"/ebin"
  end

  defp applications, do: [@app] |> applications([]) |> Enum.uniq()

  defp applications(apps, found) do
    Enum.reduce(apps, found, fn app, found ->
      if app in found or Application.spec(app) == nil,
        do: found,
        else: applications(Application.spec(app, :applications), [app | found])
    end)
  end

  defp server do
    case GenServer.start(__MODULE__, [], name: __MODULE__) do
      {:ok, pid} -> pid
      {:error, {:already_started, pid}} -> pid
    end
  end

  @impl true
  def init([]) do
    Process.group_leader(self(), Process.whereis(:user))
    kind = %{idle: [], booting: 0, waiting: []}
    {:ok, %{true: kind, false: kind}}
  end

  @impl true
  def handle_call({:take, code?}, from, state),
    do: {:noreply, serve(update_in(state[code?].waiting, &(&1 ++ [from])), code?)}

  @impl true
  def handle_cast({:give_back, peer}, state) do
    pool = self()
    spawn(fn -> if renewed?(peer), do: send(pool, {:renewed, peer}), else: stop(peer) end)
    {:noreply, state}
  end

  @impl true
  def handle_info({:booted, code?, {:ok, peer}}, state) do
    state = update_in(state[code?].booting, &(&1 - 1))
    {:noreply, serve(update_in(state[code?].idle, &(&1 ++ [peer])), code?)}
  end

  def handle_info({:booted, code?, {:error, _reason} = error}, state) do
    state = update_in(state[code?].booting, &(&1 - 1))
    {failed, waiting} = Enum.split(state[code?].waiting, 1)
    for from <- failed, do: GenServer.reply(from, error)
    {:noreply, put_in(state[code?].waiting, waiting)}
  end

  def handle_info({:renewed, peer}, state) do
    if length(state[true].idle) < @most_idle do
      {:noreply, serve(update_in(state[true].idle, &(&1 ++ [peer])), true)}
    else
      spawn(fn -> stop(peer) end)
      {:noreply, state}
    end
  end

  # Hands out what there is, and boots what is missing: for those who wait, or else ahead of the
  # next one who comes.
  defp serve(state, code?) do
    %{idle: idle, waiting: waiting, booting: booting} = kind = state[code?]
    {served, waiting} = Enum.split(waiting, length(idle))
    {taken, idle} = Enum.split(idle, length(served))
    for {from, peer} <- Enum.zip(served, taken), do: GenServer.reply(from, {:ok, peer})
    wanted = if waiting == [], do: @ahead - length(idle), else: length(waiting)
    more = max(wanted - booting, 0)
    for _ <- 1..more//1, do: boot_aside(code?)
    %{state | code? => %{kind | idle: idle, waiting: waiting, booting: booting + more}}
  end

  defp boot_aside(code?) do
    pool = self()

    spawn(fn ->
      booted =
        try do
          {:ok, boot(code?)}
        catch
          kind, reason -> {:error, Exception.format(kind, reason, __STACKTRACE__)}
        end

      send(pool, {:booted, code?, booted})
    end)
  end

  defp stop(peer) do
    :peer.stop(peer)
  catch
    :exit, _gone -> :ok
  end

  defp boot(code?) do
    {:ok, peer, _no_name} =
      :peer.start(%{
        connection: {{127, 0, 0, 1}, 0},
        wait_boot: 120_000,
        args: arguments(code?, PhoenixGenApi.Test.Cluster.cookie())
      })

    :ok = call(peer, :logger, :set_primary_config, [:level, :critical])

    if code? do
      :ok = call(peer, :application, :load, [:logger])
      :ok = call(peer, :application, :set_env, [:logger, :level, :critical])

      # Not when the library is started: some start where others already hang.
      for app <- Application.spec(@app, :applications), Application.spec(app) do
        {:ok, _started} = call(peer, :application, :ensure_all_started, [app])
      end

      # What says whether it could be loaded is said once.
      {:module, @native} = call(peer, :code, :ensure_loaded, [@native])
      :ok = call(peer, :timer, :start, [])
      :ok = call(peer, __MODULE__, :remember, [])
    end

    peer
  end

  defp call(peer, module, function, args), do: :peer.call(peer, module, function, args, 120_000)

  # A VM without code is used once.
  defp renewed?(peer) do
    call(peer, __MODULE__, :renew, [])
  catch
    _kind, _it_is_gone_or_hangs -> false
  end

  @doc false
  # There: keeps what belongs to a VM that has just been booted. It must stay there, as the pids of a
  # VM without a name look like those of any other one.
  def remember do
    :persistent_term.put(__MODULE__, nil)
    own = %{processes: Process.list() -- [self()], terms: terms(), services: services()}
    :persistent_term.put(__MODULE__, own)
  end

  defp terms, do: for({key, _value} <- :persistent_term.get(), do: key)
  defp services, do: for({id, _, _, _} <- :supervisor.which_children(:kernel_safe_sup), do: id)

  @doc false
  # There: takes back what a test has done to a VM; whether nothing is left of that.
  def renew, do: not Node.alive?() and renew(:persistent_term.get(__MODULE__))

  defp renew(own) do
    for id <- services() -- own.services do
      :supervisor.terminate_child(:kernel_safe_sup, id)
      :supervisor.delete_child(:kernel_safe_sup, id)
    end

    Application.stop(@app)
    for {key, _value} <- Application.get_all_env(@app), do: Application.delete_env(@app, key)
    Application.unload(@app)

    Await.until(fn ->
      left = Process.list() -- [self() | own.processes]
      for pid <- left, do: Process.exit(pid, :kill)
      left == []
    end)

    for key <- terms() -- own.terms, do: :persistent_term.erase(key)
    own.processes -- Process.list() == []
  end
end
