defmodule PhoenixGenApi.ArgumentModel.Text do
  @moduledoc false
  # How terms are shown in the error strings of the oracle. The cutting itself is pinned by
  # the tests of `PhoenixGenApi.SafeInspect`.

  alias PhoenixGenApi.SafeInspect

  # A path, a request type, a list of names, a type, or a value of no JSON type.
  def shown(term), do: SafeInspect.inspect(term, 500)

  def path(term), do: shown(term)

  # A value sent by the caller.
  def value(term), do: SafeInspect.inspect(term, 100)
end
