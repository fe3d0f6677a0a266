defmodule PhoenixGenApi.NativeFuzz do
  @moduledoc false
  # A VM that may die: the native library alone, with the smallest stacks that the VM accepts, is called with
  # random arguments in every position. The call number `n` of a seed is always the same one.

  alias PhoenixGenApi.{Native, NativeArguments}
  alias PhoenixGenApi.NativeFuzz.{Outcome, Terms}

  # After so many calls all handles are new ones.
  @round 500
  # What a call may take on a normal scheduler.
  @max_us 1_000
  # How often one that took longer is made again.
  @repeats 15
  # These hand messages on, which takes what `send/2` takes.
  @send [:worker_pool_leave, :relay_send]

  @typedoc """
  `calls` by outcome, `repeated` of those that took long, and what is wrong: `{n, name, what}`.
  """
  @type report :: %{
          calls: %{atom() => non_neg_integer()},
          repeated: non_neg_integer(),
          failures: [{pos_integer(), atom(), term()}]
        }

  @doc "Starts the VM; it ends with the calling process."
  @spec start_link() :: pid()
  def start_link do
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])
    stacks = [~c"+sss", ~c"20", ~c"+sssdcpu", ~c"20"]

    {:ok, peer, _node} =
      :peer.start_link(%{connection: :standard_io, wait_boot: 60_000, args: stacks ++ paths})

    peer
  end

  @doc """
  Makes the calls `range` of a seed there. `normal` are the NIFs that run on a normal scheduler.

  With `log:` the number of each call is written to that file first.
  """
  @spec run(pid(), integer(), Range.t(), [atom()], keyword()) :: report()
  def run(peer, seed, range, normal, opts \\ []),
    do: :peer.call(peer, __MODULE__, :run_here, [seed, range, normal, opts], :infinity)

  @doc false
  def run_here(seed, range, normal, opts) do
    watcher = spawn_link(fn -> watch([]) end)
    previous = :erlang.system_monitor(watcher, long_schedule: 10)

    state = %{
      seed: seed,
      normal: MapSet.new(normal),
      signatures: List.to_tuple(NativeArguments.signatures()),
      types: Outcome.types(),
      large: Terms.large(),
      log: opts[:log],
      report: %{calls: %{}, repeated: 0, failures: []}
    }

    state =
      range
      |> Enum.chunk_every(@round)
      |> Enum.reduce(state, fn numbers, state -> round(numbers, state, watcher) end)

    :erlang.system_monitor(previous)
    Process.unlink(watcher)
    Process.exit(watcher, :kill)
    state.report
  end

  # Every round in a process of its own, whose messages and handles go with it.
  defp round(numbers, state, watcher) do
    held = ask(watcher)
    state = apart(fn -> steps(numbers, state) end)

    # What a NIF has held a scheduler with, a call or a destructor, does so again.
    if held == [] and ask(watcher) != [] and
         Enum.all?(1..3, fn _ ->
           apart(fn -> steps(numbers, state) && :ok end)
           ask(watcher) != []
         end),
       do: failed(state, hd(numbers), :some_nif, :long_schedule),
       else: state
  end

  defp steps(numbers, state) do
    # A raw file is that of the process which has opened it.
    log = state.log && File.open!(state.log, [:raw, :write, :read])
    context = Map.put(context(state), :log, log)
    numbers |> Enum.reduce({state, context}, &step/2) |> elem(0)
  end

  defp apart(fun) do
    parent = self()
    {pid, monitor} = spawn_monitor(fn -> send(parent, {self(), fun.()}) end)

    receive do
      {^pid, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        exit(reason)
    end
  end

  defp context(state) do
    dead = spawn(fn -> :ok end)

    %{
      large: state.large,
      handles: NativeArguments.handles(),
      sink: spawn_link(&sink/0),
      dead: dead
    }
  end

  defp sink do
    receive do
      _any -> sink()
    end
  end

  defp step(number, {state, context}) do
    {name, arguments} = call = call(number, state, context)
    if context.log, do: :file.pwrite(context.log, 0, "#{number} #{name}                    \n")
    {us, outcome} = timed(call)
    kind = kind(outcome)
    state = update_in(state.report.calls[kind], &((&1 || 0) + 1))

    state =
      if fine?(outcome, Map.get(state.types, {name, length(arguments)})),
        do: state,
        else: failed(state, number, name, outcome)

    state =
      if us > @max_us and name in state.normal, do: again(number, name, state), else: state

    {state, context}
  end

  # A busy machine can only make a call slower: what it takes itself it takes every time.
  defp again(number, name, state) do
    {taken, sending} =
      Enum.unzip(
        for _ <- 1..@repeats do
          context = context(state)
          call = call(number, state, context)
          {us, _outcome} = timed(call)
          {us, sending(call, context)}
        end
      )

    # Copying takes twice as long at one time as at another.
    least = Enum.min(taken) - 2 * Enum.min(sending)
    state = update_in(state.report.repeated, &(&1 + 1))
    if least > @max_us, do: failed(state, number, name, {:microseconds, least}), else: state
  end

  defp sending({name, arguments}, %{sink: sink}) when name in @send do
    {us, _} = :timer.tc(fn -> send(sink, arguments) end)
    us
  end

  defp sending(_call, _context), do: 0

  defp failed(state, number, name, what),
    do: update_in(state.report.failures, &[{number, name, brief(what)} | &1])

  # No handle gets out of the VM, and no large term.
  defp brief(what), do: inspect(what, limit: 50, printable_limit: 200)

  defp fine?({:returned, value}, type), do: Outcome.of?(type, value)
  defp fine?(outcome, _type), do: outcome == :badarg

  defp kind({kind, _value}), do: kind
  defp kind(kind), do: kind

  # The collection of the arguments is not the time of the call.
  defp timed({name, arguments}) do
    :erlang.yield()
    start = :erlang.monotonic_time(:nanosecond)
    outcome = outcome(name, arguments)
    {div(:erlang.monotonic_time(:nanosecond) - start, 1_000), outcome}
  end

  defp outcome(name, arguments) do
    {:returned, apply(Native, name, arguments)}
  catch
    :error, :badarg -> :badarg
    kind, reason -> {:raised, {kind, reason}}
  end

  @doc "The call of that number: the name of a NIF, and arguments."
  def call(number, %{seed: seed, signatures: signatures}, context) do
    :rand.seed(:exsss, {seed, number, 0})
    {name, kinds} = elem(signatures, :rand.uniform(tuple_size(signatures)) - 1)
    right = Enum.map(kinds, &Terms.right(&1, context))
    {name, spoilt(right, context)}
  end

  defp spoilt([], _context), do: []

  defp spoilt(right, context) do
    at = :rand.uniform(length(right)) - 1

    case :rand.uniform(10) do
      n when n <= 4 -> right
      n when n <= 6 -> List.update_at(right, at, &Terms.mutated(&1, context))
      n when n <= 8 -> List.replace_at(right, at, Terms.any(context))
      9 -> Enum.map(right, &Terms.mutated(&1, context))
      10 -> Enum.map(right, fn _ -> Terms.any(context) end)
    end
  end

  # Collects what held a scheduler in a NIF of ours.
  defp watch(held) do
    receive do
      {:monitor, _pid, :long_schedule, info} ->
        watch(if(native?(info), do: [info | held], else: held))

      {:ask, from} ->
        send(from, {:held, held}) && watch([])
    end
  end

  defp native?(info), do: Enum.any?([:in, :out], &match?({Native, _, _}, info[&1]))

  defp ask(watcher) do
    send(watcher, {:ask, self()})

    receive do
      {:held, held} -> held
    end
  end
end
