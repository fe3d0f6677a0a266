defmodule PhoenixGenApi.Decisions do
  @moduledoc false
  # What operators decide at run time: which functions are disabled, which nodes are drained,
  # which limits are in force. A decision holds on every connected gateway and on those that join
  # later, the last one of two on the same thing; with `local: true` it holds on this one alone.
  #
  # Every decision has a Lamport stamp, so that gateways agree which of two is the last, in
  # whatever order they hear of them. What a decision does is done by the module for its kind, see
  # `c:decided/3`. The supervisor names these modules, which ask here for decisions themselves.

  alias PhoenixGenApi.Decisions.{Server, Store}

  @typedoc "Where a decision was made: here, or on another gateway."
  @type from :: :here | node()

  @doc """
  Does what was decided. Returns the value that other gateways are told, which may be another one
  than `change`, or why nothing was done: `{:kept, why}` where this gateway does otherwise than the
  others, and an error where the decision cannot be.
  """
  @callback decided(Store.key(), change :: Store.value(), from()) ::
              {:ok, Store.value()} | {:kept, String.t()} | {:error, term()}

  @doc "Decides. The only option is `local: true`."
  @spec decide(Store.key(), Store.value(), keyword()) :: :ok | {:error, term()}
  def decide(key, change, opts) do
    local? = Keyword.fetch!(Keyword.validate!(opts, local: false), :local)
    GenServer.call(Server, {:decide, key, change, local?}, :infinity)
  catch
    # It was not there, or ended before it answered.
    :exit, {_reason, {GenServer, :call, _}} -> {:error, :not_running}
  end

  @doc "What holds on this gateway, in words: whether on all, since when, decided by which gateway."
  @spec all() :: [{:all | :here, milliseconds :: integer(), node(), String.t()}]
  def all do
    for {where, {_key, %{at: at, stamp: {_number, gateway}}} = row} <- Store.all(),
        do: {where, at, gateway, Server.sentence(row)}
  end
end
