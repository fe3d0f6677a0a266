defmodule PhoenixGenApi.Security.OwnModules do
  @moduledoc false
  # The modules of this library's own lib/, read from its sources when it is compiled. A name
  # prefix would be no such list: anybody may call a module of theirs `PhoenixGenApi.Shop`.

  lib = Path.expand("../..", __DIR__)
  sources = lib |> Path.join("**/*.ex") |> Path.wildcard() |> Enum.sort()
  for source <- sources, do: @external_resource(source)

  name = fn {:__aliases__, _, parts} -> Module.concat(parts) end

  protocol = fn
    {{:__aliases__, _, _} = protocol, _options} -> protocol
    protocol -> protocol
  end

  # `outer` are the modules around, innermost first.
  enter = fn
    {:defmodule, _, [{:__aliases__, _, parts} | _]} = ast, {outer, found} ->
      module = Module.concat(Enum.take(outer, 1) ++ parts)
      {ast, {[module | outer], [module | found]}}

    {:defimpl, _, [{:__aliases__, _, _} = protocol, [{:for, {:__aliases__, _, _} = for}] | _]} =
        ast,
    {outer, found} ->
      {ast, {outer, [Module.concat(name.(protocol), name.(for)) | found]}}

    {:defimpl, _, [{:__aliases__, _, _} = protocol, [{:do, _}]]} = ast,
    {[module | _] = outer, found} ->
      {ast, {outer, [Module.concat(name.(protocol), module) | found]}}

    {:@, _, [{:derive, _, [derived]}]} = ast, {[module | _] = outer, found} ->
      protocols =
        for option <- List.wrap(derived),
            do: option |> protocol.() |> name.() |> Module.concat(module)

      {ast, {outer, protocols ++ found}}

    ast, walked ->
      {ast, walked}
  end

  leave = fn
    {:defmodule, _, [{:__aliases__, _, _} | _]} = ast, {[_module | outer], found} ->
      {ast, {outer, found}}

    ast, walked ->
      {ast, walked}
  end

  modules =
    for source <- sources, reduce: [] do
      modules ->
        {_ast, {[], found}} =
          source
          |> File.read!()
          |> Code.string_to_quoted!(file: source)
          |> Macro.traverse({[], []}, enter, leave)

        found ++ modules
    end

  @lib lib
  @sources sources
  @modules modules |> Enum.uniq() |> Enum.sort()

  @doc "All of them."
  @spec list() :: [module(), ...]
  def list, do: @modules

  @doc false
  # A file that was added or taken away; those that have changed are external resources.
  def __mix_recompile__?,
    do: @lib |> Path.join("**/*.ex") |> Path.wildcard() |> Enum.sort() != @sources
end
