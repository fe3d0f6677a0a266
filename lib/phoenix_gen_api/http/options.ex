defmodule PhoenixGenApi.Http.Options do
  @moduledoc false
  # The options of `PhoenixGenApi.Http`, checked once: when a plug or a server is initialised.

  @defaults [
    public: false,
    services: nil,
    identity: nil,
    statuses: %{},
    cross_site: false,
    console: false,
    www_authenticate: "Bearer"
  ]

  # What tests shorten. A client that is gone is noticed when something is written to it: soon after a
  # frame, and every 15 s. One that takes nothing for a minute loses its stream.
  @timing [probe_ms: 20, heartbeat_ms: 15_000, idle_ms: 60_000]

  # `local` is for a server that only this machine reaches, and that believes the console who is calling.
  defstruct @defaults ++ @timing ++ [local: false]

  @type t :: %__MODULE__{
          public: boolean(),
          services: [String.t()] | nil,
          identity: {module(), atom()} | nil,
          statuses: %{String.t() => 400..599},
          cross_site: boolean(),
          console: boolean(),
          www_authenticate: String.t() | nil,
          probe_ms: pos_integer(),
          heartbeat_ms: pos_integer(),
          idle_ms: pos_integer(),
          local: boolean()
        }

  @doc "Checks options; raises `ArgumentError` for unknown ones and for bad values."
  @spec new!(keyword() | t()) :: t()
  def new!(%__MODULE__{} = options), do: options

  def new!(options) do
    for {name, value} <- options, reduce: %__MODULE__{} do
      checked -> Map.put(checked, name, value!(name, value))
    end
  end

  defp value!(name, value) when name in [:public, :cross_site, :console] and is_boolean(value),
    do: value

  defp value!(:services, nil), do: nil

  defp value!(:services, services) when is_list(services) do
    for service <- services do
      if is_binary(service) or (is_atom(service) and service not in [nil, true, false]),
        do: to_string(service),
        else: invalid!(:services, services)
    end
  end

  defp value!(:identity, nil), do: nil
  defp value!(:identity, {m, f} = identity) when is_atom(m) and is_atom(f), do: identity

  defp value!(:statuses, %{} = statuses) do
    for {code, status} <- statuses,
        not (is_binary(code) and is_integer(status) and status in 400..599),
        do: invalid!(:statuses, statuses)

    statuses
  end

  defp value!(:www_authenticate, none) when none in [nil, false], do: nil

  defp value!(:www_authenticate, challenge) when is_binary(challenge) do
    if challenge =~ ~r/\A[\x20-\x7e]+\z/,
      do: challenge,
      else: invalid!(:www_authenticate, challenge)
  end

  defp value!(name, value) do
    if Keyword.has_key?(@defaults, name) do
      invalid!(name, value)
    else
      known = Enum.map_join(@defaults, ", ", fn {name, _default} -> inspect(name) end)

      raise ArgumentError,
            "PhoenixGenApi.Http: unknown option #{inspect(name)}, expected one of #{known}"
    end
  end

  @expected %{
    public: "a boolean",
    cross_site: "a boolean",
    console: "a boolean",
    services: "nil or a list of service names",
    identity: "nil or {module, function}",
    statuses: "a map of codes to statuses from 400 to 599",
    www_authenticate: "nil or a string of visible ASCII characters"
  }

  @spec invalid!(atom(), term()) :: no_return()
  defp invalid!(name, value) do
    raise ArgumentError,
          "PhoenixGenApi.Http: #{name} must be #{@expected[name]}, got #{inspect(value)}"
  end
end
