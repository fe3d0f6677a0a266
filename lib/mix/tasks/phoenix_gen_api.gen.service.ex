defmodule Mix.Tasks.PhoenixGenApi.Gen.Service do
  @shortdoc "Writes a module of functions that clients may call"

  @moduledoc """
  Writes a module with `use PhoenixGenApi.Service`, with one function to begin with, and a test of it.

      mix phoenix_gen_api.gen.service hello

  The name is that of the service in requests: small letters, digits and underscores. For an application `shop`
  the module is `Shop.GenApi.Hello` in `lib/shop/gen_api/hello.ex`. It is added to the list of
  `Shop.GenApi` in `lib/shop/gen_api.ex`, the child of the supervision tree that offers the functions;
  that file is created if it is not there.

  It works in a gateway and in an application of its own. The latter is told what to configure.

  It can be run again: files that are there stay as they are.
  """

  use Mix.Task

  alias Mix.PhoenixGenApi.{Project, Snippets, Templates, Writer}

  @impl true
  @spec run([String.t()]) :: :ok
  def run([name]) do
    unless name =~ ~r/\A[a-z][a-z0-9_]{0,62}\z/ and name != "gen_api" do
      Mix.raise(
        "the name of a service consists of small letters, digits and underscores and is not gen_api, " <>
          "for example hello; got #{inspect(name)}"
      )
    end

    project = Project.read()
    Writer.create(Templates.service(project, name))
    add(project, Templates.api_module(project, name))
    Writer.instruct(Snippets.service(project))
    if project.web == nil, do: Mix.shell().info(of_its_own())
    :ok
  end

  def run(_other),
    do: Mix.raise("expected the name of a service: mix phoenix_gen_api.gen.service hello")

  defp add(project, module) do
    path = project.lib <> "/gen_api.ex"

    unless Writer.change(path, &Snippets.add_api(&1, module)) do
      Mix.shell().info("\nAdd #{module} to the modules that are offered (#{path}).\n")
    end
  end

  defp of_its_own do
    """

    A node that has no clients itself offers its functions to the gateways of its cluster. It says so in its
    configuration, and is a gateway in its tests:

        # config/config.exs
        config :phoenix_gen_api, :client_mode, true

        # config/test.exs
        config :phoenix_gen_api, :client_mode, false
    """
  end
end
