defmodule PhoenixGenApi.DocBlocks do
  @moduledoc false
  # Reads the code and the tables of a markdown document, for the tests that run them.

  @reason ~r/^<!-- not run: (.+) -->$/
  @phoenix "<!-- needs Phoenix -->"
  @without_phoenix "Phoenix is not installed"
  @output ~s(<!-- livebook:{"output":true} -->)

  @type block :: %{code: String.t(), line: pos_integer(), not_run: String.t() | nil}

  @doc """
  The Elixir blocks, in order; `not_run` is the reason in the comment above a block, or that it
  needs Phoenix and there is none.
  """
  @spec blocks(String.t()) :: [block()]
  def blocks(markdown) do
    {blocks, _state} =
      markdown
      |> String.split("\n")
      |> Enum.with_index(1)
      |> Enum.flat_map_reduce({:text, nil}, &line/2)

    blocks
  end

  defp line({"```elixir" <> _, number}, {:text, reason}),
    do: {[], {:code, %{code: "", line: number + 1, not_run: reason}}}

  defp line({"```" <> _, _number}, {:text, _reason}), do: {[], :other_code}
  defp line({"```" <> _, _number}, :other_code), do: {[], {:text, nil}}
  defp line({_text, _number}, :other_code), do: {[], :other_code}
  defp line({"```" <> _, _number}, {:code, block}), do: {[block], {:text, nil}}

  defp line({text, _number}, {:code, block}),
    do: {[], {:code, %{block | code: block.code <> text <> "\n"}}}

  defp line({"", _number}, {:text, reason}), do: {[], {:text, reason}}

  defp line({@phoenix, _number}, {:text, _reason}) do
    {[], {:text, if(match?({:error, _}, :code.lib_dir(:phoenix)), do: @without_phoenix)}}
  end

  defp line({text, _number}, {:text, _reason}) do
    case Regex.run(@reason, text) do
      [_, reason] -> {[], {:text, reason}}
      nil -> {[], {:text, nil}}
    end
  end

  @doc """
  The statements of a block: `{line, code, expected}`. Code at an `iex>` prompt is expected to
  give the value written below it; other code only has to run.
  """
  @spec statements(block()) :: [{pos_integer(), String.t(), String.t() | nil}]
  def statements(%{code: code, line: line}) do
    if code =~ ~r/^iex>/m do
      code
      |> String.split(~r/^(?=iex>)/m, trim: true)
      |> Enum.map_reduce(line, fn text, at ->
        {prompted, expected} =
          text |> String.split("\n") |> Enum.split_while(&(&1 =~ ~r/^(iex|\.\.\.)>/))

        expected = expected |> Enum.join("\n") |> String.trim()
        statement = Enum.map_join(prompted, "\n", &String.replace(&1, ~r/^(iex|\.\.\.)> ?/, ""))
        expected = if expected != "", do: expected
        {{at, statement, expected}, at + length(String.split(text, "\n")) - 1}
      end)
      |> elem(0)
    else
      [{line, code, nil}]
    end
  end

  @doc """
  The cells of a Livebook notebook but its setup, as `statements/1` gives those of a block: the
  output below a cell is its expected value.
  """
  @spec cells(String.t()) :: [{pos_integer(), String.t(), String.t() | nil}]
  def cells(livemd) do
    ~r/^```elixir\n(.*?)^```$(?:\n\n#{Regex.escape(@output)}\n\n```\n(.*?)^```$)?/ms
    |> Regex.scan(livemd, return: :index)
    |> Enum.map(fn [_all, code | output] ->
      {start, _length} = code
      line = livemd |> binary_part(0, start) |> String.split("\n") |> length()
      {line, at(livemd, code), if(output != [], do: at(livemd, hd(output)))}
    end)
    |> Enum.reject(fn {_line, code, _expected} -> code =~ "Mix.install" end)
  end

  defp at(text, {start, length}), do: binary_part(text, start, length)

  @doc "The blocks of another language, in order: `{line, code}`."
  @spec blocks_of(String.t(), String.t()) :: [{pos_integer(), String.t()}]
  def blocks_of(markdown, language) do
    for [_all, {start, _length} = code] <-
          Regex.scan(~r/^```#{language}\n(.*?)^```$/ms, markdown, return: :index) do
      {markdown |> binary_part(0, start) |> String.split("\n") |> length(), at(markdown, code)}
    end
  end

  @doc "The rows of every table with that head: `{line, cells}`, cells without their backquotes."
  @spec rows(String.t(), [String.t()]) :: [{pos_integer(), [String.t()]}]
  def rows(markdown, head) do
    {rows, _in_table?} =
      markdown
      |> String.split("\n")
      |> Enum.with_index(1)
      |> Enum.flat_map_reduce(false, fn
        {"|-" <> _, _number}, inside? -> {[], inside?}
        {"|" <> _ = row, number}, true -> {[{number, columns(row)}], true}
        {"|" <> _ = row, _number}, false -> {[], columns(row) == head}
        {_text, _number}, _inside? -> {[], false}
      end)

    rows
  end

  defp columns(row) do
    row
    |> String.split(~r/(?<!\\)\|/)
    |> Enum.slice(1..-2//1)
    |> Enum.map(&(&1 |> String.trim() |> String.trim("`") |> String.replace("\\|", "|")))
  end
end
