defmodule PhoenixGenApi.ConfigSync.JoinedNodes do
  @moduledoc false
  # The nodes that have joined a service by pushing the content that it has, each with only its own name.
  # They are kept beside the push and not in it: a node that comes is no new push, so it neither undoes
  # a rollback nor brings back what was deleted elsewhere.
  #
  # Per service a set that only grows, with the time of each node's last push; merging takes the later
  # time, in any order. A node that left is forgotten by each gateway for itself: what it has forgotten
  # does not come back from another gateway, but with a later push.
  #
  # Rows, in the table of `PushStore`, written by the holder of the service's lock:
  #   {{:joined, service}, {fingerprint, joined, forgotten}}    both %{node => microseconds since 1970}

  alias PhoenixGenApi.ConfigSync.{Content, PushStore}

  @table PushStore
  # Of a service, the latest; so many nodes of one are supported.
  @max_nodes 1_000
  # The name of every node that has none: nobody else reaches it by that.
  @unnamed :nonode@nohost

  @type joined :: %{node() => microseconds :: integer()}
  @type row :: {Content.fingerprint(), joined()}

  @doc "The nodes that have joined with this content."
  @spec of(String.t(), Content.fingerprint()) :: [node()]
  def of(service, fingerprint) do
    case fetch(service) do
      {^fingerprint, joined, _forgotten} -> joined |> Map.keys() |> Enum.sort()
      _of_another_content -> []
    end
  end

  @doc "What other gateways are told of a service."
  @spec row(String.t()) :: row() | nil
  def row(service) do
    with {fingerprint, joined, _forgotten} when joined != %{} <- fetch(service),
         do: {fingerprint, joined},
         else: (_nobody -> nil)
  end

  @doc "The same for all services."
  @spec rows() :: %{String.t() => row()}
  def rows do
    rows = :ets.select(@table, [{{{:joined, :"$1"}, {:"$2", :"$3", :_}}, [], [:"$$"]}])

    for [service, fingerprint, joined] <- rows,
        joined != %{},
        into: %{},
        do: {service, {fingerprint, joined}}
  end

  @doc "A short name for all of it."
  @spec summary(%{String.t() => row()}) :: binary()
  def summary(rows),
    do: :erlang.md5(:erlang.term_to_binary(rows, [:deterministic, minor_version: 2]))

  @doc "The services that a node has joined."
  @spec services(node()) :: [String.t()]
  def services(node), do: for({service, {_, %{^node => _}}} <- rows(), do: service)

  @doc "All nodes that have joined a service."
  @spec nodes() :: [node()]
  def nodes, do: for({_service, {_, joined}} <- rows(), {node, _} <- joined, uniq: true, do: node)

  @doc "A node has joined, or has pushed the first of this content."
  @spec add(String.t(), Content.fingerprint(), node(), integer()) :: :ok
  def add(_service, _fingerprint, @unnamed, _at), do: :ok

  def add(service, fingerprint, node, at) do
    {joined, forgotten} = known(service, fingerprint)
    at = max(at, max(joined[node] || 0, forgotten[node] || 0) + 1)
    put(service, fingerprint, Map.put(joined, node, at), Map.delete(forgotten, node))
  end

  @doc "With what another gateway knows of the same content: the nodes that are new here."
  @spec merge(String.t(), Content.fingerprint(), joined()) :: [node()]
  def merge(service, fingerprint, theirs) do
    {joined, forgotten} = known(service, fingerprint)
    theirs = Map.reject(theirs, fn {node, at} -> at <= Map.get(forgotten, node, at - 1) end)
    merged = Map.merge(joined, theirs, fn _node, a, b -> max(a, b) end)

    if merged != joined,
      do: put(service, fingerprint, merged, Map.drop(forgotten, Map.keys(theirs)))

    Map.keys(merged) -- Map.keys(joined)
  end

  @doc "A node is no longer one of the service."
  @spec forget(String.t(), node()) :: :ok
  def forget(service, node) do
    with {fingerprint, %{^node => at} = joined, forgotten} <- fetch(service),
         do: put(service, fingerprint, Map.delete(joined, node), Map.put(forgotten, node, at)),
         else: (_not_joined -> :ok)
  end

  @doc "The service has this content now: what joined another one goes."
  @spec keep(String.t(), Content.fingerprint() | nil) :: :ok
  def keep(service, fingerprint) do
    case fetch(service) do
      {other, _joined, _forgotten} when other != fingerprint ->
        :ets.delete(@table, {:joined, service})

      _the_same_or_none ->
        true
    end

    :ok
  end

  @spec any?(String.t()) :: boolean()
  def any?(service), do: :ets.member(@table, {:joined, service})

  defp known(service, fingerprint) do
    case fetch(service) do
      {^fingerprint, joined, forgotten} -> {joined, forgotten}
      _of_another_content -> {%{}, %{}}
    end
  end

  defp fetch(service) do
    case :ets.lookup(@table, {:joined, service}) do
      [{_key, known}] -> known
      [] -> nil
    end
  end

  defp put(service, fingerprint, joined, forgotten) do
    :ets.insert(@table, {{:joined, service}, {fingerprint, latest(joined), latest(forgotten)}})
    :ok
  end

  defp latest(nodes) when map_size(nodes) <= @max_nodes, do: nodes

  defp latest(nodes) do
    nodes
    |> Enum.sort_by(fn {node, at} -> {at, node} end, :desc)
    |> Enum.take(@max_nodes)
    |> Map.new()
  end
end
