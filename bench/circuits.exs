Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.Circuits do
  @moduledoc "What the circuit breaker of a function's node adds to a call, and the retry budget to a request."

  import Bench.Harness
  require PhoenixGenApi.Plan, as: Plan

  alias Bench.Gateway
  alias PhoenixGenApi.Native

  def run do
    well = handle("well")
    trouble = handle("trouble")
    # One failure, and from then on each call asks the circuit and tells it.
    settle(trouble, :failure)
    true = Enum.any?(PhoenixGenApi.NodeSelector.circuits(), &(&1.request_type == "trouble"))
    request = Gateway.request()

    # All of them begin and end a call on the node that was chosen, so that the difference is the
    # circuit: the check is in the choice and the beginning, the update in the end.
    untold = fn _ ->
      {_node, index} = Native.node_selector_pick(well, request)
      well |> Native.executor_begin(index, nil) |> Native.executor_end()
    end

    results =
      compare(
        [
          {"no circuit told", untold},
          {"all is well", &told(well, request, &1)},
          {"a failure before", &told(trouble, request, &1)},
          {"every tenth call fails", &failing(trouble, request, &1)}
        ],
        Enum.to_list(1..100)
      )

    times("choose one of ten nodes, begin a call, end it", results)
    base = result(results, "no circuit told").median
    added = fn label -> {:ns, max(result(results, label).median - base, 0.0)} end

    budget =
      compare(
        [
          {"count a request", fn _ -> Native.executor_count(well) end},
          {"grant a retry", fn _ -> Native.executor_retry(well, 1.0, 4_000_000_000) end},
          {"refuse a retry", fn _ -> Native.executor_retry(trouble, 0.0, 0) end}
        ],
        Enum.to_list(1..100)
      )

    times("the retry budget", budget)

    figures([
      {"check and update, all is well", added.("all is well"), {:at_most, 100}},
      {"check and update, a failure before", added.("a failure before"), {:at_most, 100}},
      {"check and update, every tenth call fails", added.("every tenth call fails"),
       {:at_most, 100}},
      {"a request with `retry`", {:ns, result(budget, "count a request").median}, nil},
      {"a retry that is refused", {:ns, result(budget, "refuse a retry").median}, nil}
    ])
  end

  defp told(handle, request, _n) do
    {_node, index} = Native.node_selector_pick(handle, request)
    call = Native.executor_begin(handle, index, nil)
    :ok = Native.executor_settle(call, handle, :success)
  end

  defp failing(handle, request, n) do
    {_node, index} = Native.node_selector_pick(handle, request)
    call = Native.executor_begin(handle, index, nil)
    ended = if rem(n, 10) == 0, do: :failure, else: :success
    :ok = Native.executor_settle(call, handle, ended)
  end

  defp settle(handle, ended) do
    for index <- 0..9 do
      call = Native.executor_begin(handle, index, nil)
      :ok = Native.executor_settle(call, handle, ended)
    end
  end

  defp handle(type) do
    Plan.plan(handle: handle) = Gateway.plan(Gateway.config(request_type: type))
    handle
  end
end

Bench.Circuits.run()
