defmodule PhoenixGenApi.Cluster do
  @moduledoc false
  # Which connected nodes are gateways. Every gateway is a member of one group of a `:pg` scope
  # of the library's own, for as long as its application runs: the member is the application's
  # supervisor, so that no crash below it looks like a gateway that has left. Nodes in client
  # mode take no part, nor do nodes that are connected hidden.
  #
  # A process that has to act when a gateway comes or goes calls `watch/0`. Who watches, and what
  # they were told, is in a table of the application's supervisor: a crash here, or of the scope,
  # is made up for at the restart. `gateways/0` reads that table and not `:pg`'s, which is empty
  # after a crash and while the application stops: a push would seem to have nobody to go to.
  #
  # Rows: {{:watcher, pid}} and {{:gateway, node}, member}
  use GenServer

  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.ProcessNames

  @scope Module.concat(__MODULE__, Scope)
  @group :gateways
  @table __MODULE__

  @typedoc """
  What a watcher is sent.

  `:joined` comes for a gateway that has started, whose connection is back, or of which
  something may have been missed: so it can come twice, and each time the watcher has to
  catch up with that gateway. `:left` comes once it is out of reach, and before the `:joined`
  of one whose application was restarted.
  """
  @type event :: {__MODULE__, :joined | :left, node()}

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc "The connected gateways without this node; none where no gateway runs."
  @spec gateways() :: [node()]
  def gateways do
    if OwnedTable.exists?(@table),
      do: :ets.select(@table, [{{{:gateway, :"$1"}, :_}, [], [:"$1"]}]),
      else: []
  end

  @doc """
  Has every `t:event/0` from now on sent to the calling process, until that ends.

  Returns `gateways/0`. A gateway of that list may be announced once more.
  """
  @spec watch() :: [node()]
  def watch do
    :ets.insert(@table, {{:watcher, self()}})
    GenServer.cast(__MODULE__, {:watch, self()})
    gateways()
  end

  @doc "The scope and the process that watches it. `member` stands for this gateway."
  @spec child_spec(pid()) :: Supervisor.child_spec()
  def child_spec(member),
    do: %{id: __MODULE__, start: {__MODULE__, :start_link, [member]}, type: :supervisor}

  @doc false
  @spec start_link(pid()) :: Supervisor.on_start()
  def start_link(member) do
    ProcessNames.await_free([__MODULE__, @scope])

    children = [
      %{id: :pg, start: {:pg, :start_link, [@scope]}},
      %{id: __MODULE__, start: {GenServer, :start_link, [__MODULE__, member, [name: __MODULE__]]}}
    ]

    Supervisor.start_link(children, strategy: :rest_for_one, max_restarts: 100, max_seconds: 10)
  end

  @impl true
  def init(member) do
    for watcher <- watchers(), do: Process.monitor(watcher)
    {monitor, members} = :pg.monitor(@scope, @group)
    told = :ets.select(@table, [{{{:gateway, :_}, :"$1"}, [], [:"$1"]}])
    Enum.each(told -- members, &leave/1)
    members |> Enum.uniq() |> Enum.each(&announce/1)
    # Last: who is told of this gateway finds it ready.
    if member not in members, do: :ok = :pg.join(@scope, @group, member)
    {:ok, {monitor, members}}
  end

  @impl true
  def handle_cast({:watch, pid}, state) do
    Process.monitor(pid)
    {:noreply, state}
  end

  # `members` has one as often as `:pg` has it: twice when the new scope of a gateway is known
  # before the end of its old one, which is then no end of the gateway.
  @impl true
  def handle_info({monitor, :join, @group, joined}, {monitor, members}) do
    Enum.each(joined, &announce/1)
    {:noreply, {monitor, joined ++ members}}
  end

  def handle_info({monitor, :leave, @group, left}, {monitor, members}) do
    members = members -- left
    for member <- left, member not in members, do: leave(member)
    {:noreply, {monitor, members}}
  end

  def handle_info({:DOWN, _monitor, :process, watcher, _reason}, state) do
    :ets.delete(@table, {:watcher, watcher})
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp announce(member) when node(member) == node(), do: :ok

  defp announce(member) do
    node = node(member)

    # A new life of the application may be seen before the end of the old one.
    case :ets.lookup(@table, {:gateway, node}) do
      [{_key, other}] when other != member -> leave(other)
      _none_or_the_same -> :ok
    end

    :ets.insert(@table, {{:gateway, node}, member})
    tell(:joined, node)
  end

  defp leave(member) do
    key = {:gateway, node(member)}

    if :ets.match_object(@table, {key, member}) != [] do
      :ets.delete(@table, key)
      tell(:left, node(member))
    end
  end

  defp tell(what, node), do: for(pid <- watchers(), do: send(pid, {__MODULE__, what, node}))

  defp watchers, do: :ets.select(@table, [{{{:watcher, :"$1"}}, [], [:"$1"]}])
end
