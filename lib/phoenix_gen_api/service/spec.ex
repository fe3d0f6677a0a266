defmodule PhoenixGenApi.Service.Spec do
  @moduledoc false
  # Argument and result types out of the `@spec` of a function that is being compiled. Only what a spec
  # says without doubt is taken; for everything else the author writes the type.

  alias PhoenixGenApi.Structs.{Request, StreamHelper}

  @builtin %{
    binary: :string,
    integer: :integer,
    pos_integer: [type: :integer, min: 1],
    non_neg_integer: [type: :integer, min: 0],
    float: :float,
    number: :num,
    boolean: :boolean,
    map: :map
  }
  @remote %{
    String => :string,
    Date => :date,
    Time => :time,
    DateTime => :datetime,
    NaiveDateTime => :naive_datetime
  }

  @typedoc "The arguments, each with its name if it has one, and the return type, all as code."
  @type t :: {[{atom() | nil, Macro.t()}], Macro.t()}

  @doc "The only spec of a function, or why there is none to take types from."
  @spec fetch(Macro.Env.t(), atom(), arity()) :: {:ok, t()} | {:error, String.t()}
  def fetch(env, name, arity) do
    specs =
      for {:spec, spec, _position} <- Module.get_attribute(env.module, :spec),
          {^name, args, return, bound?} <- [signature(spec)],
          length(args) == arity,
          do: {args, return, bound?}

    case specs do
      [{args, return, false}] -> {:ok, {Enum.map(args, &named/1), return}}
      [{_args, _return, true}] -> {:error, "its @spec has a `when`"}
      [] -> {:error, "it has no @spec"}
      _several -> {:error, "it has several @specs"}
    end
  end

  defp signature({:when, _, [spec, _bound]}), do: spec |> signature() |> put_elem(3, true)

  defp signature({:"::", _, [{name, _, args}, return]}) when is_list(args),
    do: {name, args, return, false}

  defp signature({:"::", _, [{name, _, _no_parentheses}, return]}), do: {name, [], return, false}

  defp named({:"::", _, [{name, _, context}, type]}) when is_atom(context), do: {name, type}
  defp named(type), do: {nil, type}

  @doc "Which of the structs that a gateway appends to the arguments the type is, if it is one."
  @spec appended(Macro.Env.t(), Macro.t()) :: Request | StreamHelper | nil
  def appended(env, type) do
    with [{{{:., _, [module, :t]}, _, []}, _seen}] <- members(type, env, []),
         module when module in [Request, StreamHelper] <- Macro.expand(module, env),
         do: module,
         else: (_other -> nil)
  end

  @doc "The argument type of a type of a spec."
  @spec type(Macro.Env.t(), Macro.t()) :: {:ok, term()} | :error
  def type(env, type), do: type(env, type, [])

  @doc "The type of what a function returns when it succeeds, `nil` if the spec does not tell."
  @spec result(Macro.Env.t(), Macro.t()) :: term()
  def result(env, return) do
    {successes, rest} = return |> members(env, []) |> Enum.split_with(&match?({{:ok, _}, _}, &1))

    plain = Enum.reject(rest, fn {type, _seen} -> type == :error or match?({:error, _}, type) end)

    case {successes, plain} do
      {[{{:ok, type}, seen}], []} -> type(env, type, seen)
      {[], [_ | _]} -> union(plain, env)
      _undecided -> :error
    end
    |> case do
      {:ok, type} -> type
      :error -> nil
    end
  end

  # `seen` are the local types on the way here: one that contains itself has no end.
  defp type(env, type, seen), do: type |> members(env, seen) |> union(env)

  defp members({:|, _, [left, right]}, env, seen),
    do: members(left, env, seen) ++ members(right, env, seen)

  defp members({name, _, args} = type, env, seen)
       when is_atom(name) and (args == [] or is_atom(args)) do
    with false <- name in seen, {:ok, definition} <- local(env, name) do
      members(definition, env, [name | seen])
    else
      _builtin_or_seen -> [{type, seen}]
    end
  end

  defp members(type, _env, seen), do: [{type, seen}]

  defp local(env, name) do
    types = for kind <- [:type, :typep, :opaque], do: Module.get_attribute(env.module, kind)

    Enum.find_value(Enum.concat(types), :error, fn
      {_kind, {:"::", _, [{^name, _, args}, definition]}, _position}
      when args == [] or is_atom(args) ->
        {:ok, definition}

      _other ->
        nil
    end)
  end

  defp union(members, env) do
    {nils, others} = Enum.split_with(members, &match?({nil, _seen}, &1))

    with {:ok, type} <- alternatives(others, env) do
      {:ok, if(nils == [], do: type, else: nullable(type))}
    end
  end

  defp alternatives([_ | _] = members, env) do
    case {Enum.map(members, &elem(&1, 0)), members} do
      {[atom | _] = types, _} when is_atom(atom) ->
        if Enum.all?(types, &is_atom/1), do: {:ok, {:enum, Enum.uniq(types)}}, else: :error

      {_types, [{type, seen}]} ->
        one(type, env, seen)

      _mixed ->
        :error
    end
  end

  defp alternatives([], _env), do: :error

  defp nullable(options) when is_list(options), do: options ++ [allow_nil?: true]
  defp nullable(type), do: [type: type, allow_nil?: true]

  defp one({name, _, args}, _env, _seen) when is_atom(name) and (args == [] or is_atom(args)),
    do: Map.fetch(@builtin, name)

  defp one({{:., _, [module, :t]}, _, []}, env, _seen),
    do: Map.fetch(@remote, Macro.expand(module, env))

  defp one({:.., _, [first, last]}, _env, _seen) do
    with {:ok, min} <- integer(first),
         {:ok, max} <- integer(last),
         do: {:ok, [type: :integer, min: min, max: max]}
  end

  defp one([item], env, seen), do: list(item, env, seen)
  defp one({:list, _, [item]}, env, seen), do: list(item, env, seen)

  defp one({:%{}, _, [_ | _] = fields}, env, seen) do
    types = for field <- fields, do: field(field, env, seen)
    if :error in types, do: :error, else: {:ok, {:map, Map.new(types)}}
  end

  defp one(_other, _env, _seen), do: :error

  defp list(item, env, seen) do
    with {:ok, type} <- type(env, item, seen), do: {:ok, {:list, type}}
  end

  defp field({{:required, _, [key]}, type}, env, seen), do: field({key, type}, env, seen)

  defp field({key, type}, env, seen) when is_atom(key) do
    with {:ok, type} <- type(env, type, seen), do: {Atom.to_string(key), type}
  end

  defp field(_other, _env, _seen), do: :error

  defp integer(number) when is_integer(number), do: {:ok, number}
  defp integer({:-, _, [number]}) when is_integer(number), do: {:ok, -number}
  defp integer(_other), do: :error
end
