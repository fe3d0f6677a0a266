defmodule PhoenixGenApi.Log.Crash do
  @moduledoc false
  # What the log says of something that was raised, thrown or exited with. Some exceptions quote a
  # value in their message, which may be what a client sent. They are only named, with the function
  # that raised them, unless `config :phoenix_gen_api, :log, values: true`.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.SafeInspect

  @quoting [
    MatchError,
    CaseClauseError,
    WithClauseError,
    TryClauseError,
    KeyError,
    BadMapError,
    BadBooleanError,
    BadFunctionError,
    BadArityError,
    FunctionClauseError,
    Protocol.UndefinedError
  ]

  @doc "What was raised, on one line without the stacktrace."
  @spec text(:error | :exit | :throw, term(), Exception.stacktrace()) :: String.t()
  def text(:error, :undef, stack), do: SafeInspect.reason(:error, :undef, stack)

  def text(:error, reason, stack) do
    %name{} = exception = Exception.normalize(:error, reason)

    if not values?() and (name in @quoting or of_vm?(reason)),
      do: "raised #{name(name)}#{raised_in(stack)}",
      else: "raised #{name(name)}: #{SafeInspect.reason(:error, exception)}"
  end

  def text(:throw, value, _stack), do: "threw #{SafeInspect.inspect(value)}"
  def text(:exit, reason, _stack), do: "exited with #{exit_reason(reason)}"

  # A process that another one has taken with it, or that has waited for one that has crashed.
  defp exit_reason({reason, [{m, f, a, location} | _] = stack})
       when is_atom(m) and is_atom(f) and (is_list(a) or is_integer(a)) and is_list(location),
       do: "a crash: it " <> text(:error, reason, stack)

  # The arguments of a call that has failed hold what was to be done.
  defp exit_reason({reason, {m, f, args}} = whole) when is_atom(m) and is_atom(f) do
    if is_list(args) and not values?(),
      do: "#{exit_reason(reason)} in #{SafeInspect.mfa(m, f, args)}",
      else: SafeInspect.inspect(whole)
  end

  defp exit_reason(reason), do: SafeInspect.inspect(reason)

  # An error of the VM, which words it by the values, unlike a message that somebody wrote.
  defp of_vm?(reason), do: reason == :badarg or match?({:badarg, _value}, reason)

  defp raised_in([{module, function, arguments, _location} | _])
       when is_atom(module) and is_atom(function),
       do: " in #{SafeInspect.mfa(module, function, arguments)}"

  defp raised_in(_stack), do: ""

  defp name(module), do: SafeInspect.inspect(module, 100)

  defp values?, do: Config.get(:log, :values)
end
