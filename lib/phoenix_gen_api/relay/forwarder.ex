defmodule PhoenixGenApi.Relay.Forwarder do
  @moduledoc false
  # Messages to the members on other gateways: one per gateway, fanned out there.
  #
  # All messages of a user pass through the same process here and the same process there. So they
  # arrive in the order in which they were sent, which different senders would not guarantee:
  # large messages are sent in fragments that a small one of somebody else can overtake.
  use GenServer
  use PhoenixGenApi.Relay.Partitions, count: 16

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Relay.{Events, Inbox, Outbox, Peers}

  # Messages waiting for one gateway in one process, beyond which they are dropped.
  @max_waiting 50_000

  @doc "What counts the messages that wait, for each process and gateway."
  @spec counters() :: :counters.counters_ref()
  def counters, do: :counters.new(count() * Peers.numbers(), [:write_concurrency])

  @doc "Hands a message on; never waits for the network."
  @spec forward(non_neg_integer(), String.t(), String.t(), term()) :: :ok
  def forward(0, _group, _user, _response), do: :ok

  def forward(mask, group, user, response) do
    n = number(user)
    counters = Gateway.handle!(:relay_forwarders)

    {to, full} =
      mask
      |> Peers.nodes()
      |> Enum.split_with(fn {number, _node} ->
        :counters.get(counters, index(n, number)) < @max_waiting
      end)

    for {number, _node} <- to, do: :counters.add(counters, index(n, number), 1)
    if to != [], do: GenServer.cast(name(n), {:out, to, group, response})
    if full != [], do: Events.dropped(group, :slow_gateway, length(full))
    :ok
  end

  @doc false
  def start_link(n), do: GenServer.start_link(__MODULE__, n, name: name(n))

  defp index(n, number), do: n * Peers.numbers() + number + 1

  @impl true
  def init(n) do
    # What the one before had not sent is gone.
    counters = Gateway.handle!(:relay_forwarders)
    for number <- 0..(Peers.numbers() - 1), do: :counters.put(counters, index(n, number), 0)
    {:ok, %{number: n, counters: counters, outboxes: %{}, inbox: %{}}}
  end

  @impl true
  def handle_cast({:out, to, group, response}, state) do
    state = Enum.reduce(to, state, &open(&2, &1))
    for numbered <- to, do: Outbox.put(state.outboxes[numbered], {:in, group, response})
    {:noreply, state}
  end

  @impl true
  def handle_info({:in, group, response}, state) do
    {:noreply, %{state | inbox: Inbox.take(state.inbox, group, response)}}
  end

  def handle_info({:sent, sender, pid, sent}, state),
    do: {:noreply, %{state | inbox: Inbox.done(state.inbox, sender, pid, sent)}}

  def handle_info({:nodedown, node}, state) do
    {gone, outboxes} = Enum.split_with(state.outboxes, &match?({{_number, ^node}, _}, &1))
    for {_numbered, outbox} <- gone, do: Outbox.close(outbox)
    {:noreply, %{state | outboxes: Map.new(outboxes)}}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp open(state, numbered) when is_map_key(state.outboxes, numbered), do: state

  defp open(%{number: n, counters: counters} = state, {number, node} = numbered) do
    Node.monitor(node, true)
    index = index(n, number)
    outbox = Outbox.open({name(n), node}, fn -> :counters.sub(counters, index, 1) end)
    %{state | outboxes: Map.put(state.outboxes, numbered, outbox)}
  end
end
