defmodule PhoenixGenApi.Config do
  @moduledoc """
  The application configuration: read and checked once at start, kept in memory.

      config :phoenix_gen_api, :gen_api, pull_interval: 10_000

      config :phoenix_gen_api, :rate_limiter,
        global_limits: [%{key: :user_id, max_requests: 100, window_ms: 1_000}]

  A section is a keyword list or a map. A wrong value or an unknown key stops the boot
  with a sentence that names the key, what was expected and what was got:

      config :phoenix_gen_api, :gen_api, pull_timeout: expected a positive integer (milliseconds), got "5s"

  Top-level keys that are module names (`config :phoenix_gen_api, MyApp.Endpoint, …`) are
  left to their owners. Integers are at most 4_294_967_295.

  ## Options

  #{PhoenixGenApi.Config.Schema.docs()}
  The fields of a limit are described in `PhoenixGenApi.RateLimiter.Limit`.
  """

  alias PhoenixGenApi.Config.{Schema, Type}
  alias PhoenixGenApi.SafeInspect

  @app :phoenix_gen_api
  @prefix "config :phoenix_gen_api"
  @defaults Schema.defaults()

  @doc """
  The value of an option that has no sub-keys.

      PhoenixGenApi.Config.get(:client_mode)
      #=> false
  """
  @spec get(atom()) :: term()
  def get(key), do: :erlang.map_get(key, values())

  @doc """
  The value in memory of a section's option, or its default while nothing is loaded.

      PhoenixGenApi.Config.get(:gen_api, :pull_timeout)
      #=> 5000

  Costs one `:persistent_term` read. An option that does not exist raises. The limits come
  normalised, see `PhoenixGenApi.RateLimiter.Limit.validate/2`. `:admin_actions`,
  `:push_token` and `:mfa_allowlist` are read when used and are not found here.
  """
  @spec get(atom(), atom()) :: term()
  def get(section, key), do: :erlang.map_get(key, :erlang.map_get(section, values()))

  defp values, do: :persistent_term.get(__MODULE__, @defaults)

  @doc """
  Reads the application environment and keeps its values, if all of them are right.

  Otherwise every problem is returned as a sentence and nothing changes.
  """
  @spec load() :: :ok | {:error, [String.t(), ...]}
  def load do
    with {:ok, values} <- validate(Application.get_all_env(@app)) do
      :persistent_term.put(__MODULE__, values)
    end
  end

  @doc """
  Reads the application environment again, after it was changed at run time.

  `:ok`, or `{:error, sentences}` with nothing changed. What decides which processes run,
  `:client_mode`, `:boot_audit` and of `:service_guard` `enabled` and `listings`, keeps the value
  of the start; sizes of pools and tables do not follow either.
  """
  @spec reload() :: :ok | {:error, [String.t(), ...]}
  def reload do
    with {:ok, values} <- validate(Application.get_all_env(@app)) do
      :persistent_term.put(__MODULE__, as_at_start(values))
    end
  end

  defp as_at_start(values) do
    started = :persistent_term.get(__MODULE__, values)

    guard =
      Map.merge(values.service_guard, Map.take(started.service_guard, [:enabled, :listings]))

    values
    |> Map.merge(Map.take(started, [:client_mode, :boot_audit]))
    |> Map.put(:service_guard, guard)
  end

  @doc false
  @spec loaded?() :: boolean()
  def loaded?, do: :persistent_term.get(__MODULE__, nil) != nil

  @doc "All options with their types, defaults and meanings as a markdown table."
  @spec docs() :: String.t()
  defdelegate docs, to: Schema

  @doc false
  @spec validate(keyword()) :: {:ok, map()} | {:error, [String.t(), ...]}
  def validate(env) do
    {env, misplaced} = env |> Map.new() |> write_out_guard() |> move_detail_error()
    {top, top_problems} = cast_options(env, Schema.top_level(), &"#{@prefix}, #{inspect(&1)}")

    {sections, section_problems} =
      Schema.sections() |> Enum.map(&cast_section(&1, env)) |> Enum.unzip()

    case unknown_keys(env) ++ top_problems ++ misplaced ++ Enum.concat(section_problems) do
      [] -> {:ok, sections |> Map.new() |> Map.merge(Map.take(top, Map.keys(@defaults)))}
      problems -> {:error, problems}
    end
  end

  # Whoever sets anything of the guard wants it: leaving `enabled` out must not leave it off.
  defp write_out_guard(%{service_guard: guard} = env) do
    cond do
      is_boolean(guard) -> %{env | service_guard: [enabled: guard]}
      guard in [[], %{}] -> env
      true -> %{env | service_guard: put_new(guard, :enabled, true)}
    end
  end

  defp write_out_guard(env), do: env

  # `detail_error` may also stand beside the sections; the section's own value wins.
  defp move_detail_error(env) do
    case Map.pop(env, :detail_error) do
      {nil, env} ->
        {env, []}

      {value, env} when is_boolean(value) ->
        {Map.update(env, :gen_api, [detail_error: value], &put_new(&1, :detail_error, value)), []}

      {value, env} ->
        {env, [expected("#{@prefix}, :detail_error", "true or false", value)]}
    end
  end

  defp put_new(section, key, value) do
    cond do
      is_map(section) -> Map.put_new(section, key, value)
      Keyword.keyword?(section) -> Keyword.put_new(section, key, value)
      true -> section
    end
  end

  defp cast_section({section, options}, env) do
    place = "#{@prefix}, #{inspect(section)}"

    case to_map(Map.get(env, section, [])) do
      {:ok, given} ->
        known = Enum.map(options, & &1.key)
        unknown = for key <- Map.keys(given) -- known, do: unknown_key(place, key, known)
        {values, problems} = cast_options(given, options, &"#{place}, #{&1}")
        {{section, values}, unknown ++ problems}

      :error ->
        {{section, %{}}, [expected(place, "a keyword list or a map", env[section])]}
    end
  end

  # Of a key given twice the first one counts, as everywhere in keyword lists.
  defp to_map(section) do
    cond do
      is_map(section) and not is_struct(section) -> {:ok, section}
      Keyword.keyword?(section) -> {:ok, Map.new(Enum.reverse(section))}
      true -> :error
    end
  end

  defp cast_options(given, options, place) do
    Enum.reduce(options, {%{}, []}, fn %{key: key, type: type, default: default}, {values, all} ->
      with {:ok, value} <- Map.fetch(given, key),
           {:error, problems} <- Type.cast(type, value) do
        sentences = for {expected, got} <- problems, do: sentence(place.(key), expected, got)
        {values, all ++ sentences}
      else
        :error -> {Map.put(values, key, default), all}
        {:ok, value} -> {Map.put(values, key, value), all}
      end
    end)
  end

  defp unknown_keys(env) do
    known = Enum.map(Schema.top_level(), & &1.key) ++ Keyword.keys(Schema.sections())
    for key <- Map.keys(env) -- known, not alias?(key), do: unknown_key(@prefix, key, known)
  end

  defp alias?(key), do: match?("Elixir." <> _, Atom.to_string(key))

  defp unknown_key(place, key, known) do
    sentence(place, Type.words(known, "or"), "the unknown key " <> SafeInspect.inspect(key))
  end

  defp expected(place, expected, value), do: sentence(place, expected, SafeInspect.inspect(value))

  defp sentence(place, expected, got), do: "#{place}: expected #{expected}, got #{got}"
end
