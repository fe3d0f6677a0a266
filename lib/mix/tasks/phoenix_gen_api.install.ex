defmodule Mix.Tasks.PhoenixGenApi.Install do
  @shortdoc "Makes a Phoenix application a gateway, by way of Igniter"

  @moduledoc """
  Makes all changes of `mix phoenix_gen_api.gen.gateway`, to the endpoint, the router and the supervision tree too.

      mix igniter.install phoenix_gen_api_native
      mix phoenix_gen_api.install

  It shows the changes and asks before it makes them; `--yes` makes them at once, `--dry-run` only shows them. In an
  application that is no Phoenix application it changes nothing.

  It needs [Igniter](https://hexdocs.pm/igniter). Where that is not installed, it does what
  `mix phoenix_gen_api.gen.gateway` does, which prints the rest.

  It can be run again: what is there stays as it is.
  """

  use Mix.Task

  alias Mix.PhoenixGenApi.{Project, Snippets, Templates}
  alias Mix.Tasks.PhoenixGenApi.Gen.Gateway

  # Not a dependency, so that no application has it because of this task: it is looked for when the task runs.
  @compile {:no_warn_undefined, [Igniter, Rewrite.Source, Igniter.Mix.Task.Info]}

  @switches [yes: :boolean, dry_run: :boolean]

  @typep igniter :: struct()

  @impl true
  @spec run([String.t()]) :: :ok
  def run(args) do
    {options, rest, invalid} = OptionParser.parse(args, strict: @switches, aliases: [y: :yes])
    wrong = rest ++ Enum.map(invalid, &elem(&1, 0))

    if wrong != [],
      do: Mix.raise("unexpected: #{Enum.join(wrong, " ")}; the options are --yes and --dry-run")

    if Code.ensure_loaded?(Igniter) do
      {:ok, _started} = Application.ensure_all_started(:igniter)
      igniter = Igniter.new() |> install(Gateway.project!())
      Igniter.do_or_dry_run(igniter, Keyword.put(options, :title, "PhoenixGenApi"))
      :ok
    else
      Mix.shell().info(
        "Igniter is not installed, so what to add to files that are there is printed.\n"
      )

      Gateway.run([])
    end
  end

  # What `mix igniter.install` asks of a task.

  @doc false
  @spec igniter(igniter()) :: igniter()
  def igniter(igniter) do
    project = Project.read()

    if project.web,
      do: install(igniter, project),
      else:
        Igniter.add_notice(
          igniter,
          "phoenix_gen_api: no Phoenix application, so nothing was added."
        )
  end

  @doc false
  @spec info([String.t()], String.t() | nil) :: struct()
  def info(_args, _composing),
    do: struct!(Igniter.Mix.Task.Info, example: "mix phoenix_gen_api.install", schema: [])

  @doc false
  @spec supports_umbrella?() :: boolean()
  def supports_umbrella?, do: false

  @doc false
  @spec installer?() :: boolean()
  def installer?, do: true

  defp install(igniter, project) do
    created =
      for {path, text} <- Templates.gateway(project), reduce: igniter do
        igniter -> Igniter.create_new_file(igniter, path, text, on_exists: :skip)
      end

    changed =
      for snippet <- Snippets.gateway(project),
          reduce: created,
          do: (igniter -> add(igniter, snippet))

    Igniter.add_notice(changed, Gateway.next())
  end

  defp add(igniter, snippet) do
    if Igniter.exists?(igniter, snippet.path) do
      Igniter.update_file(igniter, snippet.path, fn source ->
        text = Rewrite.Source.get(source, :content)

        case Snippets.apply(snippet, text) do
          {:ok, ^text} -> source
          {:ok, changed} -> Rewrite.Source.update(source, :content, changed)
          :error -> {:notice, instructions(snippet)}
        end
      end)
    else
      Igniter.add_notice(igniter, instructions(snippet))
    end
  end

  defp instructions(snippet), do: Snippets.instructions([snippet]) || "#{snippet.path} has it"
end
