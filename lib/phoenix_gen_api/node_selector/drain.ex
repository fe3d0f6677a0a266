defmodule PhoenixGenApi.NodeSelector.Drain do
  @moduledoc false
  # What draining a node does on one gateway.
  @behaviour PhoenixGenApi.Decisions

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native

  @impl true
  def decided({:node, node}, change, _from) when change in [:drain, :undrain] do
    with {:ok, selector} <- Gateway.handle(:node_selector) do
      Native.node_selector_mark(selector, Atom.to_string(node), change)
      {:ok, change}
    end
  end
end
