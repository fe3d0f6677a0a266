defmodule PhoenixGenApi.ConfigSync.PushStore do
  @moduledoc false
  # What was pushed, here or to another gateway. The table belongs to the supervisor, so that no
  # crash below it loses a push. Only the holder of a service's lock writes its rows.
  #
  # Rows: {service, version vector, applied, refused}
  #       {{:content, service, digest}, binary}   of the live pushes, and of the applied one
  #       {{:outline, service, digest}, outline}  of the same, where it is known
  #       {{:joined, service}, …}                 of `JoinedNodes`
  #       {{:differing, service}, [sender]}       who pushed the applied version with other content
  #       {{:dirty, service}}                     its functions may not be those of `applied`
  #       {{:replicating, service}, mark}         what other gateways may not have yet
  #       {{:behind, node}}                       a gateway that has missed something
  #       {:deletions, integer}                   since the oldest were forgotten
  #       {:life, integer}                        this life of the application

  alias PhoenixGenApi.ConfigSync.{Content, VersionVector}
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Structs.PushConfig

  @table __MODULE__
  # Services that were deleted everywhere and are remembered, so that a gateway that was cut off
  # does not bring them back.
  @max_deleted 10_000
  # Senders remembered whose pushes differ.
  @max_differing 100
  # Forgetting takes a look at all services: not each time.
  @deleted_at_once 1_000

  @typedoc """
  `applied` is the push whose functions are in the table of configs. It is the winner of the
  version vector, unless this gateway has refused that one: then `refused` says so.
  """
  @type entry :: %{
          vector: VersionVector.t(),
          applied: VersionVector.push() | nil,
          refused: VersionVector.dot() | nil
        }

  @type contents :: %{(digest :: binary()) => binary()}
  @type outlines :: %{(digest :: binary()) => Content.outline()}

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new do
    OwnedTable.new(@table, [:set, read_concurrency: true], fn ->
      [{:life, :rand.uniform(1_000_000_000_000_000)}]
    end)
  end

  @doc "How this life of this gateway is named in version vectors."
  @spec gateway() :: VersionVector.gateway()
  def gateway, do: {node(), :ets.lookup_element(@table, :life, 2)}

  @doc "What is known of a service, which may be nothing."
  @spec entry(term()) :: entry()
  def entry(service) do
    case :ets.lookup(@table, service) do
      [{_service, vector, applied, refused}] ->
        %{vector: vector, applied: applied, refused: refused}

      [] ->
        %{vector: VersionVector.new(), applied: nil, refused: nil}
    end
  end

  @doc "Notes that functions of a service are about to change, until `put/3` or `clear_dirty/1`."
  @spec mark_dirty(String.t()) :: true
  def mark_dirty(service), do: :ets.insert(@table, {{:dirty, service}})

  @doc "Notes that its functions are those of `applied`."
  @spec clear_dirty(String.t()) :: true
  def clear_dirty(service), do: :ets.delete(@table, {:dirty, service})

  @spec dirty?(String.t()) :: boolean()
  def dirty?(service), do: :ets.member(@table, {:dirty, service})

  @doc """
  Replaces the entry of a service, whose functions are now those of `applied`. `contents` are
  those of its pushes that are new, `outlines` those that the caller happens to know.
  """
  @spec put(String.t(), entry(), contents(), outlines()) :: :ok
  def put(service, entry, contents \\ %{}, outlines \\ %{}) do
    %{applied: applied} = before = entry(service)
    needed = digests(entry)

    for {kind, new} <- [content: contents, outline: outlines],
        {digest, value} <- new,
        digest in needed,
        do: :ets.insert(@table, {{kind, service, digest}, value})

    :ets.insert(@table, {service, entry.vector, entry.applied, entry.refused})
    clear_dirty(service)

    for digest <- digests(before) -- needed,
        kind <- [:content, :outline],
        do: :ets.delete(@table, {kind, service, digest})

    if entry.applied != applied, do: :ets.delete(@table, {:differing, service})
    if entry.vector.live == [], do: :ets.delete(@table, {:joined, service})
    if needed == [] and deletions() == 0, do: forget_oldest()
    :ok
  end

  @doc "The version of the push whose functions are stored."
  @spec version(term()) :: String.t() | nil
  def version(service) do
    case entry(service).applied do
      %{version: version} -> version
      nil -> nil
    end
  end

  @doc "The same for all services that have one."
  @spec versions() :: %{String.t() => String.t()}
  def versions do
    Map.new(:ets.select(@table, [{{:"$1", :_, %{version: :"$2"}, :_}, [], [{{:"$1", :"$2"}}]}]))
  end

  @doc "A push as it is kept and sent, with its digest. Compressed: functions are much alike."
  @spec pack(PushConfig.t()) :: {digest :: binary(), binary()}
  def pack(push) do
    binary = :erlang.term_to_binary(push, [:deterministic, compressed: 1, minor_version: 2])
    {:crypto.hash(:sha256, binary), binary}
  end

  @doc "The push, with the fields of this version of the library."
  @spec unpack(binary()) :: PushConfig.t()
  def unpack(binary),
    do: struct(PushConfig, binary |> :erlang.binary_to_term() |> Map.from_struct())

  @doc "A push as it is kept."
  @spec content(String.t(), digest :: binary()) :: {:ok, binary()} | :error
  def content(service, digest) do
    case :ets.lookup(@table, {:content, service, digest}) do
      [{_key, binary}] -> {:ok, binary}
      [] -> :error
    end
  end

  @doc "The outline of a push that is kept."
  @spec outline(String.t(), digest :: binary()) :: {:ok, Content.outline()} | :error
  def outline(service, digest) do
    case :ets.lookup(@table, {:outline, service, digest}) do
      [{_key, outline}] ->
        {:ok, outline}

      [] ->
        with {:ok, content} <- content(service, digest),
             do: {:ok, content |> unpack() |> Content.outline()}
    end
  end

  @doc "Notes that a sender pushes the version of `applied` with another content, or no longer."
  @spec mark_differing(String.t(), node() | nil, boolean()) :: true
  def mark_differing(service, sender, differing?) do
    others = List.delete(differing(service), sender)

    case if(differing?, do: Enum.take([sender | others], @max_differing), else: others) do
      [] -> :ets.delete(@table, {:differing, service})
      senders -> :ets.insert(@table, {{:differing, service}, senders})
    end
  end

  @doc "The senders of such pushes."
  @spec differing(String.t()) :: [node() | nil]
  def differing(service) do
    case :ets.lookup(@table, {:differing, service}) do
      [{_key, senders}] -> senders
      [] -> []
    end
  end

  @doc "What is known of these services."
  @spec vectors([String.t()]) :: %{String.t() => VersionVector.t()}
  def vectors(services), do: Map.new(services, &{&1, entry(&1).vector})

  @doc "A short name for what is known of each service."
  @spec stamps() :: %{String.t() => binary()}
  def stamps,
    do: Map.new(all(), fn {service, vector} -> {service, VersionVector.stamp(vector)} end)

  @doc "A short name for all of it: gateways that have the same know the same."
  @spec summary(%{String.t() => binary()}) :: binary()
  def summary(stamps), do: :erlang.md5(:erlang.term_to_binary(Enum.sort(stamps)))

  @doc """
  Notes that the other gateways may not have what is known of a service now, until `mark_replicated/2`
  with the same mark.
  """
  @spec mark_replicating(String.t()) :: mark :: reference()
  def mark_replicating(service) do
    mark = make_ref()
    :ets.insert(@table, {{:replicating, service}, mark})
    mark
  end

  @doc "Notes that they have it."
  @spec mark_replicated(String.t(), mark :: reference()) :: true
  def mark_replicated(service, mark),
    do: :ets.delete_object(@table, {{:replicating, service}, mark})

  @doc "The mark of what they may not have."
  @spec replicating(String.t()) :: reference() | nil
  def replicating(service) do
    case :ets.lookup(@table, {:replicating, service}) do
      [{_key, mark}] -> mark
      [] -> nil
    end
  end

  @doc "Notes that a gateway has missed something."
  @spec mark_behind(node()) :: true
  def mark_behind(node), do: :ets.insert(@table, {{:behind, node}})

  @doc "Notes that it has not."
  @spec mark_caught_up(node()) :: true
  def mark_caught_up(node), do: :ets.delete(@table, {:behind, node})

  @spec behind?(node()) :: boolean()
  def behind?(node), do: :ets.member(@table, {:behind, node})

  @doc "The gateways that have missed something."
  @spec all_behind() :: [node()]
  def all_behind, do: :ets.select(@table, [{{{:behind, :"$1"}}, [], [:"$1"]}])

  defp digests(%{vector: %{live: live}, applied: applied}),
    do: for(%{digest: digest} <- [applied | live], uniq: true, do: digest)

  defp all, do: :ets.select(@table, [{{:"$1", :"$2", :_, :_}, [], [{{:"$1", :"$2"}}]}])

  defp forget_oldest do
    deleted =
      for {service, %{live: []} = vector} <- all(), do: {VersionVector.last_seen(vector), service}

    for {_number, service} <- deleted |> Enum.sort(:desc) |> Enum.drop(@max_deleted),
        do: :ets.delete(@table, service)
  end

  defp deletions,
    do: :ets.update_counter(@table, :deletions, {2, 1, @deleted_at_once, 0}, {:deletions, 0})
end
