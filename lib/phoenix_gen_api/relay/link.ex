defmodule PhoenixGenApi.Relay.Link do
  @moduledoc false
  # Messages to the members on other gateways: one per gateway, fanned out there.
  #
  # All messages of a user pass through the same process here and the same process there. So they
  # arrive in the order in which they were sent, which different senders would not guarantee:
  # large messages are sent in fragments that a small one of somebody else can overtake.
  use GenServer
  use PhoenixGenApi.Relay.Family, count: 16

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Relay.{Observed, Peers, Publish}

  # Messages waiting for the network in one process, beyond which they are dropped.
  @most_waiting 50_000

  @doc "What counts the messages that wait."
  @spec counters() :: :counters.counters_ref()
  def counters, do: :counters.new(count(), [:write_concurrency])

  @doc "Hands a message on; never waits for the network."
  @spec deliver(non_neg_integer(), String.t(), String.t(), term()) :: :ok
  def deliver(0, _group, _user, _response), do: :ok

  def deliver(mask, group, user, response) do
    n = number(user)
    counters = Gateway.handle!(:relay_links)

    if :counters.get(counters, n + 1) < @most_waiting do
      :counters.add(counters, n + 1, 1)
      GenServer.cast(name(n), {:out, Peers.nodes(mask), group, response})
    else
      Observed.dropped(group, :slow_gateway, length(Peers.nodes(mask)))
    end
  end

  @impl true
  def init(n) do
    # What the one before had not sent is gone.
    :counters.put(Gateway.handle!(:relay_links), n + 1, 0)
    {:ok, n}
  end

  @impl true
  def handle_cast({:out, nodes, group, response}, n) do
    for node <- nodes, do: send({name(n), node}, {:in, group, response})
    :counters.sub(Gateway.handle!(:relay_links), n + 1, 1)
    {:noreply, n}
  end

  @impl true
  def handle_info({:in, group, response}, n) do
    Publish.fan_out_here(group, response)
    {:noreply, n}
  end

  def handle_info(_other, n), do: {:noreply, n}
end
