defmodule PhoenixGenApi.LongSchedule do
  @moduledoc false
  # What holds a scheduler, by the reports of the VM.

  import ExUnit.Assertions

  # The VM goes by the clock on the wall, and a busy machine takes the scheduler itself away now
  # and then. What a NIF does it does every time: in some attempts the processor time of the whole
  # attempt is less than what was reported, in others processes that only yield are held as long.
  @attempts 40
  @idlers 2

  @doc """
  Fails if a NIF holds a scheduler in each of some attempts to run `fun` in a process of its own.

  That process has room on its heap, so that it is not the garbage collector's time. Options:

    * `:ms` - for how long (10)
    * `:before` - what is run ahead of each attempt in the calling process; `fun` gets the result
  """
  @spec assert_yields(String.t(), (-> term()) | (term() -> term()), keyword()) :: :ok
  def assert_yields(name, fun, opts \\ []) do
    found =
      Enum.reduce_while(1..@attempts, nil, fn attempt, _before ->
        idlers = if rem(attempt, 2) == 1, do: 0, else: @idlers

        case reports(fun, [idlers: idlers] ++ opts) do
          [] -> {:halt, nil}
          found -> {:cont, found}
        end
      end)

    if found, do: flunk("#{name} holds a scheduler: #{inspect(found)}")
    :ok
  end

  @doc """
  What one attempt has reported, without what the machine's load explains.

  With `:idlers` beside it, that is what lasts no longer than the longest report of theirs;
  without them, what lasts longer than the processor time of the attempt.
  """
  @spec reports((-> term()) | (term() -> term()), keyword()) :: [keyword()]
  def reports(fun, opts \\ []) do
    given = if opts[:before], do: opts[:before].()
    run = if is_function(fun, 0), do: fun, else: fn -> fun.(given) end
    ms = opts[:ms] || 10
    idlers = for _ <- 1..(opts[:idlers] || 0)//1, do: spawn_link(&idle/0)
    previous = :erlang.system_monitor(self(), long_schedule: ms)
    {spent, _} = :erlang.statistics(:runtime)

    try do
      {pid, monitor} =
        :erlang.spawn_opt(
          fn ->
            run.()
            # Scheduled out here, whatever came before.
            receive do
            after
              1 -> :ok
            end
          end,
          [:monitor, min_heap_size: 8_000_000]
        )

      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 60_000
      {spent_then, _} = :erlang.statistics(:runtime)
      refute_receive :reports_have_arrived, 5
      found = collect()

      if idlers != [] or spent_then - spent >= ms do
        taken_away = Enum.max([0 | for({pid, info} <- found, pid in idlers, do: info[:timeout])])
        for {by, info} <- found, info[:timeout] > taken_away, ours?(by, info, pid), do: info
      else
        []
      end
    after
      :erlang.system_monitor(previous)
      for pid <- idlers, do: Process.unlink(pid) && Process.exit(pid, :kill)
    end
  end

  defp idle do
    :erlang.yield()
    idle()
  end

  defp collect do
    receive do
      {:monitor, pid, :long_schedule, info} -> [{pid, info} | collect()]
    after
      0 -> []
    end
  end

  # What the process under test did, and what any other did in a NIF of ours or while it ended,
  # which is when monitors of ours fire.
  defp ours?(pid, info, tested),
    do: pid == tested or native?(info) or (is_pid(pid) and not Process.alive?(pid))

  defp native?(info) do
    Enum.any?([:in, :out], &match?({PhoenixGenApi.Native, _, _}, info[&1]))
  end
end
