defmodule PhoenixGenApi.Http.Console do
  @moduledoc false
  # The console: one page, put together when this is compiled from priv/console, and the functions that it shows.
  #
  # The page holds its style and its script, each under a nonce that is made for every answer. So nothing else
  # runs in it, whatever text of functions and results it shows.

  @folder Path.expand("../../../priv/console", __DIR__)
  @scripts ~w(dom schema form client answer list app)

  for file <- ["index.html", "console.css" | Enum.map(@scripts, &"js/#{&1}.js")],
      do: @external_resource(Path.join(@folder, file))

  script = Enum.map_join(@scripts, "\n", &File.read!(Path.join(@folder, "js/#{&1}.js")))

  @page @folder
        |> Path.join("index.html")
        |> File.read!()
        |> String.replace("%STYLE%", File.read!(Path.join(@folder, "console.css")))
        |> String.replace("%SCRIPT%", "\"use strict\"; {\n" <> script <> "\n}")
        |> String.split("%NONCE%")

  @doc "The page, and the headers that go with it."
  @spec page() :: {iodata(), [{String.t(), String.t()}]}
  def page do
    nonce = Base.encode64(:crypto.strong_rand_bytes(16))
    {Enum.intersperse(@page, nonce), headers(nonce)}
  end

  defp headers(nonce) do
    policy = [
      "default-src 'none'; ",
      "script-src 'nonce-#{nonce}'; style-src 'nonce-#{nonce}'; img-src data:; connect-src 'self'; ",
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ]

    [
      {"content-security-policy", IO.iodata_to_binary(policy)},
      {"referrer-policy", "no-referrer"},
      {"x-frame-options", "DENY"}
    ]
  end
end
