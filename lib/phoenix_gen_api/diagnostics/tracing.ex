defmodule PhoenixGenApi.Diagnostics.Tracing do
  @moduledoc false
  # Tracing behind the admin gate: what is asked for is checked here, and done by the process
  # that owns the session.

  alias PhoenixGenApi.Diagnostics.Tracing.Session
  alias PhoenixGenApi.Security

  @flags [
    :call,
    :arity,
    :return_to,
    :procs,
    :ports,
    :send,
    :receive,
    :running,
    :exiting,
    :garbage_collection,
    :timestamp,
    :monotonic_timestamp,
    :strict_monotonic_timestamp,
    :set_on_spawn,
    :set_on_first_spawn,
    :set_on_link,
    :set_on_first_link
  ]

  @options [:tracer, :max_messages, :max_ms]

  @type reason :: PhoenixGenApi.Diagnostics.trace_refusal()

  @spec trace_processes(term(), keyword()) :: {:ok, map()} | {:error, reason()}
  def trace_processes(targets, opts) do
    opts = Keyword.validate!(opts, [flags: [:call, :arity, :timestamp]] ++ @options)

    with :ok <- gate(:enable_tracing),
         {:ok, flags} <- flags(opts[:flags]),
         {:ok, targets} <- targets(targets),
         {:ok, limits} <- limits(opts) do
      Session.trace_processes(targets, flags, limits)
    end
  end

  @spec trace_functions(term(), keyword()) :: {:ok, map()} | {:error, reason()}
  def trace_functions(mfas, opts) do
    opts = Keyword.validate!(opts, [match_spec: true, scope: :local] ++ @options)

    with :ok <- gate(:enable_tracing),
         {:ok, mfas} <- mfas(mfas),
         {:ok, limits} <- limits(opts) do
      Session.trace_functions(mfas, opts[:match_spec], [opts[:scope]], limits)
    end
  end

  @spec stop_trace(term(), term()) :: {:ok, map()} | {:error, reason()}
  def stop_trace(targets, flags) do
    with :ok <- gate(:disable_tracing),
         {:ok, flags} <- flags(flags),
         {:ok, targets} <- targets(targets) do
      Session.stop_processes(targets, flags)
    end
  end

  @spec stop_trace_functions(term()) :: {:ok, map()} | {:error, reason()}
  def stop_trace_functions(mfas) do
    with :ok <- gate(:disable_tracing),
         {:ok, mfas} <- if(mfas == :all, do: {:ok, :all}, else: mfas(mfas)) do
      Session.stop_functions(mfas)
    end
  end

  @spec status() :: map()
  def status do
    %{node: node(), trace_control_word: :erlang.system_info(:trace_control_word)}
    |> Map.merge(Session.status())
  end

  defp gate(action) do
    if Security.admin_action_allowed?(action), do: :ok, else: {:error, :admin_action_denied}
  end

  defp limits(opts) do
    tracer = Keyword.get(opts, :tracer) || self()
    max_messages = Keyword.get(opts, :max_messages) || 1_000
    max_ms = Keyword.get(opts, :max_ms) || 60_000

    cond do
      not (is_pid(tracer) and node(tracer) == node() and Process.alive?(tracer)) ->
        {:error, :invalid_tracer}

      not (max_messages in 1..1_000_000 and max_ms in 1..3_600_000) ->
        raise ArgumentError,
              "expected max_messages from 1 to 1000000 and max_ms from 1 to 3600000, got: " <>
                inspect({max_messages, max_ms})

      true ->
        {:ok, %{tracer: tracer, max_messages: max_messages, max_ms: max_ms}}
    end
  end

  defp flags(:all), do: {:ok, [:all]}

  defp flags(flags) do
    flags = List.wrap(flags)

    if flags != [] and not List.improper?(flags) and Enum.all?(flags, &(&1 in @flags)),
      do: {:ok, flags},
      else: {:error, :invalid_trace_flag}
  end

  @kinds [:all, :processes, :ports, :existing, :existing_processes, :new, :new_processes]

  defp targets(targets), do: each(targets, &target/1, :invalid_trace_target)
  defp mfas(mfas), do: each(mfas, &mfa/1, :invalid_mfa)

  # Takes one term or a list. For a list, the error names the invalid elements.
  defp each(list, parse, error) when is_list(list) do
    if list == [] or List.improper?(list) do
      {:error, {error, list}}
    else
      parsed = Enum.map(list, parse)

      case for {given, nil} <- Enum.zip(list, parsed), do: given do
        [] -> {:ok, parsed}
        wrong -> {:error, {error, wrong}}
      end
    end
  end

  defp each(one, parse, error) do
    case parse.(one) do
      nil -> {:error, error}
      parsed -> {:ok, [parsed]}
    end
  end

  defp target(pid) when is_pid(pid) do
    if node(pid) == node() and Process.alive?(pid), do: pid
  end

  defp target(kind) when kind in @kinds, do: kind
  defp target(name) when is_atom(name), do: name |> Process.whereis() |> target_pid()
  defp target(_other), do: nil

  defp target_pid(pid) when is_pid(pid), do: pid
  defp target_pid(_none_or_port), do: nil

  # A module, but not every module: that would trace each call of the VM.
  defp mfa({module, function, arity})
       when is_atom(module) and module not in [nil, :_] and is_atom(function) and function != nil and
              (arity == :_ or (arity in 0..255 and function != :_)),
       do: {module, function, arity}

  defp mfa({module, function}) when is_atom(module) and is_atom(function),
    do: mfa({module, function, :_})

  defp mfa(module) when is_atom(module) and module not in [nil, :_], do: mfa({module, :_, :_})
  defp mfa(_other), do: nil
end
