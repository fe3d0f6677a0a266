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

  defp targets(targets) when is_list(targets) do
    if targets == [] or List.improper?(targets) do
      {:error, {:invalid_trace_target, targets}}
    else
      resolved = Enum.map(targets, &{&1, target(&1)})

      case for {given, nil} <- resolved, do: given do
        [] -> {:ok, Enum.map(resolved, &elem(&1, 1))}
        wrong -> {:error, {:invalid_trace_target, wrong}}
      end
    end
  end

  defp targets(target) do
    case target(target) do
      nil -> {:error, :invalid_trace_target}
      target -> {:ok, [target]}
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

  defp mfas(mfas) when is_list(mfas) do
    if mfas == [] or List.improper?(mfas) do
      {:error, {:invalid_mfa, mfas}}
    else
      parsed = Enum.map(mfas, &{&1, mfa(&1)})

      case for {given, nil} <- parsed, do: given do
        [] -> {:ok, Enum.map(parsed, &elem(&1, 1))}
        wrong -> {:error, {:invalid_mfa, wrong}}
      end
    end
  end

  defp mfas(mfa) do
    case mfa(mfa) do
      nil -> {:error, :invalid_mfa}
      mfa -> {:ok, [mfa]}
    end
  end

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
