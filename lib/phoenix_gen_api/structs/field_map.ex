defmodule PhoenixGenApi.Structs.FieldMap do
  @moduledoc false
  # Operator data with atom or string keys, read into a struct.

  @doc """
  Fills the struct from a map or keyword list; values are kept as they are.

  A field that is absent or `nil` keeps the struct's default. The atom key wins over the string.
  """
  @spec read(struct(), map() | keyword()) :: struct()
  def read(struct, data) do
    data = if is_map(data), do: data, else: Map.new(data)

    struct
    |> Map.from_struct()
    |> Enum.reduce(struct, fn {field, default}, struct ->
      case data do
        %{^field => value} -> put(struct, field, value, default)
        _no_atom_key -> put(struct, field, Map.get(data, Atom.to_string(field)), default)
      end
    end)
  end

  @doc """
  A struct that another version of the library made, with the fields of this one: those it does not
  have take their defaults, others are dropped.
  """
  @spec complete(struct()) :: struct()
  def complete(%module{} = struct), do: struct(module, Map.delete(struct, :__struct__))

  defp put(struct, field, nil, default), do: %{struct | field => default}
  defp put(struct, field, value, _default), do: %{struct | field => value}
end
