defmodule Demo.Transcript do
  # Prints what happens and keeps count of what was expected of it.
  @moduledoc false

  defstruct count: 0, failed: 0, colours?: false

  def new, do: %__MODULE__{colours?: System.get_env("DEMO_COLOURS") == "1"}

  def heading(transcript, text, note) do
    IO.puts(["\n", paint(transcript, [:bright], text)])
    if note, do: IO.puts(note)
    transcript
  end

  @doc "One expectation: a title, what was seen, and why that is wrong, if it is."
  def check(transcript, title, lines, problems) do
    transcript = %{transcript | count: transcript.count + 1}
    IO.puts([number(transcript), " ", verdict(transcript, problems), title])
    Enum.each(lines, &IO.puts(["      " | &1]))

    for {expected, got} <- problems do
      IO.puts("      expected  #{expected}\n      but got   #{got}")
    end

    if problems == [], do: transcript, else: %{transcript | failed: transcript.failed + 1}
  end

  @doc "The last line; the exit status."
  def summary(%{failed: 0} = transcript, seconds) do
    text = "All #{transcript.count} expectations held, in #{round(seconds)} s."
    IO.puts(["\n", paint(transcript, [:green, :bright], text)])
    0
  end

  def summary(transcript, seconds) do
    text =
      "FAILED: #{transcript.failed} of #{transcript.count} expectations did not hold, in #{round(seconds)} s."

    IO.puts(["\n", paint(transcript, [:red, :bright], text)])
    1
  end

  @doc "A duration in native units as milliseconds, seven columns wide."
  def ms(native) do
    us = System.convert_time_unit(native, :native, :microsecond)
    String.pad_leading(:erlang.float_to_binary(us / 1000, decimals: 1), 7) <> " ms"
  end

  defp number(transcript), do: transcript.count |> Integer.to_string() |> String.pad_leading(3)

  defp verdict(transcript, []), do: paint(transcript, [:green], "ok      ")
  defp verdict(transcript, _problems), do: paint(transcript, [:red, :bright], "FAILED  ")

  defp paint(%{colours?: true}, style, text), do: IO.ANSI.format(style ++ [text], true)
  defp paint(_plain, _style, text), do: text
end
