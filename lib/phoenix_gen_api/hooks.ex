defmodule PhoenixGenApi.Hooks do
  @moduledoc """
  Runs the `before_execute` and `after_execute` hooks of a function config.

      %FunConfig{before_execute: {Shop.Hooks, :open?}, after_execute: {Shop.Hooks, :audit, ["orders"]}, ...}

      def open?(request, config) do
        if Shop.open?(), do: {:ok, request, config}, else: {:error, "the shop is closed"}
      end

      # What it returns is ignored, unless it is a response.
      def audit(request, _config, response, topic),
        do: Shop.Audit.write(topic, request.user_id, response.success)

  A hook is `{module, function}` or `{module, function, extra_args}` and runs on the gateway, in
  a process of its own, for at most the config's `hook_timeout`.
  """

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Explanation
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Telemetry

  @doc """
  Calls `function(request, config, extra...)` before a function runs.

  `{:ok, %Request{}, %FunConfig{}}` goes on with those, `{:error, reason}` rejects the request,
  anything else rejects it with `:invalid_hook_return`. Without a hook nothing changes.
  """
  @spec run_before(FunConfig.hook() | nil, Request.t(), FunConfig.t()) ::
          {:ok, Request.t(), FunConfig.t()} | {:error, term()}
  def run_before(nil, request, config), do: {:ok, request, config}

  def run_before(hook, request, config) do
    with {:failed, reason, _outcome} <- before(hook, request, config), do: {:error, reason}
  end

  @doc false
  # The same within the deadline of the request, with what became of a hook that failed.
  @spec before(FunConfig.hook(), Request.t(), FunConfig.t()) ::
          {:ok, Request.t(), FunConfig.t()}
          | {:error, term()}
          | {:failed, String.t(), outcome :: term()}
  def before(hook, request, config) do
    case run(:before, hook, [request, config], Deadline.within(request, timeout(config))) do
      {:ok, {:ok, %Request{} = request, %FunConfig{} = config}} ->
        {:ok, Request.complete(request), config}

      {:ok, {:error, reason}} ->
        {:error, reason}

      {:ok, _other} ->
        {:error, :invalid_hook_return}

      failed ->
        failed
    end
  end

  @doc """
  Calls `function(request, config, result, extra...)` after a function ran and returns what it
  returns, or `result` if the hook failed or there is none.
  """
  @spec run_after(FunConfig.hook() | nil, Request.t(), FunConfig.t(), term()) :: term()
  def run_after(nil, _request, _config, result), do: result

  def run_after(hook, request, config, result),
    do: run_after(hook, request, config, result, timeout(config))

  defp run_after(hook, request, config, result, timeout) do
    case run(:after, hook, [request, config, result], timeout) do
      {:ok, value} ->
        value

      {:failed, _reason, outcome} ->
        failure = {:hook_failed, hook, outcome}
        FailureLog.hook_failed(failure, Request.complete(request), FunConfig.complete(config))
        result
    end
  end

  # Another version of the library may have made it.
  defp timeout(%{hook_timeout: ms}), do: ms
  defp timeout(config), do: FunConfig.complete(config).hook_timeout

  @doc false
  # What an after hook makes of a response, within the deadline of the request: only another response
  # replaces it.
  @spec finish(FunConfig.t(), Request.t(), Response.t()) :: Response.t()
  def finish(config, request, response) do
    timeout = Deadline.within(request, timeout(config))

    case run_after(config.after_execute, request, config, response, timeout) do
      %Response{} = replaced -> ErrorResponse.from_hook(response.request_id, replaced, "error")
      _other -> response
    end
  end

  @doc false
  # Has the after hook see a response that it cannot change any more, in a process of its own: the
  # answer does not wait for it.
  @spec notify(FunConfig.t(), Request.t(), Response.t(), [pid()]) :: :ok
  def notify(config, request, response, callers) do
    spawn(fn ->
      Process.put(:"$callers", callers)
      run_after(config.after_execute, request, config, response)
    end)

    :ok
  end

  @doc false
  # Runs neither hook. Only a before hook can refuse a request.
  @spec explain(:before | :after, FunConfig.t()) :: Explanation.t()
  def explain(:before, %{before_execute: nil}), do: Explanation.none("none")
  def explain(:after, %{after_execute: nil}), do: Explanation.none("none")

  def explain(:before, %{before_execute: hook} = config) do
    hook
    |> describe(config, "may replace request and config, or reject")
    |> Explanation.unknown(hook)
  end

  def explain(:after, %{after_execute: hook} = config) do
    hook
    |> describe(config, "sees the response")
    |> Explanation.passes("#{Format.function(hook)} is not run here")
  end

  defp describe(hook, config, does),
    do: "#{Format.function(hook)}, at most #{Format.duration(config.hook_timeout)}; #{does}"

  defp run(type, hook, args, timeout) do
    {module, function, extra} = parts(hook)
    metadata = %{module: module, function: function, type: type}
    started = System.monotonic_time()
    emit(type, :start, Telemetry.start_measurements(started), metadata)

    outcome = RPC.Local.call(module, function, args ++ extra, timeout)
    measurements = Telemetry.stop_measurements(started)

    case outcome do
      {:return, value} ->
        emit(type, :stop, measurements, metadata)
        {:ok, value}

      :timeout ->
        reason = "hook timed out after #{timeout}ms"
        failed(type, measurements, metadata, :timeout, reason, [])
        {:failed, reason, {:timeout, timeout}}

      {:raised, kind, reason, stack} ->
        text = SafeInspect.reason(kind, reason, stack)
        failed(type, measurements, metadata, :error, text, stack)
        {:failed, text, outcome}
    end
  end

  defp failed(type, measurements, metadata, kind, reason, stack) do
    failure = %{kind: kind, reason: reason, stacktrace: stack}
    emit(type, :exception, measurements, Map.merge(metadata, failure))
  end

  defp emit(type, phase, measurements, metadata),
    do: Telemetry.execute([:phoenix_gen_api, :hook, type, phase], measurements, metadata)

  defp parts({module, function}), do: {module, function, []}
  defp parts({module, function, extra}), do: {module, function, extra}
end
