defmodule PhoenixGenApi.Executor.Interrupted do
  @moduledoc false
  # Requests that end without the process that ran them: a client has cancelled it, its function has run
  # for too long, or it has died. Each function here tells telemetry and the log, and returns the
  # response. `started` is in native units, `queued` in ms.

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.{Context, Outcome}
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.{Request, Response}

  @doc "The client has cancelled it."
  @spec cancelled(Request.t(), integer(), non_neg_integer()) :: Response.t()
  def cancelled(request, started, queued), do: ended(request, :cancelled, nil, started, queued)

  @doc "Its function ran in the process of the request (see `RPC.Local`), for longer than its timeout."
  @spec timed_out(Request.t(), RPC.Local.call(), integer(), non_neg_integer()) :: Response.t()
  def timed_out(request, %{plan: plan} = call, started, queued) do
    %{handle: handle, target: {node, counter} = target} = call
    plan(timeout: timeout) = plan
    RPC.timed_out(handle, node, counter)
    context = %{Context.new(request, plan, self(), started) | target: target}
    ended(request, {:timeout, timeout}, context, started, queued)
  end

  @doc "Its process has died; with `called?`, while a local function ran in it."
  @spec lost(Request.t(), called? :: boolean(), integer(), non_neg_integer()) :: Response.t()
  def lost(request, false, started, queued),
    do: ended(request, :request_failed, nil, started, queued)

  def lost(request, true, started, queued) do
    failure = {:raised, :exit, :killed, []}
    %{service: service, request_type: type, version: version} = request

    with {:ok, plan} <- ConfigDb.fetch(service, type, version),
         {:ok, node, counter} when node == node() <- NodeSelector.pick(plan, request) do
      Circuits.count_failure(node, counter, Circuits.classify(failure))
      context = %{Context.new(request, plan, self(), started) | target: {node, counter}}
      ended(request, failure, context, started, queued)
    else
      _another_config_by_now -> ended(request, failure, nil, started, queued)
    end
  end

  defp ended(request, failure, context, started, queued) do
    response = ErrorResponse.build(request.request_id, failure)
    Outcome.emit(request, response, {failure, context}, started, queued)
    response
  end
end
