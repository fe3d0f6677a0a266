defmodule PhoenixGenApi.Channel.Watchdog do
  @moduledoc false
  # Answers requests of channels whose own process cannot: its function has timed out, or it has died.
  # A timer set by the request reports a timeout, the native side reports a death. Only the claimant of a
  # request answers it, so a function that returns at that moment is not answered twice.
  #
  # Each answer is sent from a process of its own, since thousands of functions may time out at once.
  use GenServer

  alias PhoenixGenApi.Channel.Delivery
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.Interrupted
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.RPC

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Lets a function run in the calling process, which runs a request and nothing else."
  @spec inline(Native.handle(), pos_integer()) :: RPC.Local.inline()
  def inline(requests, number) do
    %{
      watchdog: __MODULE__,
      request: {requests, number, self()},
      begins: fn -> Native.channel_requests_called(requests, number) end
    }
  end

  @impl true
  def init(_opts), do: {:ok, nil}

  @impl true
  def handle_info({:timeout, _timer, {:expired, {requests, number, pid}, call}}, state) do
    with {delivery, info} <- Native.channel_requests_claim(requests, number) do
      Process.exit(pid, :kill)
      spawn(fn -> timed_out(delivery, info, call) end)
    end

    {:noreply, state}
  end

  def handle_info({:lost, delivery, info, kind}, state) do
    spawn(fn -> lost(delivery, info, kind) end)
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp timed_out(delivery, {ref, request, started, queued}, call) do
    response = Interrupted.timed_out(request, call, started, queued)
    Delivery.answer(delivery, ref, response)
  end

  # The function has killed it, something linked to it has crashed, a bug has, or another process has
  # killed it.
  defp lost(delivery, {ref, request, started, queued}, what) when what in [nil, :function] do
    response = Interrupted.lost(request, what == :function, started, queued)
    Delivery.answer(delivery, ref, response)
  end

  defp lost(delivery, {_ref, request, _started, _queued}, kind) do
    failure = if kind == :async_call, do: :async_failed, else: :stream_failed
    FailureLog.log(failure, FailureLog.about(request))
    response = ErrorResponse.build(request.request_id, failure)
    Delivery.later(delivery, kind, response)
  end
end
