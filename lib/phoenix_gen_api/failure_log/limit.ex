defmodule PhoenixGenApi.FailureLog.Limit do
  @moduledoc false
  # How many lines failed requests may write: 20 per second and code; of requests that were denied 20
  # per second for each user, of 1,000 users. What is over that is counted, and a summary follows.
  #
  # Rows, `second` being monotonic:
  #
  #     {{second, :lines}, count}                            wakes the process that writes summaries
  #     {{second, code, subject | nil}, count}
  #     {{second, :subjects}, count}
  #     {{second, code, :suppressed}, count, names, level}
  #     {{second, code, :name, subject}}
  use GenServer

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.SafeInspect

  require Log

  @table __MODULE__
  @lines 20
  @subjects 1_000
  @names 10
  @key_bytes 64

  @typedoc "Whose lines count together; nil for all of a code."
  @type subject :: String.t() | nil

  @doc "Creates the table, for the supervisor."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:ordered_set, write_concurrency: :auto])

  @doc """
  Whether a line may be written. With `each?` the lines of each subject are counted by themselves.
  """
  @spec admit?(String.t(), subject(), boolean(), Logger.level()) :: boolean()
  def admit?(code, subject, each?, level) do
    second = System.monotonic_time(:second)
    if count({second, :lines}) == 1, do: wake()
    key = {second, code, if(each? and subject, do: key(subject))}

    # Of a subject that there is no room for nothing is written.
    if tracked?(second, key) and count(key) <= @lines do
      true
    else
      suppress(second, code, subject, level)
      false
    end
  rescue
    # No gateway runs here.
    ArgumentError -> false
  end

  defp tracked?(_second, {_, _, nil}), do: true

  defp tracked?(second, key),
    do: :ets.member(@table, key) or count({second, :subjects}) <= @subjects

  defp count(key), do: :ets.update_counter(@table, key, 1, {key, 0})

  defp suppress(second, code, subject, level) do
    key = {second, code, :suppressed}
    :ets.update_counter(@table, key, 1, {key, 0, 0, level})

    if subject != nil and :ets.lookup_element(@table, key, 3) < @names and
         :ets.insert_new(@table, {{second, code, :name, key(subject)}}),
       do: :ets.update_counter(@table, key, {3, 1})
  end

  # Bounded, as a client may have chosen it, and no part of a large message.
  defp key(subject) when byte_size(subject) <= @key_bytes, do: :binary.copy(subject)

  defp key(subject) do
    start = subject |> SafeInspect.truncate(@key_bytes) |> :binary.copy()
    {start, :erlang.phash2(subject, 4_294_967_296)}
  end

  defp wake, do: GenServer.cast(__MODULE__, :wake)

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init(_opts), do: {:ok, sleep(nil)}

  @impl true
  def handle_cast(:wake, timer), do: {:noreply, timer || sleep(nil)}

  @impl true
  def handle_info(:summarise, _timer) do
    summarise(System.monotonic_time(:second))
    # What is there now belongs to this second.
    {:noreply, if(:ets.info(@table, :size) > 0, do: sleep(nil))}
  end

  def handle_info(_other, timer), do: {:noreply, timer}

  defp sleep(nil), do: Process.send_after(self(), :summarise, 1_000)

  defp summarise(second) do
    over = [{:<, :"$1", second}]
    row = {{:"$1", :"$2", :suppressed}, :"$3", :_, :"$4"}

    for {at, code, count, level} <-
          :ets.select(@table, [{row, over, [{{:"$1", :"$2", :"$3", :"$4"}}]}]),
        do: Log.at(level, fn -> summary(code, count, names(at, code)) end, code: code)

    :ets.select_delete(@table, [
      {{{:"$1", :_}, :_}, over, [true]},
      {{{:"$1", :_, :_}, :_}, over, [true]},
      {{{:"$1", :_, :suppressed}, :_, :_, :_}, over, [true]},
      {{{:"$1", :_, :name, :_}}, over, [true]}
    ])
  end

  defp summary(code, count, []), do: "#{count} more requests failed in a second (#{code})"

  defp summary(code, count, names),
    do: [summary(code, count, []), ", of users or addresses such as ", Enum.join(names, ", ")]

  defp names(second, code) do
    keys = :ets.select(@table, [{{{second, code, :name, :"$1"}}, [], [:"$1"]}])
    for key <- Enum.take(keys, @names), do: SafeInspect.inspect(text(key), 100)
  end

  defp text({start, _hash}), do: start <> "…"
  defp text(subject), do: subject
end
