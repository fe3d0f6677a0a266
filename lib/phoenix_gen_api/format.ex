defmodule PhoenixGenApi.Format do
  @moduledoc false
  # Functions, times and sizes as people write them. Nothing here shows the arguments inside an
  # mfa: they may be anything.

  alias PhoenixGenApi.SafeInspect

  @doc "A function by its name, `Books.Api.find`, with the arity if there is one."
  @spec function(tuple(), non_neg_integer() | nil) :: String.t()
  def function(mfa, arity \\ nil)

  def function({module, function, _arguments}, arity), do: function({module, function}, arity)

  def function({module, function}, nil) when is_atom(module) and is_atom(function) do
    SafeInspect.truncate("#{inspect(module)}.#{Macro.inspect_atom(:remote_call, function)}", 100)
  end

  def function({_module, _function} = name, arity), do: "#{function(name)}/#{arity}"

  @doc "Milliseconds: `250 ms`, `5 s`, `1.5 s`, `2 min`, `:infinity`."
  @spec duration(timeout()) :: String.t()
  def duration(:infinity), do: "any time"
  def duration(ms) when ms < 1_000, do: "#{ms} ms"
  def duration(ms) when ms < 120_000, do: "#{tenths(ms, 1_000)} s"
  def duration(ms) when ms < 7_200_000, do: "#{tenths(ms, 60_000)} min"
  def duration(ms) when ms < 172_800_000, do: "#{tenths(ms, 3_600_000)} h"
  def duration(ms), do: "#{tenths(ms, 86_400_000)} days"

  @doc "Bytes: `512 B`, `1.5 KiB`, `3 MiB`, `2 GiB`."
  @spec bytes(non_neg_integer()) :: String.t()
  def bytes(bytes) when bytes < 1_024, do: "#{bytes} B"
  def bytes(bytes) when bytes < 1_048_576, do: "#{tenths(bytes, 1_024)} KiB"
  def bytes(bytes) when bytes < 1_073_741_824, do: "#{tenths(bytes, 1_048_576)} MiB"
  def bytes(bytes), do: "#{tenths(bytes, 1_073_741_824)} GiB"

  @doc "A number with its noun: `1 node`, `2 nodes`."
  @spec count(non_neg_integer(), String.t()) :: String.t()
  def count(1, noun), do: "1 #{noun}"
  def count(n, noun), do: "#{n} #{noun}s"

  @doc "Names on one line of at most 300 bytes, safe for a terminal."
  @spec names([term()], String.t()) :: String.t()
  def names(names, between \\ ", "),
    do: names |> Enum.map_join(between, &SafeInspect.name/1) |> SafeInspect.truncate(300)

  @doc "A rate limit: `3 in 60 s by user_id`, `3 in 1 s by argument isbn`."
  @spec limit(non_neg_integer(), pos_integer(), atom() | String.t()) :: String.t()
  def limit(max, window_ms, key) do
    by = if is_atom(key), do: Atom.to_string(key), else: "argument #{SafeInspect.name(key)}"
    "#{max} in #{duration(window_ms)} by #{by}"
  end

  @doc "Nodes and why each cannot be used: `a@h is down, b@h is draining, c@h has an open circuit`."
  @spec obstacles([{node() | String.t(), :down | :draining | :circuit_open}]) :: String.t()
  def obstacles(nodes) do
    nodes
    |> Enum.map_join(", ", fn {node, why} -> "#{SafeInspect.name("#{node}")} #{obstacle(why)}" end)
    |> SafeInspect.truncate(300)
  end

  defp obstacle(:circuit_open), do: "has an open circuit"
  defp obstacle(status), do: "is #{status}"

  defp tenths(n, unit) do
    case round(n * 10 / unit) do
      tenths when rem(tenths, 10) == 0 -> div(tenths, 10)
      tenths -> "#{div(tenths, 10)}.#{rem(tenths, 10)}"
    end
  end
end
