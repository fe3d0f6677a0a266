defmodule Demo.Math do
  # Functions that run on every node of the demo.
  @moduledoc false

  alias Demo.Witness

  def add(a, b, c), do: Witness.seen(a + b + c)

  def slow(text) do
    Witness.seen(text)
    Process.sleep(400)
    text
  end

  @doc "For measuring: nothing but the result."
  def volume(a, b, c), do: a * b * c
end
