defmodule Mix.Tasks.PhoenixGenApi.Gen.Gateway do
  @shortdoc "Makes a Phoenix application a gateway"

  @moduledoc """
  Writes what a Phoenix application needs to answer requests of clients.

      mix phoenix_gen_api.gen.gateway

  It creates, for an application `shop`:

  | File | What it is |
  |---|---|
  | `lib/shop_web/channels/gen_api_channel.ex` | the channel that answers requests: topics `api:…`, event `api`, ten requests at a time; messages of groups arrive as the event `message` |
  | `lib/shop_web/channels/gen_api_socket.ex` | who a client is: the user of the session where `mix phx.gen.auth` has run, otherwise the one of a signed token |
  | `lib/shop/gen_api.ex` | a child of the supervision tree that offers the functions of this application |
  | `test/shop_web/channels/gen_api_channel_test.exs` | a test of the channel |

  and adds to `config/dev.exs`, for development: reasons in error texts, checks of results, and the console at
  `/gen_api`. It prints what to add to the endpoint, the router and the supervision tree, unless it is there.
  `mix phoenix_gen_api.install` makes these additions as well, where Igniter is installed.

  It can be run again: files that are there stay as they are.
  """

  use Mix.Task

  alias Mix.PhoenixGenApi.{Project, Snippets, Templates, Writer}

  @impl true
  @spec run([String.t()]) :: :ok
  def run([]) do
    project = project!()
    snippets = Snippets.gateway(project)

    Writer.create(Templates.gateway(project))
    for snippet <- snippets, snippet.path == "config/dev.exs", do: Writer.inject(snippet)
    Writer.instruct(snippets)
    Mix.shell().info("\n" <> next())
  end

  def run([unexpected | _rest]),
    do: Mix.raise("mix phoenix_gen_api.gen.gateway takes no arguments, and got #{unexpected}")

  @doc false
  @spec project!() :: Project.t()
  def project! do
    project = Project.read()

    if project.web == nil do
      Mix.raise(
        "this is no Phoenix application: there is no folder #{project.lib}_web. " <>
          "For a node that only has functions, run mix phoenix_gen_api.gen.service NAME"
      )
    end

    project
  end

  @doc false
  @spec next() :: String.t()
  def next do
    """
    Then add a function and call it:

        mix phoenix_gen_api.gen.service hello
        mix phoenix_gen_api.console
    """
  end
end
