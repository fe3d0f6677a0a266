defmodule PhoenixGenApi.Contract.TypeScript do
  @moduledoc false
  # A description of `PhoenixGenApi.Contract` as a TypeScript file: the type of the client, and what the client has to
  # know of each function when it runs. Nothing of a description gets into the file unquoted, whoever made it.

  import Inspect.Algebra

  @width 100

  # On the objects of the client these mean something else.
  @reserved_services ["then"]
  @reserved_functions ["then", "v"]

  @json ~w(array boolean number object string)

  @doc "The file, ending in a newline."
  @spec file(map()) :: String.t()
  def file(%{"services" => services}) do
    services = Enum.reject(services, &(&1["service"] in @reserved_services))

    lines =
      [
        "// The functions of a gateway, written by `mix phoenix_gen_api.gen.typescript`. Changes to this file are lost.",
        imports(services),
        "",
        "export interface Api {"
      ] ++
        (services |> Enum.map(&service/1) |> separated() |> indent()) ++
        [
          "}",
          "",
          "/** For `connect`: which functions are streams, how long they may take, and which may be called twice. */",
          "export const functions: Functions = {"
        ] ++
        (services |> Enum.map(&facts/1) |> enumerated() |> indent()) ++ ["}"]

    Enum.map_join(lines, &(&1 <> "\n"))
  end

  @doc "The names that nothing is written for, since the client cannot call them: `service` or `service/function`."
  @spec left_out(map()) :: [String.t()]
  def left_out(%{"services" => services}) do
    Enum.flat_map(services, fn %{"service" => service, "functions" => functions} ->
      if service in @reserved_services,
        do: [service],
        else:
          for(
            %{"request_type" => name} <- functions,
            name in @reserved_functions,
            do: service <> "/" <> name
          )
    end)
  end

  defp imports(services) do
    kinds =
      for %{"functions" => functions} <- services,
          %{"versions" => versions} <- callable(functions),
          %{"response_type" => kind} <- versions,
          uniq: true,
          do: options(kind)

    names = ["Functions" | kinds] |> Enum.sort() |> Enum.join(", ")
    ~s(import type {#{names}} from "phoenix-gen-api")
  end

  defp callable(functions),
    do: Enum.reject(functions, &(&1["request_type"] in @reserved_functions))

  defp service(%{"service" => name, "functions" => functions}) do
    functions = callable(functions)

    members =
      for %{"request_type" => name} = function <- functions,
          definition = default(function),
          do: member(name, definition)

    versions = functions |> other_versions() |> Enum.map(&version/1)
    braces("#{key(name)}: {", separated(members ++ versions), "}")
  end

  defp default(%{"default_version" => default, "versions" => versions}),
    do: Enum.find(versions, &(&1["version"] == default))

  # Those that a request without a version does not get, by version.
  defp other_versions(functions) do
    for(
      %{"request_type" => name, "default_version" => default, "versions" => versions} <-
        functions,
      %{"version" => version} = definition <- versions,
      version != default,
      do: {version, {name, definition}}
    )
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
    |> Enum.sort_by(fn {version, _functions} -> order(version) end)
  end

  defp order(version) do
    case Version.parse(version) do
      {:ok, parsed} -> {0, parsed.major, parsed.minor, parsed.patch, version}
      :error -> {1, 0, 0, 0, version}
    end
  end

  defp version({version, functions}) do
    members = for {name, definition} <- functions, do: member(name, definition)
    braces("v(version: #{quoted(version)}): {", separated(members), "}")
  end

  defp member(name, definition) do
    kind = definition["response_type"]

    parameters = [
      break(""),
      arguments(definition["args"]),
      ",",
      break(" "),
      "options?: ",
      options(kind)
    ]

    signature =
      concat([
        key(name),
        "(",
        nest(concat(parameters), 2),
        break(""),
        "): ",
        result(kind, definition["result"])
      ])

    # They are indented by two levels, versions by three.
    text = signature |> group() |> format(@width - 4) |> IO.iodata_to_binary()
    comment(definition) ++ String.split(text, "\n")
  end

  defp options("stream"), do: "StreamOptions"
  defp options(_kind), do: "CallOptions"

  defp arguments(%{"properties" => properties}) when properties == %{},
    do: "args?: Record<string, never>"

  defp arguments(%{"required" => []} = schema), do: concat("args?: ", type(schema))
  defp arguments(schema), do: concat("args: ", type(schema))

  defp result("none", _schema), do: "Promise<void>"
  defp result("stream", schema), do: concat(["AsyncIterable<", type(schema), ">"])
  defp result(_kind, schema), do: concat(["Promise<", type(schema), ">"])

  defp comment(%{"doc" => doc, "deprecated" => deprecated}) do
    doc = lines(doc)
    deprecated = deprecated(deprecated)
    gap = if doc != [] and deprecated != [], do: [""], else: []

    case doc ++ gap ++ deprecated do
      [] -> []
      [line] -> ["/** #{line} */"]
      lines -> ["/**"] ++ Enum.map(lines, &String.trim_trailing(" * " <> &1)) ++ [" */"]
    end
  end

  defp deprecated(false), do: []
  defp deprecated(true), do: ["@deprecated"]
  defp deprecated(sentence), do: ["@deprecated " <> (sentence |> lines() |> Enum.join(" "))]

  defp lines(nil), do: []
  defp lines(text), do: text |> String.trim() |> String.split(~r/\R/u) |> Enum.map(&harmless/1)

  # A text must not end its comment, nor be a line that an editor does not show.
  defp harmless(line),
    do: line |> String.replace("*/", "*\\/") |> String.replace(~r/[[:cntrl:]]/u, " ")

  defp type(%{"enum" => values}), do: values |> Enum.map(&quoted/1) |> union()
  defp type(%{"anyOf" => types}), do: types |> Enum.map(&type/1) |> union()

  defp type(%{"type" => types} = schema) do
    {nothing, types} = types |> List.wrap() |> Enum.split_with(&(&1 == "null"))

    if types == @json,
      do: "unknown",
      else: union(Enum.map(types, &one(&1, schema)) ++ nothing)
  end

  defp type(_undescribed), do: "unknown"

  defp one(number, _schema) when number in ["integer", "number"], do: "number"
  defp one(plain, _schema) when plain in ["boolean", "string"], do: plain
  defp one("array", schema), do: concat(item(schema["items"]), "[]")

  defp one("object", %{"x-order" => names, "properties" => types, "required" => required}) do
    fields =
      for name <- names do
        mark = if name in required, do: ": ", else: "?: "
        concat([key(name), mark, type(types[name])])
      end

    object(fields)
  end

  defp one("object", %{"additionalProperties" => %{} = values}),
    do: concat(["Record<string, ", type(values), ">"])

  defp one("object", _schema), do: "Record<string, unknown>"
  defp one(_other, _schema), do: "unknown"

  defp item(schema) do
    type = type(schema)
    if several?(schema) and type != "unknown", do: concat(["(", type, ")"]), else: type
  end

  defp several?(%{"enum" => [_one]}), do: false
  defp several?(%{"enum" => _values}), do: true
  defp several?(%{"anyOf" => _types}), do: true
  defp several?(%{"type" => types}), do: is_list(types)
  defp several?(_undescribed), do: false

  defp object([]), do: "Record<string, never>"

  defp object(fields) do
    fields = fields |> Enum.intersperse(break("; ")) |> concat()
    group(concat(["{", nest(concat(break(""), fields), 2), break(""), "}"]))
  end

  defp union([]), do: "never"
  defp union(types), do: types |> Enum.intersperse(" | ") |> concat()

  defp facts(%{"service" => service, "functions" => functions}) do
    {defaults, others} =
      for(
        %{"request_type" => name, "default_version" => default, "versions" => versions} <-
          callable(functions),
        %{"version" => version} = definition <- versions,
        do:
          {version == default, if(version == default, do: name, else: "#{name}@#{version}"),
           definition}
      )
      |> Enum.split_with(&elem(&1, 0))

    lines = for {_default?, name, definition} <- defaults ++ others, do: [fact(name, definition)]
    braces("#{key(service)}: {", enumerated(lines), "}")
  end

  defp fact(name, %{"response_type" => kind, "timeout_ms" => ms, "idempotent" => idempotent}) do
    facts =
      if(kind in ["stream", "none"], do: ["kind: #{quoted(kind)}"], else: []) ++
        timeout(kind, ms) ++ if(idempotent, do: ["idempotent: true"], else: [])

    "#{key(name)}: {#{Enum.join(facts, ", ")}}"
  end

  # A stream that may last for ever begins in a moment all the same.
  defp timeout(kind, nil) when kind in ["stream", "none"], do: []
  defp timeout(_kind, nil), do: ["timeoutMs: Infinity"]
  defp timeout(_kind, ms), do: ["timeoutMs: #{ms}"]

  # With an empty line around each that takes several.
  defp separated(blocks) do
    blocks
    |> Enum.chunk_while([], &chunk/2, &{:cont, Enum.reverse(&1), []})
    |> Enum.concat()
    |> Enum.concat()
  end

  defp chunk(block, []), do: {:cont, [block]}

  defp chunk(block, [before | _] = blocks) do
    if match?([_line], block) and match?([_line], before),
      do: {:cont, [block | blocks]},
      else: {:cont, [block, [""] | blocks]}
  end

  defp enumerated([]), do: []

  defp enumerated(blocks) do
    {last, others} = List.pop_at(blocks, -1)
    Enum.flat_map(others, &List.update_at(&1, -1, fn line -> line <> "," end)) ++ last
  end

  defp braces(opening, [], closing), do: [opening <> closing]
  defp braces(opening, lines, closing), do: [opening] ++ indent(lines) ++ [closing]

  defp indent(lines), do: Enum.map(lines, &if(&1 == "", do: "", else: "  " <> &1))

  defp key(name),
    do: if(name =~ ~r/\A[A-Za-z_$][A-Za-z0-9_$]*\z/, do: name, else: quoted(name))

  # Strings of JSON are strings of TypeScript.
  defp quoted(value), do: JSON.encode!(value)
end
