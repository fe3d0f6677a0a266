defmodule PhoenixGenApi.Doctor.Finding do
  @moduledoc false
  # One thing that is wrong, with why it matters and what to do.

  alias PhoenixGenApi.SafeInspect

  @enforce_keys [:id, :level, :node, :what, :why, :fix]
  defstruct [:id, :level, :node, :what, :why, :fix]

  @type level :: :error | :warning
  @type t :: %__MODULE__{
          id: atom(),
          level: level(),
          node: node() | nil,
          what: String.t(),
          why: String.t(),
          fix: String.t()
        }

  # Names that one sentence shows.
  @named 5

  @spec new(atom(), level(), node() | nil, String.t(), String.t(), String.t()) :: t()
  def new(id, level, node, what, why, fix),
    do: %__MODULE__{id: id, level: level, node: node, what: what, why: why, fix: fix}

  @doc "The finding as a one-element list, or none."
  @spec only(boolean(), t()) :: [t()]
  def only(true, finding), do: [finding]
  def only(false, _finding), do: []

  @doc "Some names, for a sentence."
  @spec names([term()]) :: String.t()
  def names(names), do: names |> Enum.map(&to_string/1) |> SafeInspect.list(@named)

  @doc "The finding as lines of text."
  @spec format(t()) :: String.t()
  def format(finding) do
    at = if finding.node, do: " (#{finding.node})"
    "#{finding.level}: #{finding.what}#{at}\n  why: #{finding.why}\n  do:  #{finding.fix}\n"
  end
end
