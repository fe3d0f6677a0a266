defmodule PhoenixGenApi.ConfigGuideTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Config

  @guide "guides/configuration.md"
  @start "<!-- settings -->\n"
  @stop "<!-- end of the settings -->"

  test "the settings in the guide are those of the schema" do
    [before, rest] = @guide |> File.read!() |> String.split(@start)
    [settings, rest] = String.split(rest, @stop)
    made = "\n" <> Config.docs() <> "\n"

    if System.get_env("GUIDES") == "write",
      do: File.write!(@guide, IO.iodata_to_binary([before, @start, made, @stop, rest])),
      else:
        assert(
          settings == made,
          "out of date: GUIDES=write bin/mix test #{Path.relative_to_cwd(__ENV__.file)}"
        )
  end
end
