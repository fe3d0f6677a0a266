defmodule Mix.PhoenixGenApi.Writer do
  @moduledoc false
  # Writes what the generators make. A file that is there is kept: it may have been changed.

  alias Mix.PhoenixGenApi.{Snippets, Templates}

  @doc "Creates the files that are not there."
  @spec create([Templates.file()]) :: :ok
  def create(files) do
    for {path, text} <- files do
      there = Enum.find(places(path), path, &File.exists?/1)

      case File.read(there) do
        {:ok, ^text} -> say("unchanged", there)
        {:ok, _other} -> say("kept", there)
        {:error, _none} -> Mix.Generator.create_file(path, text)
      end
    end

    :ok
  end

  @doc "Where a file may be: in the folder of channels, or where Igniter moves it, by the name of its module."
  @spec places(String.t()) :: [String.t()]
  def places(path), do: Enum.uniq([path, String.replace(path, "/channels/", "/")])

  @doc "Makes an addition to a file, if it has it not and there is a place for it; says whether it has it then."
  @spec inject(Snippets.t()) :: boolean()
  def inject(%{path: path} = snippet), do: change(path, &Snippets.apply(snippet, &1))

  @doc "Changes a file that is there; says whether that could be done."
  @spec change(String.t(), (String.t() -> {:ok, String.t()} | :error)) :: boolean()
  def change(path, change) do
    with {:ok, text} <- File.read(path),
         {:ok, changed} <- change.(text) do
      if changed == text do
        say("unchanged", path)
      else
        File.write!(path, changed)
        Mix.shell().info([:green, "* injecting ", :reset, path])
      end

      true
    else
      _no_place -> false
    end
  end

  @doc "Prints which additions are left to be made."
  @spec instruct([Snippets.t()]) :: :ok
  def instruct(snippets) do
    with text when text != nil <- Snippets.instructions(snippets),
         do: Mix.shell().info("\n" <> text)

    :ok
  end

  defp say(what, path), do: Mix.shell().info("* #{what} #{path}")
end
