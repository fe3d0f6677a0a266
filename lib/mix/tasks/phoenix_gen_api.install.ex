defmodule Mix.Tasks.PhoenixGenApi.Install do
  @shortdoc "Makes a Phoenix application a gateway, by way of Igniter"

  @moduledoc """
  Makes all changes of `mix phoenix_gen_api.gen.gateway`, to the endpoint, the router and the supervision tree too.

      mix phoenix_gen_api.install

  It shows the changes and asks before it makes them; `--yes` makes them at once, `--dry-run` only shows them.

  It needs [Igniter](https://hexdocs.pm/igniter). Where that is not installed, it does what
  `mix phoenix_gen_api.gen.gateway` does, which prints the rest.

  It can be run again: what is there stays as it is.
  """

  use Mix.Task

  alias Mix.PhoenixGenApi.{Snippets, Templates, Writer}
  alias Mix.Tasks.PhoenixGenApi.Gen.Gateway

  # Not a dependency, so that no application has it because of this task: it is looked for when the task runs.
  @compile {:no_warn_undefined, [Igniter, Rewrite.Source]}

  @switches [yes: :boolean, dry_run: :boolean]

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

  defp install(igniter, project) do
    created =
      for {path, text} <- Templates.gateway(project),
          not Enum.any?(Writer.places(path), &Igniter.exists?(igniter, &1)),
          reduce: igniter do
        igniter -> Igniter.create_new_file(igniter, path, text)
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
