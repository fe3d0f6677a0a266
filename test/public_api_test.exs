defmodule PhoenixGenApi.PublicApiTest do
  use ExUnit.Case, async: true

  # What `use GenServer` and the like generate.
  @generated [__struct__: 0, __struct__: 1, __using__: 1, child_spec: 1]

  test "every public module says in its first sentence what it is" do
    for {module, docs} <- public_modules() do
      assert %{"en" => text} = elem(docs, 4), "#{inspect(module)} has no @moduledoc"
      [first | _rest] = String.split(text, "\n\n", parts: 2)
      assert first =~ ~r/[.:]\z/, "#{inspect(module)} begins with no sentence: #{first}"
    end
  end

  test "every public module but an exception shows how it is used" do
    without =
      for {module, docs} <- public_modules(),
          not function_exported?(module, :exception, 1),
          not (elem(docs, 4)["en"] =~ ~r/^    \S/m),
          do: module

    assert without == []
  end

  test "every public module has a place in the documentation" do
    groups = Mix.Project.config()[:docs][:groups_for_modules]

    for {module, _docs} <- public_modules() do
      name = inspect(module)

      assert Enum.any?(groups, fn {_title, patterns} ->
               Enum.any?(patterns, &(module == &1 or (is_struct(&1, Regex) and name =~ &1)))
             end),
             "#{name} is in no group of mix.exs"
    end
  end

  test "every public function, macro and callback has a @doc" do
    missing =
      for {module, docs} <- public_modules(),
          {{kind, name, arity}, _line, _signature, doc, meta} <- elem(docs, 6),
          kind in [:function, :macro, :callback, :macrocallback],
          doc == :none,
          meta[:delegate_to] == nil,
          {name, arity} not in @generated,
          not from_behaviour?(module, name, arity),
          do: "#{inspect(module)}.#{name}/#{arity}"

    assert missing == []
  end

  test "every public function has a @spec" do
    missing =
      for {module, docs} <- public_modules(),
          specs = specs(module),
          {{:function, name, arity}, _line, _signature, doc, _meta} <- elem(docs, 6),
          doc != :hidden,
          {name, arity} not in @generated,
          {name, arity} not in specs,
          not from_behaviour?(module, name, arity),
          do: "#{inspect(module)}.#{name}/#{arity}"

    assert missing == []
  end

  defp public_modules do
    {:ok, modules} = :application.get_key(:phoenix_gen_api, :modules)

    for module <- modules,
        not documented_elsewhere?(module),
        {:docs_v1, _, _, _, text, _, _} = docs <- [Code.fetch_docs(module)],
        text != :hidden,
        do: {module, docs}
  end

  # Implementations of protocols, and what test/support adds to the application.
  defp documented_elsewhere?(module) do
    {:__impl__, 1} in module.__info__(:functions) or
      not String.starts_with?(source_path(module), Path.expand("lib"))
  end

  defp source_path(module), do: List.to_string(module.module_info(:compile)[:source])

  defp specs(module) do
    case Code.Typespec.fetch_specs(module) do
      {:ok, specs} -> for {{name, arity}, _clauses} <- specs, do: {name, arity}
      :error -> []
    end
  end

  defp from_behaviour?(module, name, arity) do
    behaviours = for {:behaviour, list} <- module.module_info(:attributes), b <- list, do: b
    Enum.any?(behaviours, &({name, arity} in &1.behaviour_info(:callbacks)))
  end
end
