defmodule PhoenixGenApi.RateLimiter.Console do
  @moduledoc false
  # The limits as a person in IEx reads them.

  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.SafeInspect

  @spec status(String.t()) :: :ok
  def status(user_id) do
    %{api: api} = RateLimiter.get_configured_limits()
    functions = for %{key: :user_id, service: s, request_type: t} <- api, uniq: true, do: {s, t}

    rows =
      for scope <- [:global | functions],
          row <- RateLimiter.get_rate_limit_status(user_id, scope, :user_id) do
        "#{scope(scope)}: #{row.current_requests} of #{row.max_requests} in " <>
          "#{duration(row.window_ms)}, #{row.remaining} left"
      end

    print("limits by user_id for #{SafeInspect.inspect(user_id)}", rows)
  end

  @spec global() :: :ok
  def global, do: print("global limits", Enum.map(RateLimiter.get_global_limits(), &limit/1))

  @spec global([map()]) :: :ok
  def global(limits), do: changed(RateLimiter.set_global_limits(limits))

  @spec global(:add | :remove, map() | RateLimiter.key()) :: :ok
  def global(:add, limit), do: changed(RateLimiter.add_global_limit(limit))
  def global(:remove, key), do: changed(RateLimiter.remove_global_limit(key))

  @spec config() :: :ok
  def config do
    global()
    print("API limits", Enum.map(RateLimiter.get_configured_limits().api, &limit/1))
    status = RateLimiter.status()
    names = [:enabled, :fail_open, :keys, :entries, :overflowed, :memory_bytes]
    print("limiter", Enum.map(names, &"#{&1}: #{status[&1]}"))
  end

  defp changed(:ok), do: global()
  defp changed({:error, reason}), do: print("nothing changed", [SafeInspect.inspect(reason)])

  defp limit(limit) do
    name =
      case limit do
        %{service: service, request_type: type} -> "#{service} #{type}, "
        _ -> ""
      end

    missing = Map.get(limit, :on_missing, :skip)

    "#{name}by #{key(limit.key)}: #{limit.max_requests} in #{duration(limit.window_ms)}" <>
      if(missing == :skip, do: "", else: ", without one: #{missing}")
  end

  defp key(key) when is_atom(key), do: Atom.to_string(key)
  defp key(name), do: "argument #{inspect(name)}"

  defp scope(:global), do: "global"
  defp scope({service, type}), do: "#{service} #{type}"

  defp duration(ms) when rem(ms, 1_000) == 0, do: "#{div(ms, 1_000)} s"
  defp duration(ms), do: "#{ms} ms"

  defp print(title, []), do: print(title, ["none"])
  defp print(title, rows), do: IO.puts([title, Enum.map(rows, &["\n  ", &1])])
end
