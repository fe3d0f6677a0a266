defmodule PhoenixGenApi.CandidateSet do
  @moduledoc false
  # Nodes that come and go while plans refer to them: a change is visible to the next request, and no plan is
  # compiled for it. The native side holds them; a plan with a set chooses among the members of the moment.

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native

  @type t :: reference()

  @doc "A set without members."
  @spec new() :: {:ok, t()} | {:error, :not_running}
  def new do
    with {:ok, selector} <- Gateway.handle(:node_selector),
         do: {:ok, Native.candidate_set_new(selector)}
  end

  @doc "The set of a function that is stored under exactly this key, if it takes its nodes from one."
  @spec of_function(String.t(), String.t(), String.t()) :: t() | nil
  def of_function(service, request_type, version) do
    with {:ok, table} <- Gateway.handle(:config_db) do
      Native.candidate_set_of_function(table, service, request_type, version)
    else
      {:error, :not_running} -> nil
    end
  end

  @doc """
  These are the members from now on: the first 1,000 of them by name, which every gateway takes that is given the
  same nodes.
  """
  @spec put(t(), [node()]) :: :ok
  def put(set, nodes), do: Native.candidate_set_put(set, nodes)

  @doc "The members, in the order of their names."
  @spec nodes(t()) :: [node()]
  def nodes(set), do: Native.candidate_set_nodes(set)
end
