defmodule Mix.Tasks.PhoenixGenApi.Contract.Check do
  @shortdoc "Says whether an API still serves the clients of an earlier one"
  @moduledoc """
  Compares the description of an API with an earlier one and fails if clients of that would break.

      mix phoenix_gen_api.contract.check contract.json --apis Shop.Prices,Shop.Orders
      mix phoenix_gen_api.contract.check old.json new.json

  Prints a sentence for each change, as `PhoenixGenApi.Contract.compare/2` tells them, and exits with status 1 if
  there is a breaking one:

      breaking: shop price 1.0.0: argument item has a maximum length of 10 instead of 40
      compatible: shop price 1.0.0: argument note is new

  The first file is what `mix phoenix_gen_api.contract` has written. The second is compared with it; instead of
  the second one, the options name what is compared: `--apis Mod,Mod`, `--node NAME` with `--cookie`, and
  without any of them the gateway of this project, which is started.
  """
  use Mix.Task

  alias Mix.PhoenixGenApi.Source
  alias PhoenixGenApi.Contract

  @impl true
  def run(args) do
    {opts, files} = OptionParser.parse!(args, strict: Source.switches())

    {old, opts} =
      case files do
        [old] -> {old, opts}
        [old, new] -> {old, [{:contract, new} | opts]}
        _none_or_more -> Mix.raise("name one file to compare with, and at most one to compare")
      end

    Source.check!(opts)
    changes = Contract.compare(Source.of_file(old), Source.description(opts))
    {breaking, compatible} = Enum.split_with(changes, &(&1.severity == :breaking))
    for change <- compatible, do: Mix.shell().info("compatible: #{change.message}")
    for change <- breaking, do: Mix.shell().error("breaking: #{change.message}")
    if breaking != [], do: exit({:shutdown, 1})
    Mix.shell().info("no breaking change")
  end
end
