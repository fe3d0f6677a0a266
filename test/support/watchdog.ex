defmodule PhoenixGenApi.Test.Watchdog do
  @moduledoc false
  # A formatter that ends a suite which stands still, and says what it stands at: no test has begun
  # or ended for longer than any may take. What has no timeout of its own are `setup_all` and tests
  # that wait for another VM.
  use GenServer

  @still_ms 900_000

  @impl true
  def init(_options), do: {:ok, %{modules: %{}, running: %{}}, @still_ms}

  @impl true
  def handle_cast({:test_started, test}, state),
    do: {:noreply, put_in(state.running[{test.module, test.name}], test.tags), @still_ms}

  def handle_cast({:test_finished, test}, state) do
    {_tags, state} = pop_in(state.running[{test.module, test.name}])
    {:noreply, state, @still_ms}
  end

  def handle_cast({:module_started, module}, state),
    do: {:noreply, put_in(state.modules[module.name], module.file), @still_ms}

  def handle_cast({:module_finished, module}, state) do
    {_file, state} = pop_in(state.modules[module.name])
    {:noreply, state, @still_ms}
  end

  def handle_cast({:suite_finished, _times}, state), do: {:noreply, state}
  def handle_cast(_event, state), do: {:noreply, state, @still_ms}

  @impl true
  def handle_info(:timeout, state) do
    if Enum.any?(state.running, fn {_test, tags} -> tags.timeout == :infinity end) do
      {:noreply, state, @still_ms}
    else
      IO.puts(:stderr, "The suite stands still.")
      for {module, file} <- state.modules, do: IO.puts(:stderr, "in #{inspect(module)}, #{file}")
      IO.puts(:stderr, Enum.map(state.running, &running/1))
      IO.puts(:stderr, Enum.map(Process.list(), &stack/1))
      System.halt(1)
    end
  end

  defp running({{module, name}, tags}),
    do: "running: #{name} (#{inspect(module)}, #{tags.file}:#{tags.line})\n"

  # Of the processes that run code of tests.
  defp stack(pid) do
    with {:current_stacktrace, stack} <- Process.info(pid, :current_stacktrace),
         true <- Enum.any?(stack, &test?/1) do
      ["\n", inspect(pid), "\n", Exception.format_stacktrace(stack)]
    else
      _no_test -> []
    end
  end

  defp test?({module, _function, _arity, _location}),
    do: module == ExUnit.Runner or module |> Atom.to_string() |> String.contains?("Test")
end
