defmodule PhoenixGenApi.NativeFuzz.Outcome do
  @moduledoc false
  # What NIFs may return: what the specs of their stubs say.

  alias PhoenixGenApi.{Native, Plan}
  alias PhoenixGenApi.Structs.FunConfig

  @doc "`{name, arity} => type` of every stub."
  def types do
    {:ok, specs} = Code.Typespec.fetch_specs(Native)

    for {{name, arity}, [{:type, _, :fun, [_arguments, type]}]} <- specs, into: %{} do
      {{name, arity}, type}
    end
  end

  @doc "Whether the term is of the type, as it is written in `module`."
  def of?(type, term, module \\ Native)

  def of?({:ann_type, _, [_name, type]}, term, module), do: of?(type, term, module)
  def of?({:type, _, :union, types}, term, module), do: Enum.any?(types, &of?(&1, term, module))
  def of?({kind, _, value}, term, _module) when kind in [:atom, :integer], do: term === value

  def of?({:type, _, :range, [{_, _, first}, {_, _, last}]}, term, _module),
    do: term in first..last

  def of?({:type, _, :tuple, :any}, term, _module), do: is_tuple(term)

  def of?({:type, _, :tuple, types}, term, module) do
    is_tuple(term) and tuple_size(term) == length(types) and
      types
      |> Enum.zip(Tuple.to_list(term))
      |> Enum.all?(fn {type, t} -> of?(type, t, module) end)
  end

  def of?({:type, _, :list, [type]}, term, module),
    do: is_list(term) and not List.improper?(term) and Enum.all?(term, &of?(type, &1, module))

  def of?({:type, _, name, []}, term, _module), do: basic?(name, term)
  # What is in a plan is up to those who make it.
  def of?({:remote_type, _, [{_, _, FunConfig}, _t, []]}, _term, _module), do: true
  def of?({:remote_type, _, [{_, _, Plan}, _t, []]}, term, _module), do: is_tuple(term)

  def of?({:remote_type, _, [{_, _, String}, {_, _, :t}, []]}, term, _module),
    do: is_binary(term) and String.valid?(term)

  def of?({:remote_type, _, [{_, _, module}, {_, _, name}, []]}, term, _module),
    do: of?(definition(module, name), term, module)

  def of?({:user_type, _, name, []}, term, module),
    do: of?(definition(module, name), term, module)

  defp definition(module, name) do
    types =
      with nil <- Process.get({__MODULE__, module}) do
        {:ok, types} = Code.Typespec.fetch_types(module)
        types = for {_kind, {name, type, []}} <- types, into: %{}, do: {name, type}
        Process.put({__MODULE__, module}, types)
        types
      end

    Map.fetch!(types, name)
  end

  defp basic?(name, _term) when name in [:any, :term], do: true
  defp basic?(name, term) when name in [:atom, :module, :node], do: is_atom(term)
  defp basic?(:boolean, term), do: is_boolean(term)
  defp basic?(:integer, term), do: is_integer(term)
  defp basic?(:non_neg_integer, term), do: is_integer(term) and term >= 0
  defp basic?(:pos_integer, term), do: is_integer(term) and term > 0
  defp basic?(:byte, term), do: term in 0..255
  defp basic?(:float, term), do: is_float(term)
  defp basic?(:number, term), do: is_number(term)
  defp basic?(:binary, term), do: is_binary(term)
  defp basic?(:bitstring, term), do: is_bitstring(term)
  defp basic?(:reference, term), do: is_reference(term)
  defp basic?(:pid, term), do: is_pid(term)
  defp basic?(:map, term), do: is_map(term)
  defp basic?(:list, term), do: is_list(term)
  defp basic?(:tuple, term), do: is_tuple(term)
  defp basic?(nil, term), do: term == []
end
