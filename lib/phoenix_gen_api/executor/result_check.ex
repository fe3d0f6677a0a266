defmodule PhoenixGenApi.Executor.ResultCheck do
  @moduledoc false
  # What `config :phoenix_gen_api, :check_results` asks for. A function without a `result` pays nothing, and
  # one with it a look at the configuration.

  import PhoenixGenApi.Plan, only: [has: 2]

  alias PhoenixGenApi.ArgumentHandler.Results
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Plan

  @doc "Whether results of the function are checked."
  @spec on?(Plan.t()) :: boolean()
  def on?(plan), do: has(plan, :result) and Config.get(:check_results) != :off

  @doc "The failure that a result is, or `:ok` where it is right or the log has what is wrong."
  @spec check(Context.t(), term()) :: :ok | {:error, ErrorResponse.failure()}
  def check(%{plan: plan} = context, result) when has(plan, :result) do
    case Config.get(:check_results) do
      :off -> :ok
      mode -> check(mode, context, Results.check(plan, result))
    end
  end

  def check(_context, _result), do: :ok

  defp check(_mode, _context, :ok), do: :ok

  defp check(:log, context, {:error, problems}),
    do: FailureLog.wrong_result({:wrong_result, problems}, context)

  defp check(:error, _context, {:error, problems}), do: {:error, {:wrong_result, problems}}
end
