defmodule Mix.Tasks.PhoenixGenApi.Console do
  @shortdoc "Serves a page for calling the functions of this project"

  @moduledoc """
  Starts the application of this project and serves the console: a page that lists its functions and calls
  them.

      mix phoenix_gen_api.console [--port 4040] [--user ID] [--role ROLE]...

  | Option | Default | Meaning |
  |---|---|---|
  | `--port` | `4040` | the port, on the loopback interface only; 0 for one that is free |
  | `--user` | `console` | the user id that requests are made with; the page can change it |
  | `--role` | none | a role of that user; may be given several times |

  Functions are those that the gateway knows: of services in its cluster too, when it is started as a node,
  for example with `iex --name gw@127.0.0.1 -S mix phoenix_gen_api.console`. To serve the console in a running
  Phoenix application, see the option `console` of `PhoenixGenApi.Http`.
  """

  use Mix.Task

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Http.Inets

  @switches [port: :integer, user: :string, role: :keep]

  @impl true
  @spec run([String.t()]) :: :ok
  def run(args) do
    {_server, address} = start(args)
    Mix.shell().info("#{address}\n\nCtrl-C twice ends it.")
    unless iex?(), do: Process.sleep(:infinity)
    :ok
  end

  @doc false
  @spec start([String.t()]) :: {pid(), String.t()}
  def start(args) do
    options = parse(args)
    Mix.Task.run("app.start")

    if Gateway.handle(:config_db) == {:error, :not_running} do
      Mix.raise(
        "no gateway runs in this project: its configuration says client_mode: true, or it does not start " <>
          ":phoenix_gen_api"
      )
    end

    identity = %{
      user_id: Keyword.get(options, :user, "console"),
      user_roles: Keyword.get_values(options, :role)
    }

    port = Keyword.get(options, :port, 4040)

    case Inets.start_link(port: port, identity: identity, console: true) do
      {:ok, server} -> {server, "http://localhost:#{Inets.port(server)}/"}
      {:error, _reason} -> Mix.raise("port #{port} is in use; choose another one with --port")
    end
  end

  defp parse(args) do
    case OptionParser.parse(args, strict: @switches) do
      {options, [], []} ->
        if Keyword.get(options, :port, 0) in 0..65_535,
          do: options,
          else: Mix.raise("--port must be from 0 to 65535")

      {_options, rest, invalid} ->
        wrong = rest ++ Enum.map(invalid, &elem(&1, 0))

        Mix.raise(
          "mix phoenix_gen_api.console: unexpected #{Enum.join(wrong, " ")}; " <>
            "the options are --port, --user and --role"
        )
    end
  end

  defp iex?, do: Code.ensure_loaded?(IEx) and IEx.started?()
end
