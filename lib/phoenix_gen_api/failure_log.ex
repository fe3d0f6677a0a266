defmodule PhoenixGenApi.FailureLog do
  @moduledoc false
  # One line for each failed request, with metadata: what was called where, by whom, and what became
  # of it. `FailureLog.Reason` words it, `FailureLog.Limit` keeps clients from filling the log.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.FailureLog.{Limit, Reason}
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @typedoc """
  What is known of a request that has failed: `request_id` is the one sent, whatever a hook has made
  of the request; there is no plan ahead of the lookup, and no target ahead of node selection.
  """
  @type about :: %{
          :request => Request.t(),
          :request_id => term(),
          :plan => Plan.t() | nil,
          :target => {node(), term()} | nil,
          optional(atom()) => term()
        }

  # What every other client of the same service need not suffer for.
  @denials ["forbidden", "unauthenticated"]

  @doc "What is known of a request of which nothing else is."
  @spec about(Request.t()) :: about()
  def about(request),
    do: %{request: request, request_id: request.request_id, plan: nil, target: nil}

  @doc "Logs a failed request; `started` is when it began, in native units, if that is known."
  @spec log(ErrorResponse.failure(), about(), integer() | nil) :: :ok
  def log(failure, about, started \\ nil) do
    with {level, text, stack} <- Reason.of(failure),
         config = about.plan && Plan.config(about.plan),
         true <- level?(level, config),
         code = ErrorResponse.code(failure),
         true <- Limit.admit?(code, subject(about.request), code in @denials, level) do
      Log.at(
        level,
        fn -> line(about, config, text, stack, started) end,
        metadata(about, config, code)
      )
    else
      _silent -> :ok
    end
  rescue
    # No line is worth a request.
    error -> ErrorResponse.log_bug(:error, error, __STACKTRACE__)
  end

  @doc "Logs an after hook that has failed, of a request that need not have."
  @spec hook_failed(ErrorResponse.failure(), Request.t(), FunConfig.t()) :: :ok
  def hook_failed(failure, request, config) do
    {level, text, stack} = Reason.of(failure)
    note("after_hook", level, about(request), config, with_stack([": ", text], stack))
  end

  @doc "Logs a result that is not of its declared type, of a request that has not failed."
  @spec wrong_result(ErrorResponse.failure(), about()) :: :ok
  def wrong_result(failure, about) do
    {level, text, []} = Reason.of(failure)
    config = Plan.config(about.plan)
    note("check_results", level, about, config, [": ", function(about, config), text])
  end

  # Counts for itself: the codes are those of failures.
  defp note(kind, level, %{request: request} = about, config, line) do
    if level?(level, config) and Limit.admit?(kind, subject(request), false, level) do
      Log.at(
        level,
        fn -> prefixed(["request ", name(request.request_id)], line) end,
        metadata(about, config, nil)
      )
    end

    :ok
  end

  defp prefixed(prefix, {line, stack}), do: {[prefix, line], stack}
  defp prefixed(prefix, line), do: [prefix, line]

  # Of the level that the function asks for, or of that of all, and of a level that the log takes.
  defp level?(level, config) do
    threshold = (config && config.log) || Config.get(:log, :level)
    threshold = if config && config.log == false, do: false, else: threshold

    threshold != false and Logger.compare_levels(level, threshold) != :lt and
      :logger.allow(level, Log)
  end

  defp subject(%{user_id: user}) when is_binary(user), do: user
  defp subject(%{ip_address: address}) when is_binary(address), do: address
  defp subject(_nobody), do: nil

  defp line(about, config, text, stack, started) do
    line = [
      "request ",
      name(about.request_id),
      " of ",
      user(about.request),
      " failed: ",
      function(about, config),
      text,
      duration(started)
    ]

    with_stack(line, stack)
  end

  defp with_stack(line, []), do: line
  defp with_stack(line, stack), do: {line, stack}

  defp user(%{user_id: nil, ip_address: nil}), do: "nobody"
  defp user(%{user_id: nil, ip_address: address}), do: name(address)
  defp user(%{user_id: user}), do: name(user)

  # What is no request.
  defp function(%{request: %{service: nil}}, nil), do: []

  defp function(%{request: request}, nil),
    do: [name(request.service), ?\s, name(request.request_type), version(request.version), ": "]

  defp function(%{target: target}, config) do
    [
      [name(config.service), ?\s, name(config.request_type), version(config.version), ": "],
      Format.function(config.mfa, FunConfig.arity(config)),
      if(target, do: [" on ", Atom.to_string(elem(target, 0))], else: []),
      ": "
    ]
  end

  defp version(version) when version in [nil, "0.0.0"], do: []
  defp version(version), do: [?\s, name(version)]

  defp duration(nil), do: []

  defp duration(started) do
    us = System.convert_time_unit(System.monotonic_time() - started, :native, :microsecond)
    [" (after ", if(us < 1_000, do: "#{us} us", else: Format.duration(div(us, 1_000))), ?)]
  end

  defp name(nil), do: "nil"
  defp name(name), do: SafeInspect.name(name)

  defp metadata(%{request: request, target: target} = about, config, code) do
    [
      request_id: Log.value(about.request_id),
      user_id: Log.value(request.user_id),
      service: Log.value(request.service),
      request_type: Log.value(request.request_type),
      version: Log.value((config && config.version) || request.version),
      node: target && elem(target, 0),
      code: code
    ] ++ group_leader()
  end

  # A process that another node has spawned has its group leader there, and its lines would go there.
  defp group_leader do
    if node(Process.group_leader()) == node(), do: [], else: [gl: Process.whereis(:init)]
  end

  @doc "The reason of a failure as telemetry has it."
  @spec reason(ErrorResponse.failure()) :: String.t()
  def reason(failure) do
    case Reason.of(failure) do
      {_level, text, _stack} -> text
      nil -> ErrorResponse.code(failure)
    end
  end
end
