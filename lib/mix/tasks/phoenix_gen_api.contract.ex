defmodule Mix.Tasks.PhoenixGenApi.Contract do
  @shortdoc "Writes the description of an API, or its OpenAPI document"
  @moduledoc """
  Writes what a gateway offers as JSON: see `PhoenixGenApi.Contract`.

      mix phoenix_gen_api.contract --apis Shop.Prices,Shop.Orders --out contract.json
      mix phoenix_gen_api.contract --openapi --node gateway@10.0.0.1 --out openapi.json

  | Option | |
  |---|---|
  | `--out FILE` | the file; without it the JSON is printed |
  | `--openapi` | an OpenAPI 3.1 document of the HTTP interface instead of a description |
  | `--title TEXT`, `--api-version TEXT` | those of the OpenAPI document; `API` and `1.0.0` |
  | `--apis Mod,Mod` | modules of this project with `use PhoenixGenApi.Service` functions |
  | `--node NAME` | a gateway that runs; `--cookie` if it is another one than that of `~/.erlang.cookie` |
  | `--contract FILE` | a description as JSON |

  Without `--apis`, `--node` and `--contract` it starts this project and describes the functions of its gateway.

  The same functions give the same file, line by line, so that it can be kept under version control: commit it,
  and `mix phoenix_gen_api.contract.check` says whether a change breaks clients.
  """
  use Mix.Task

  alias Mix.PhoenixGenApi.Source
  alias PhoenixGenApi.Contract

  @switches [out: :string, openapi: :boolean, title: :string, api_version: :string] ++
              Source.switches()

  @impl true
  def run(args) do
    {opts, rest} = OptionParser.parse!(args, strict: @switches)
    if rest != [], do: Mix.raise("unexpected argument: #{hd(rest)}")
    Source.check!(opts)
    text = opts |> document() |> pretty("") |> IO.iodata_to_binary()

    case opts[:out] do
      nil -> Mix.shell().info(text)
      file -> write(file, text <> "\n")
    end
  end

  defp document(opts) do
    description = Source.description(opts)

    if opts[:openapi],
      do:
        Contract.openapi(
          description: description,
          title: opts[:title] || "API",
          version: opts[:api_version] || "1.0.0"
        ),
      else: description
  end

  defp write(file, text) do
    File.mkdir_p!(Path.dirname(file))
    File.write!(file, text)
    Mix.shell().info("* wrote #{file}")
  end

  # A value on each line, in the order of the keys: a change of one is a change of one line.
  defp pretty(map, margin) when is_map(map) and map != %{} do
    map
    |> Enum.sort()
    |> block(margin, "{", "}", fn {key, value}, margin ->
      [JSON.encode!(key), ": ", pretty(value, margin)]
    end)
  end

  defp pretty([_ | _] = list, margin), do: block(list, margin, "[", "]", &pretty/2)
  defp pretty(value, _margin), do: JSON.encode!(value)

  defp block(parts, margin, open, close, print) do
    inner = margin <> "  "
    lines = Enum.map_intersperse(parts, [",\n", inner], &print.(&1, inner))
    [open, "\n", inner, lines, "\n", margin, close]
  end
end
