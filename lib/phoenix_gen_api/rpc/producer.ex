defmodule PhoenixGenApi.RPC.Producer do
  @moduledoc false
  # The stream's side on the node of its function. Two processes:
  #
  #   * the function's own. It calls the function, and if that returns an enumerable, which may
  #     be bound to the process that made it, it goes on to enumerate that. What becomes of it
  #     is told by itself: then nothing that it has sent can arrive later than that.
  #   * its watchdog, which lives as long as the stream. It ends the function when the stream or
  #     the whole gateway is gone, and its monitor tells the stream when this node is.
  #
  # For a stream of another protocol it is one process, see `plain/4`, which the gateway ends.

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.RPC.{Credit, Guard, ReturnValue, Server}

  # How long an enumerable has to halt, which runs its cleanup, before its process is killed.
  @halt_ms 500

  @enforce_keys [:stream, :ref, :callers, :max_unacked, :helper?, :mfa]
  defstruct [:stream, :ref, :callers, :max_unacked, :helper?, :mfa, :metadata, :watchdog, :halt]

  @type t :: %__MODULE__{
          stream: pid(),
          # marks the messages of one stream
          ref: reference(),
          callers: [pid()],
          max_unacked: pos_integer(),
          # whether the function has got a StreamHelper
          helper?: boolean(),
          mfa: {module(), atom(), [term()]} | nil,
          # of the request, for the log and its deadline
          metadata: map() | nil,
          watchdog: pid() | nil,
          # 1 when an enumerable is to halt. Not a message: the enumerable may take any there is.
          halt: :atomics.atomics_ref() | nil
        }

  @typedoc "What the function's process tells, as `{ref, outcome}`."
  @type outcome ::
          ReturnValue.t()
          | {:raised, :error | :exit | :throw, term(), Exception.stacktrace()}
          # it was killed
          | {:died, term()}

  # What a stream and the node of its function say to each other: this struct, and what the two
  # processes send and are sent. Another one is not understood.
  @protocol 1

  @doc "The call that starts the watchdog."
  @spec entry(t()) :: {module(), atom(), [term()]}
  def entry(producer), do: {__MODULE__, :watchdog, [@protocol, producer]}

  @doc """
  The watchdog: runs the function until it is done, or the stream is. In every version of the library
  a stream of another protocol is told so, and nothing runs.
  """
  @spec watchdog(pos_integer(), t()) :: :ok | :stopping | {:error, {:protocol, pos_integer()}}
  def watchdog(@protocol, %__MODULE__{mfa: {module, function, _arguments}} = producer)
      when node(producer.stream) != node(),
      do: Server.tracked(module, function, fn -> watch(producer) end)

  def watchdog(@protocol, %__MODULE__{} = producer), do: watch(producer)
  def watchdog(_other, _producer), do: {:error, {:protocol, @protocol}}

  defp watch(producer) do
    stream = Process.monitor(producer.stream)
    producer = %{producer | watchdog: self(), halt: :atomics.new(1, [])}
    {pid, function} = spawn_monitor(__MODULE__, :run, [producer])
    send(producer.stream, {producer.ref, {:begun, pid}})
    # Arguments may be large, and streams long.
    :erlang.garbage_collect()
    await(%{producer | mfa: nil}, stream, pid, function)
  end

  defp await(%{ref: ref} = producer, stream, pid, function) do
    receive do
      {:DOWN, ^function, :process, ^pid, reason} ->
        unless reported?(ref), do: send(producer.stream, {ref, {:died, reason}})
        await_end(ref, stream)

      {:DOWN, ^stream, :process, _stream, _reason} ->
        finish(producer, pid, function)

      {^ref, :stop} ->
        finish(producer, pid, function)

      # The service stops, and has waited.
      {:phoenix_gen_api, :stopped} = stopped ->
        finish(producer, pid, function)
        exit(stopped)
    end
  end

  defp await_end(ref, stream) do
    receive do
      {:DOWN, ^stream, :process, _stream, _reason} -> :ok
      {^ref, :stop} -> :ok
      # A function that has returned may have others go on for it.
      {:phoenix_gen_api, :stopped} = stopped -> exit(stopped)
    end
  end

  # A function is of no more use and is killed; an enumerable may hold what must be given back.
  defp finish(producer, pid, function) do
    if enumerating?(producer.ref),
      do: halt(producer, pid, function),
      else: Process.exit(pid, :kill)

    :ok
  end

  defp halt(producer, pid, function) do
    :atomics.put(producer.halt, 1, 1)

    receive do
      {:DOWN, ^function, :process, ^pid, _reason} -> :ok
    after
      @halt_ms -> Process.exit(pid, :kill)
    end
  end

  @doc "The call that runs the function on a node of another protocol."
  @spec plain_entry(t()) :: {module(), atom(), [term()]}
  def plain_entry(producer) do
    %{stream: stream, max_unacked: max, helper?: helper?, mfa: mfa} = producer
    {__MODULE__, :plain, [stream, max, helper?, mfa]}
  end

  @doc """
  Runs a function for a stream of another protocol, and returns what it does. Its items are those of
  a helper, so an enumerable is sent from here, unless something was sent before. It is the same in
  every version of the library, as are helpers and the messages of `RPC.Credit`.
  """
  @spec plain(pid(), pos_integer(), boolean(), {module(), atom(), [term()]}) :: term()
  def plain(stream, max_unacked, helper?, {module, function, arguments}) do
    credit = Credit.new(stream, max_unacked)

    arguments =
      if helper?, do: List.update_at(arguments, -1, &%{&1 | credit: credit}), else: arguments

    with {:error, refused} <- Guard.check(module, function, arguments), do: raise(refused)
    value = :erlang.apply(module, function, arguments)

    with {:enumerate, enumerable} <- ReturnValue.classify(value, helper?),
         :go <- Credit.ask(stream, :enumerate) do
      Enum.reduce_while(enumerable, :ok, fn item, :ok ->
        if Credit.send_item(credit, item) == :ok, do: {:cont, :ok}, else: {:halt, :ended}
      end)

      send(stream, :complete)
      []
    else
      _no_enumerable -> value
    end
  end

  defp reported?(ref) do
    receive do
      {^ref, :reported} -> true
    after
      0 -> false
    end
  end

  defp enumerating?(ref) do
    receive do
      {^ref, :enumerating} -> true
    after
      0 -> false
    end
  end

  @doc "The function's process."
  @spec run(t()) :: :ok
  def run(%__MODULE__{mfa: {module, function, _arguments}} = producer) do
    Process.put(:"$callers", producer.callers)
    arguments = Deadline.adopt(producer.metadata, arguments(producer))

    case permitted(producer, module, function, arguments) do
      :ok -> call(producer, module, function, arguments)
      {:error, refused} -> raised(producer, :error, refused, [])
    end
  end

  # What a gateway runs on itself is its own matter.
  defp permitted(%{stream: stream}, _module, _function, _arguments) when node(stream) == node(),
    do: :ok

  defp permitted(_work, module, function, arguments),
    do: Guard.check(module, function, arguments)

  defp call(producer, module, function, arguments) do
    try do
      :erlang.apply(module, function, arguments)
    catch
      kind, reason -> raised(producer, kind, reason, __STACKTRACE__)
    else
      value -> returned(producer, ReturnValue.classify(value, producer.helper?))
    end
  end

  # Credit is for one node, so it is given here.
  defp arguments(%{helper?: true, mfa: {_module, _function, arguments}} = producer) do
    credit = Credit.new(producer.stream, producer.max_unacked)
    List.update_at(arguments, -1, &%{&1 | credit: credit})
  end

  defp arguments(%{mfa: {_module, _function, arguments}}), do: arguments

  defp returned(producer, {:enumerate, enumerable}) do
    # Ahead of the question: whoever ends the stream after the answer finds the watchdog informed.
    send(producer.watchdog, {producer.ref, :enumerating})

    case Credit.ask(producer.stream, :enumerate) do
      :go -> enumerate(producer, enumerable)
      # Something was sent before, or the stream has ended.
      _no -> report(producer, :open)
    end
  end

  defp returned(producer, {kind, nil}), do: report(producer, kind)

  # What is there already goes in batches; an item that had to be waited for goes at once.
  defp enumerate(%{max_unacked: max} = producer, enumerable) do
    size = if ReturnValue.portable?(enumerable), do: max(div(max, 2), 1), else: 1
    collect = fn item, batch -> collect(producer, batch, item, size) end

    # Some enumerables say that they were halted when they have halted themselves.
    with {_done_or_halted, {_, _, _} = batch} <-
           Enumerable.reduce(enumerable, {:cont, {0, 0, []}}, collect),
         {:cont, _empty} <- flush(producer, batch),
         do: send(producer.stream, :complete)

    report(producer, :open)
  catch
    kind, reason -> raised(producer, kind, reason, __STACKTRACE__)
  end

  # A batch: how many items are on the way unanswered, how many are in it, and those. A large one
  # counts as several.
  defp collect(producer, {sent, held, items}, item, size) do
    held = held + Credit.weight(item)
    batch = {sent, held, [item | items]}
    if held < size, do: {:cont, batch}, else: flush(producer, batch)
  end

  # Waits before the enumerable makes the next item.
  defp flush(%{stream: stream, max_unacked: max, halt: halt}, {sent, held, items}) do
    send_items(stream, items)

    cond do
      :atomics.get(halt, 1) == 1 -> {:halt, :halted}
      sent + held < max -> {:cont, {sent + held, 0, []}}
      Credit.wait(stream) == :ok -> {:cont, {0, 0, []}}
      true -> {:halt, :ended}
    end
  end

  defp send_items(_stream, []), do: :ok
  defp send_items(stream, [item]), do: send(stream, {:result, item})
  defp send_items(stream, items), do: send(stream, {:results, Enum.reverse(items)})

  defp raised(producer, kind, reason, stack) do
    report(producer, {:raised, kind, reason, stack})
    # To what it has linked itself with it has failed. The VM logs no exits like this one.
    exit({:phoenix_gen_api, kind})
  end

  defp report(producer, outcome) do
    send(producer.stream, {producer.ref, outcome})
    send(producer.watchdog, {producer.ref, :reported})
    :ok
  end
end
