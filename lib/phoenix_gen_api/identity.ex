defmodule PhoenixGenApi.Identity do
  @moduledoc false
  # Who sends a request, in the words that the rest of the library uses: strings. Applications
  # keep ids as integers, roles as sets and addresses as tuples; what cannot be read is absent,
  # never guessed.

  @fields [:user_id, :user_roles, :device_id, :ip_address]
  defstruct @fields

  @type t :: %__MODULE__{
          user_id: String.t() | nil,
          user_roles: [String.t()] | nil,
          device_id: String.t() | nil,
          ip_address: String.t() | nil
        }
  @type field :: :user_id | :user_roles | :device_id | :ip_address

  @typedoc "`:absent` for nil; `:invalid` for what is no value of that field."
  @type read(value) :: {:ok, value} | :absent | :invalid

  # Ids larger than that are no ids, and writing them takes long.
  @max_id Integer.pow(2, 256)

  @doc "Reads one field of what gateway code says of a client."
  @spec read(field(), term()) :: read(String.t() | [String.t()])
  def read(_field, nil), do: :absent
  def read(:user_roles, roles), do: roles(roles)
  def read(:ip_address, address), do: address(address)
  def read(_id, id), do: id(id)

  @doc "A field of the assigns; `warn` is told of a value that cannot be read, which is absent."
  @spec assigned(field(), map(), (field(), term() -> term())) :: String.t() | [String.t()] | nil
  def assigned(field, assigns, warn) do
    value = Map.get(assigns, field)

    case read(field, value) do
      {:ok, read} ->
        read

      :absent ->
        nil

      :invalid ->
        warn.(field, value)
        nil
    end
  end

  @doc "An identity that gateway code states; raises `ArgumentError` for what cannot be read."
  @spec new!(map() | keyword()) :: t()
  def new!(said) do
    for {field, value} <- said, reduce: %__MODULE__{} do
      identity -> Map.put(identity, field, read!(field, value))
    end
  end

  defp read!(field, value) when field in @fields do
    case read(field, value) do
      {:ok, read} ->
        read

      :absent ->
        nil

      :invalid ->
        raise ArgumentError, "identity: #{field} must be #{expected(field)}, got #{kind(value)}"
    end
  end

  defp read!(field, _value) do
    known = Enum.map_join(@fields, ", ", &Kernel.inspect/1)
    raise ArgumentError, "identity: unknown field #{Kernel.inspect(field)}, expected #{known}"
  end

  @doc "A payload without anything that it says of who sends it."
  @spec drop(map()) :: map()
  def drop(payload), do: Map.drop(payload, @fields ++ Enum.map(@fields, &Atom.to_string/1))

  @doc "What a field must be, for messages."
  @spec expected(field()) :: String.t()
  def expected(:user_roles), do: "a list, a MapSet, an atom or a string"
  def expected(:ip_address), do: "a string, a charlist or an address tuple"
  def expected(_id), do: "a non-empty string or an integer"

  @doc "The kind of a term, for messages: it may be anything, a whole user record for example."
  @spec kind(term()) :: String.t()
  def kind(""), do: "an empty string"
  def kind(value) when is_boolean(value), do: "a boolean"
  def kind(value) when is_atom(value), do: "an atom"
  def kind(value) when is_integer(value), do: "an integer"
  def kind(%module{}), do: "a %#{inspect(module)}{}"
  def kind(value) when is_binary(value) and value != "", do: "a binary that is not UTF-8"
  def kind(_value), do: "another term"

  @doc "The text of an id: a non-empty string as it is, an integer in decimal digits."
  @spec id(term()) :: {:ok, String.t()} | :invalid
  def id(id) when is_integer(id) and id > -@max_id and id < @max_id,
    do: {:ok, Integer.to_string(id)}

  def id(id), do: text(id)

  defp text(text) when is_binary(text) and text != "",
    do: if(String.valid?(text), do: {:ok, text}, else: :invalid)

  defp text(_other), do: :invalid

  defp roles(%MapSet{} = roles), do: roles |> MapSet.to_list() |> roles()
  defp roles(roles) when is_list(roles), do: {:ok, roles(roles, [])}

  defp roles(role) do
    case roles([role], []) do
      [] -> :invalid
      roles -> {:ok, roles}
    end
  end

  defp roles([role | rest], kept) when is_atom(role) and role not in [nil, true, false],
    do: roles(rest, [Atom.to_string(role) | kept])

  defp roles([role | rest], kept) do
    case text(role) do
      {:ok, role} -> roles(rest, [role | kept])
      :invalid -> roles(rest, kept)
    end
  end

  defp roles(_end_of_list, kept), do: Enum.reverse(kept)

  # A Unix socket's peer, for example, is a tuple that is no address.
  defp address(tuple) when is_tuple(tuple) do
    case :inet.ntoa(tuple) do
      {:error, :einval} -> :invalid
      address -> {:ok, List.to_string(address)}
    end
  end

  defp address([_ | _] = charlist) do
    case :inet.parse_address(charlist) do
      {:ok, tuple} -> address(tuple)
      {:error, :einval} -> :invalid
    end
  rescue
    # Not a list of characters.
    _error -> :invalid
  end

  defp address(address), do: text(address)
end
