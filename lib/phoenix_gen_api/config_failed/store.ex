defmodule PhoenixGenApi.ConfigFailed.Store do
  @moduledoc false
  # A bounded, expiring log of entries. The table belongs to whoever calls `new/1`
  # (the application's supervisor), so no crash of the writer loses an entry. One
  # process writes, which makes the bound and the counts exact; readers go to the table.
  #
  # Rows, in the order of the table:
  #   {:sequence, last, bytes}                                  of all entries together
  #   {{:entry, sequence}, expires_at_ms, fingerprint, packed}  oldest first
  #   {{:fingerprint, fingerprint}, sequence}
  # An atom sorts before a tuple and :entry before :fingerprint, so the row after
  # :sequence is the oldest entry.
  #
  # Entries are packed: names and configs come from other nodes, and a binary that is part of a larger
  # one would keep all of that in memory.

  use GenServer

  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.OwnedTable

  @max_entries 1000
  @max_bytes 16_777_216
  @lifetime_ms 24 * 60 * 60 * 1000
  @cleanup_interval_ms 10 * 60 * 1000

  @type name :: atom()
  @type not_running :: {:error, :not_running}

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new(name()) :: :ok
  def new(name), do: OwnedTable.new(name, [:ordered_set, read_concurrency: true])

  @doc "Starts the writer of the table `:name`, which also removes expired entries on a timer."
  @spec start_link(name: name()) :: GenServer.on_start()
  def start_link(options) do
    name = Keyword.fetch!(options, :name)
    GenServer.start_link(__MODULE__, name, name: name)
  end

  @doc "How long an entry lives after its last failure, in milliseconds."
  @spec lifetime_ms() :: pos_integer()
  def lifetime_ms, do: @lifetime_ms

  @doc "Stores the entry, or renews the one that records the same failure."
  @spec put(name(), ConfigFailed.entry(), integer()) ::
          {:ok, ConfigFailed.entry()} | not_running()
  def put(name, entry, now), do: write(name, {:put, entry, now})

  @doc "The entries that have not expired, oldest first."
  @spec entries(name(), integer()) :: {:ok, [ConfigFailed.entry()]} | not_running()
  def entries(name, now) do
    packed = :ets.select(name, [{{{:entry, :_}, :"$1", :_, :"$2"}, [{:>, :"$1", now}], [:"$2"]}])
    {:ok, Enum.map(packed, &:erlang.binary_to_term/1)}
  rescue
    ArgumentError -> {:error, :not_running}
  end

  @doc "How many entries have not expired."
  @spec count(name(), integer()) :: {:ok, non_neg_integer()} | not_running()
  def count(name, now) do
    {:ok, :ets.select_count(name, [{{{:entry, :_}, :"$1", :_, :_}, [{:>, :"$1", now}], [true]}])}
  rescue
    ArgumentError -> {:error, :not_running}
  end

  @doc "Removes the expired entries and says how many they were."
  @spec cleanup(name(), integer()) :: {:ok, non_neg_integer()} | not_running()
  def cleanup(name, now), do: write(name, {:cleanup, now})

  @doc "Removes everything."
  @spec clear(name()) :: {:ok, :ok} | not_running()
  def clear(name), do: write(name, :clear)

  # The writer may be absent (client mode) or between two lives.
  defp write(name, request) do
    {:ok, GenServer.call(name, request)}
  catch
    :exit, _reason -> {:error, :not_running}
  end

  @impl true
  def init(name) do
    schedule_cleanup()
    {:ok, name}
  end

  @impl true
  def handle_call({:put, entry, now}, _from, name) do
    fingerprint = fingerprint(entry)
    entry = renew(entry, take(name, fingerprint), now)
    packed = :erlang.term_to_binary(entry)

    [sequence, bytes] =
      :ets.update_counter(
        name,
        :sequence,
        [{2, 1}, {3, byte_size(packed)}],
        {:sequence, 0, 0}
      )

    :ets.insert(name, [
      {{:entry, sequence}, entry.expires_at_ms, fingerprint, packed},
      {{:fingerprint, fingerprint}, sequence}
    ])

    make_room(name, bytes)
    {:reply, entry, name}
  end

  def handle_call({:cleanup, now}, _from, name), do: {:reply, delete_expired(name, now), name}

  def handle_call(:clear, _from, name) do
    :ets.delete_all_objects(name)
    {:reply, :ok, name}
  end

  @impl true
  def handle_info(:cleanup, name) do
    delete_expired(name, System.system_time(:millisecond))
    schedule_cleanup()
    {:noreply, name}
  end

  def handle_info(_message, name), do: {:noreply, name}

  defp schedule_cleanup, do: Process.send_after(self(), :cleanup, @cleanup_interval_ms)

  # Two rows for each entry, and the sequence.
  defp make_room(name, bytes) do
    if bytes > @max_bytes or :ets.info(name, :size) > 2 * @max_entries + 1,
      do: make_room(name, delete(name, :ets.next(name, :sequence)))
  end

  # Reasons and names may be long: a digest keeps the index small.
  defp fingerprint(%{service: service, request_type: type, version: version} = entry) do
    :crypto.hash(
      :sha256,
      :erlang.term_to_binary({service, type, version, entry.source, entry.node, entry.reason})
    )
  end

  defp take(name, fingerprint) do
    with [{_key, sequence}] <- :ets.lookup(name, {:fingerprint, fingerprint}),
         [{_key, _expires, _fingerprint, packed}] <- :ets.take(name, {:entry, sequence}) do
      given_back(name, packed)
      :erlang.binary_to_term(packed)
    else
      [] -> nil
    end
  end

  defp renew(entry, nil, _now), do: entry

  # An expired entry that was not removed yet is a failure of its own.
  defp renew(entry, %{expires_at_ms: expired}, now) when expired <= now, do: entry
  defp renew(entry, %{id: id, times: times}, _now), do: %{entry | id: id, times: times + 1}

  defp delete_expired(name, now) do
    expired =
      :ets.select(name, [{{:"$1", :"$2", :_, :_}, [{:"=<", :"$2", now}], [:"$1"]}])

    Enum.each(expired, &delete(name, &1))
    length(expired)
  end

  # Returns the bytes that are left.
  defp delete(name, {:entry, _sequence} = key) do
    [{_key, _expires, fingerprint, packed}] = :ets.take(name, key)
    :ets.delete(name, {:fingerprint, fingerprint})
    given_back(name, packed)
  end

  defp given_back(name, packed),
    do: :ets.update_counter(name, :sequence, {3, -byte_size(packed)})
end
