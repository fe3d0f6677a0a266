defmodule PhoenixGenApi.Channel.OwnClauses do
  @moduledoc false
  # What the clauses that a channel module has itself leave to those that are added after them. Reads
  # the module while it is compiled: clauses that macros used later add are not seen.

  @doc "Whether a `handle_info/2` of the module could match `{:relay_message, response}`."
  @spec relay_messages?(module()) :: boolean()
  def relay_messages?(module) do
    Enum.any?(clauses(module, {:handle_info, 2}), fn {_meta, [message | _], _guards, _body} ->
      relay_message?(message)
    end)
  end

  @doc "Warns of a clause that matches everything and does not call the library, and notes it in the module."
  @spec warn_hidden(Macro.Env.t(), {:handle_in, 3} | {:handle_info, 2}) :: :ok
  def warn_hidden(env, {name, arity} = function) do
    # One that may be overridden, such as GenServer's, is.
    for {meta, args, [], body} <- clauses(env.module, function),
        not Module.overridable?(env.module, function),
        args |> Enum.drop(-1) |> Enum.all?(&variable?/1),
        not calls?(body, name) do
      IO.warn(
        "this clause of #{name}/#{arity} matches everything, so the clauses that PhoenixGenApi adds " <>
          "are never reached. Call PhoenixGenApi.Channel.#{name}/3 in it, or match less",
        module: env.module,
        function: function,
        file: env.file,
        line: meta[:line] || env.line
      )

      Module.put_attribute(env.module, :phoenix_gen_api_hidden, name)
    end

    :ok
  end

  defp clauses(module, function) do
    case Module.get_definition(module, function) do
      {:v1, _kind, _meta, clauses} -> clauses
      nil -> []
    end
  end

  defp relay_message?({:=, _, [left, right]}), do: relay_message?(left) and relay_message?(right)
  defp relay_message?({tag, _response}), do: tag == :relay_message or not literal?(tag)
  defp relay_message?({:{}, _, _elements}), do: false
  defp relay_message?(pattern), do: not literal?(pattern)

  # A pattern that is no tuple of two, and no atom but itself.
  defp literal?({kind, _, _}) when kind in [:%{}, :%, :<<>>, :{}], do: true
  defp literal?({_, _, _}), do: false
  defp literal?(_atom_number_text_list_or_pair), do: true

  defp variable?({:=, _, [left, right]}), do: variable?(left) and variable?(right)
  defp variable?({name, _, context}), do: is_atom(name) and is_atom(context)
  defp variable?(_pattern), do: false

  defp calls?(body, name) do
    {_body, calls?} =
      Macro.prewalk(body, false, fn
        {:., _, [PhoenixGenApi.Channel, ^name]} = call, _before -> {call, true}
        other, before -> {other, before}
      end)

    calls?
  end
end
