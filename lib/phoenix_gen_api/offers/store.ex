defmodule PhoenixGenApi.Offers.Store do
  @moduledoc false
  # What this gateway knows of offers. The table belongs to the supervisor: a crash of the process that writes
  # it, `Offers.Server`, loses nothing.
  #
  # Rows:
  #   {{:member, offer}, member}               each offer of a process, which was let in
  #   {{:node, service, node}, record}         what a node offers, or has offered last
  #   {{:content, service, hash}, functions}   of the hashes that a record names
  #   {{:set, service, hashes}, handle, nodes} the candidates: the nodes that offer one of these contents
  #   {{:installed, service}, summary}         what the table of configs was given last
  #   {{:told, service}, kinds}                what else was said to be ignored

  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Service.Content

  @table __MODULE__

  # Spelt so that what reads the table does not depend on all that its writer needs.
  @writer Module.concat(["PhoenixGenApi", "Offers", "Server"])

  @typedoc "What one process offers of one service."
  @type offer :: {pid(), service :: String.t(), Content.hash()}

  @type member :: %{
          node: node(),
          since: DateTime.t(),
          state: :up | :draining
        }

  @typedoc "`left_at`, in ms of monotonic time, is nil while the node offers."
  @type record :: %{hashes: [Content.hash()], left_at: integer() | nil}

  @type functions :: %{Content.key() => {Content.hash(), PhoenixGenApi.Structs.FunConfig.t()}}

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc "The name of the process that writes it."
  @spec writer() :: atom()
  def writer, do: @writer

  @doc "Whether a connected node offers the service."
  @spec offered?(String.t()) :: boolean()
  def offered?(service), do: up(service) != []

  @doc "The nodes that offer the service now."
  @spec up(String.t()) :: [node()]
  def up(service) do
    for {{:node, _service, node}, %{left_at: nil}} <- match({{:node, service, :_}, :_}),
        do: node
  end

  @doc "The services that are offered, or were."
  @spec services() :: [String.t()]
  def services,
    do: for({{:installed, service}, _summary} <- match({{:installed, :_}, :_}), do: service)

  @doc "The services of which a node is known."
  @spec recorded() :: [String.t()]
  def recorded,
    do:
      for(
        {{:node, service, _node}, _record} <- match({{:node, :_, :_}, :_}),
        uniq: true,
        do: service
      )

  @spec members() :: [{offer(), member()}]
  def members,
    do: for({{:member, offer}, member} <- match({{:member, :_}, :_}), do: {offer, member})

  @spec members(String.t()) :: [{offer(), member()}]
  def members(service) do
    for {{:member, offer}, member} <- match({{:member, {:_, service, :_}}, :_}),
        do: {offer, member}
  end

  @spec member(offer()) :: member() | nil
  def member(offer), do: value({:member, offer})

  @spec records(String.t()) :: %{node() => record()}
  def records(service) do
    for {{:node, _service, node}, record} <- match({{:node, service, :_}, :_}),
        into: %{},
        do: {node, record}
  end

  @doc "The contents that a node offers now, or has offered last."
  @spec hashes(String.t(), node()) :: [Content.hash()]
  def hashes(service, node) do
    case value({:node, service, node}) do
      %{hashes: hashes} -> hashes
      nil -> []
    end
  end

  @spec contents(String.t()) :: %{Content.hash() => functions()}
  def contents(service) do
    for {{:content, _service, hash}, functions} <- match({{:content, service, :_}, :_}),
        into: %{},
        do: {hash, functions}
  end

  @spec content_hashes(String.t()) :: [Content.hash()]
  def content_hashes(service) do
    if OwnedTable.exists?(@table),
      do: :ets.select(@table, [{{{:content, service, :"$1"}, :_}, [], [:"$1"]}]),
      else: []
  end

  @spec content?(String.t(), Content.hash()) :: boolean()
  def content?(service, hash), do: :ets.member(@table, {:content, service, hash})

  @spec sets(String.t()) :: %{[Content.hash()] => {reference(), [node()]}}
  def sets(service) do
    for {{:set, _service, hashes}, handle, nodes} <- match({{:set, service, :_}, :_, :_}),
        into: %{},
        do: {hashes, {handle, nodes}}
  end

  @spec installed(String.t()) :: term()
  def installed(service), do: value({:installed, service})

  @spec put_member(offer(), member()) :: true
  def put_member(offer, member), do: :ets.insert(@table, {{:member, offer}, member})

  @spec put_record(String.t(), node(), record()) :: true
  def put_record(service, node, record), do: :ets.insert(@table, {{:node, service, node}, record})

  @spec put_content(String.t(), Content.hash(), functions()) :: true
  def put_content(service, hash, functions),
    do: :ets.insert(@table, {{:content, service, hash}, functions})

  @spec put_set(String.t(), [Content.hash()], reference(), [node()]) :: true
  def put_set(service, hashes, handle, nodes),
    do: :ets.insert(@table, {{:set, service, hashes}, handle, nodes})

  @spec put_installed(String.t(), term()) :: true
  def put_installed(service, summary), do: :ets.insert(@table, {{:installed, service}, summary})

  @doc "Whether this is the first time, while the service is offered, that something of that kind is ignored."
  @spec first?(String.t(), :push | :pull) :: boolean()
  def first?(service, kind) do
    told = value({:told, service}) || []
    if kind not in told, do: :ets.insert(@table, {{:told, service}, [kind | told]})
    kind not in told
  end

  @spec delete(tuple()) :: true
  def delete(key), do: :ets.delete(@table, key)

  @doc "Forgets all of a service but its members."
  @spec forget(String.t()) :: :ok
  def forget(service) do
    :ets.match_delete(@table, {{:node, service, :_}, :_})
    :ets.match_delete(@table, {{:content, service, :_}, :_})
    :ets.match_delete(@table, {{:set, service, :_}, :_, :_})
    :ets.delete(@table, {:installed, service})
    :ets.delete(@table, {:told, service})
    :ok
  end

  defp value(key) do
    case :ets.lookup(@table, key) do
      [{_key, value}] -> value
      [] -> nil
    end
  end

  # Nothing is offered where no gateway runs.
  defp match(pattern) do
    if OwnedTable.exists?(@table), do: :ets.match_object(@table, pattern), else: []
  end
end
