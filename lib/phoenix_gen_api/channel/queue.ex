defmodule PhoenixGenApi.Channel.Queue do
  @moduledoc false
  # Holds the queued requests of one event of a channel. The first request that has to wait starts this
  # process; it exits after a second with an empty queue, or with the channel.
  #
  # The native side keeps their order and decides which one starts; this process holds the requests
  # themselves, and asks again whenever a slot frees up.
  use GenServer, restart: :temporary

  alias PhoenixGenApi.Channel.{Entry, PhoenixAdapter, Requests}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.Native

  @idle_ms 1_000

  # Nothing announces that a client has read enough for the next request.
  @look_ms 20

  @enforce_keys [:requests]
  # items: number => {arrived, ref, item}; last: the highest number; look: {at, timer}
  defstruct @enforce_keys ++ [items: %{}, last: 0, look: nil]

  @doc "Starts the queue of the calling channel; nil if somebody has killed it meanwhile."
  @spec start(Requests.t()) :: pid() | nil
  def start(requests) do
    with {:ok, pid} <- GenServer.start(__MODULE__, requests) do
      Native.channel_requests_set_queue(requests.native, pid)
      pid
    else
      {:error, _killed} -> nil
    end
  end

  @doc "Queues an item. Called by the channel, in the order of the numbers."
  @spec put(pid(), pos_integer(), PhoenixAdapter.ref(), Requests.item()) :: :ok
  def put(queue, number, ref, item), do: GenServer.cast(queue, {:put, number, ref, item})

  @doc "Removes a cancelled item."
  @spec drop(pid(), pos_integer()) :: :ok
  def drop(queue, number), do: GenServer.cast(queue, {:drop, number})

  @impl true
  def init(%{delivery: delivery} = requests) do
    Process.set_label({__MODULE__, delivery.topic})
    Process.monitor(delivery.channel)
    # A busy channel notices late that its client has disconnected.
    Process.monitor(delivery.transport)
    {:ok, %__MODULE__{requests: requests}}
  end

  @impl true
  def handle_cast({:put, number, ref, item}, state) do
    # The config may change while the request waits.
    item = if is_struct(item, Entry), do: %{item | found: nil}, else: item
    items = Map.put(state.items, number, {now(), ref, item})
    go_on(%{state | items: items, last: number})
  end

  def handle_cast({:drop, number}, state),
    do: go_on(%{state | items: Map.delete(state.items, number)})

  @impl true
  def handle_info(:turn, state), do: go_on(state)

  def handle_info({:timeout, timer, :look}, %{look: {_at, timer}} = state),
    do: go_on(%{state | look: nil})

  def handle_info(:timeout, state) do
    if state.items == %{} and Native.channel_requests_retire(state.requests.native, self()),
      do: {:stop, :normal, state},
      else: go_on(state)
  end

  def handle_info({:DOWN, _monitor, :process, _pid, _reason}, state),
    do: {:stop, :shutdown, state}

  def handle_info(_other, state), do: go_on(state)

  defp go_on(state) do
    state = advance(state, false)
    if state.items == %{}, do: {:noreply, state, @idle_ms}, else: {:noreply, state}
  end

  defp advance(%{requests: requests} = state, reads?) do
    case Requests.turn(requests, state.last, reads?) do
      {:start, number, follows?} ->
        {{arrived, ref, entry}, state} = take(state, number)
        Requests.start(requests, number, follows?, ref, entry, now() - arrived)
        advance(state, false)

      {:other, number} ->
        {{_arrived, ref, item}, state} = take(state, number)
        Requests.perform(requests, number, ref, item)
        advance(state, false)

      {:refused, number} ->
        state |> refuse(number, :max_running) |> advance(false)

      # No request starts while the client has too much to read.
      :reading ->
        if ClientConnection.room?(requests.delivery.connection),
          do: advance(state, true),
          else: look_again(state, @look_ms)

      :nobody ->
        look_again(state, nil)
    end
  end

  defp take(state, number) do
    {item, items} = Map.pop!(state.items, number)
    {item, %{state | items: items}}
  end

  defp refuse(state, number, limit) do
    {{_arrived, ref, item}, state} = take(state, number)
    Requests.refuse(state.requests, number, ref, item, limit)
    state
  end

  # Requests that have waited too long are refused.
  defp look_again(state, within) do
    now = now()
    {late, next} = Native.channel_requests_expire(state.requests.native, now, state.last)
    state = Enum.reduce(late, state, &refuse(&2, &1, :max_wait_ms))
    at = if within && next, do: min(next, now + within), else: next

    case state.look do
      _any when at == nil ->
        state

      {sooner, _timer} when sooner <= at ->
        state

      later ->
        with {_at, timer} <- later, do: :erlang.cancel_timer(timer)
        %{state | look: {at, :erlang.start_timer(at, self(), :look, abs: true)}}
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
