defmodule PhoenixGenApi.ServiceGuard.Refused do
  @moduledoc "What a guarded service node answers to a call of a function that it has not registered."

  @type t :: %__MODULE__{module: module(), function: atom(), arity: arity(), node: node()}

  defexception [:module, :function, :arity, :node]

  @impl true
  def message(%{module: module, function: function, arity: arity, node: node}),
    do: "#{Exception.format_mfa(module, function, arity)} is not registered by node #{node}"
end
