defmodule PhoenixGenApi.Service.Content do
  @moduledoc false
  # What a service offers, as bytes: the same on every node that runs the same code, so that their hash
  # names it. A gateway fetches the bytes of a hash once, whatever the number of nodes that offer it.
  #
  # Fields that have their default are left out: versions of the library with other fields agree.

  alias PhoenixGenApi.Structs.FunConfig

  @max_functions 100_000
  # As a push.
  @max_bytes 268_435_456

  @type hash :: <<_::256>>
  @type key :: {request_type :: String.t(), version :: String.t()}

  @doc "The bytes of the functions of one service, and their hash."
  @spec pack([FunConfig.t()]) :: {hash(), binary()}
  def pack(functions) do
    blob = functions |> Enum.map(&fields/1) |> Enum.sort() |> encode()
    {hash(blob), blob}
  end

  @doc "The hash of such bytes."
  @spec hash(binary()) :: hash()
  def hash(blob), do: :crypto.hash(:sha256, blob)

  @doc "The functions in bytes that came from a service."
  @spec unpack(binary()) :: {:ok, [FunConfig.t()]} | {:error, String.t()}
  def unpack(blob) when byte_size(blob) > @max_bytes,
    do: {:error, "the offer takes #{byte_size(blob)} bytes, and #{@max_bytes} are allowed"}

  # A few compressed bytes may stand for any number of others.
  def unpack(<<131, 80, _rest::binary>>), do: {:error, "the offer is compressed"}

  def unpack(blob) do
    case decode(blob) do
      {:ok, list} when length(list) > @max_functions ->
        {:error, "#{length(list)} functions are offered, and #{@max_functions} are allowed"}

      {:ok, [_ | _] = list} ->
        if Enum.all?(list, &is_non_struct_map/1),
          do: {:ok, Enum.map(list, &struct(FunConfig, &1))},
          else: {:error, "the offer is no list of functions"}

      _other ->
        {:error, "the offer is no list of functions"}
    end
  end

  defp decode(blob) do
    case :erlang.binary_to_term(blob) do
      list when length(list) >= 0 -> {:ok, list}
      _other -> :error
    end
  rescue
    ArgumentError -> :error
  end

  @doc "Names what a function is, apart from the nodes that offer it."
  @spec definition(FunConfig.t()) :: hash()
  def definition(config), do: config |> fields() |> encode() |> hash()

  @doc "The key of a function within its service."
  @spec key(FunConfig.t()) :: key()
  def key(config), do: {config.request_type, FunConfig.version(config)}

  @doc "The first characters of a hash, for people."
  @spec short(hash()) :: String.t()
  def short(<<head::binary-4, _rest::binary>>), do: Base.encode16(head, case: :lower)

  defp fields(config) do
    config = FunConfig.complete(config)
    defaults = Map.from_struct(%FunConfig{})

    %{config | service: to_string(config.service), version: FunConfig.version(config)}
    |> Map.from_struct()
    |> Map.reject(fn {field, value} -> Map.get(defaults, field) === value end)
  end

  defp encode(term), do: :erlang.term_to_binary(term, [:deterministic, minor_version: 2])
end
