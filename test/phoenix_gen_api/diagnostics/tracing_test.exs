defmodule PhoenixGenApi.Diagnostics.TracingTest do
  # One session per node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Await, Diagnostics}
  alias PhoenixGenApi.Diagnostics.Tracing.Session

  @moduletag :capture_log

  setup context do
    allow(Map.get(context, :allow, [:enable_tracing, :disable_tracing]))

    on_exit(fn ->
      allow([:enable_tracing, :disable_tracing])
      Diagnostics.stop_trace()
      Application.delete_env(:phoenix_gen_api, :admin_actions)
    end)
  end

  defp allow(actions), do: Application.put_env(:phoenix_gen_api, :admin_actions, actions)

  @doc false
  def echo(term), do: term

  # A process that calls `echo/1` when it is told to.
  defp worker do
    spawn_link(fn -> work() end)
  end

  defp work do
    receive do
      {:work, from, times} ->
        for _ <- 1..times, do: __MODULE__.echo("secret argument")
        send(from, :worked)
        work()
    end
  end

  defp work(pid, times \\ 1) do
    send(pid, {:work, self(), times})
    assert_receive :worked
  end

  defp idle, do: Await.until(fn -> Process.whereis(Session) == nil end)

  test "a traced call arrives as a trace message, without its arguments" do
    pid = worker()
    assert {:ok, %{traced: 1, tracer: tracer}} = Diagnostics.trace_processes(pid)
    assert tracer == self()
    assert {:ok, %{matched: 1}} = Diagnostics.trace_functions({__MODULE__, :echo, 1})
    work(pid)
    assert_receive {:trace_ts, ^pid, :call, {__MODULE__, :echo, 1}, _timestamp}
    refute_received {:trace_ts, _, _, _, _}

    # Of another process nothing is traced.
    __MODULE__.echo("x")
    assert {:ok, %{active: true}} = Diagnostics.stop_trace_functions({__MODULE__, :echo})
    work(pid)
    refute_received {:trace_ts, _, _, _, _}
  end

  test "flags, a match specification and another receiver" do
    test = self()
    pid = worker()
    receiver = spawn_link(fn -> forward(test) end)
    options = [flags: [:call], tracer: receiver]
    assert {:ok, %{tracer: ^receiver}} = Diagnostics.trace_processes([pid], options)
    spec = [{:_, [], [{:return_trace}]}]
    mfa = {__MODULE__, :echo, 1}
    options = [match_spec: spec, scope: :global, tracer: receiver]
    assert {:ok, %{matched: 1}} = Diagnostics.trace_functions([mfa], options)
    work(pid)
    assert_receive {:got, {:trace, ^pid, :call, {__MODULE__, :echo, ["secret argument"]}}}
    assert_receive {:got, {:trace, ^pid, :return_from, ^mfa, "secret argument"}}
  end

  defp forward(pid) do
    receive do
      message -> send(pid, {:got, message})
    end

    forward(pid)
  end

  describe "tracing ends" do
    test "when it is stopped" do
      pid = worker()
      {:ok, _} = Diagnostics.trace_processes(pid)
      {:ok, _} = Diagnostics.trace_functions(__MODULE__)
      assert {:ok, %{functions: 0, processes: 0}} = Diagnostics.stop_trace()
      idle()
      work(pid)
      refute_received {:trace_ts, _, _, _, _}
      assert {:ok, %{active: false}} = Diagnostics.stop_trace()
      assert {:ok, %{active: false}} = Diagnostics.stop_trace_functions()
    end

    test "after so many messages, and the receiver is told" do
      pid = worker()
      {:ok, _} = Diagnostics.trace_processes(pid, max_messages: 5)
      {:ok, _} = Diagnostics.trace_functions({__MODULE__, :echo, 1}, max_messages: 5)
      work(pid, 100)
      assert_receive {:phoenix_gen_api_trace_ended, :messages, 5}
      for _ <- 1..5, do: assert_received({:trace_ts, ^pid, :call, _, _})
      refute_received {:trace_ts, _, _, _, _}
      idle()
      assert Diagnostics.trace_status().active == false
    end

    test "after so long" do
      {:ok, _} = Diagnostics.trace_processes(worker(), max_ms: 1)
      assert_receive {:phoenix_gen_api_trace_ended, :time, 0}
      idle()
    end

    test "with the process that receives" do
      receiver = spawn(fn -> receive(do: (:end -> :ok)) end)
      {:ok, _} = Diagnostics.trace_processes(worker(), tracer: receiver)
      send(receiver, :end)
      idle()
    end

    test "when more waits to be counted than the heap of the counting process may hold" do
      pid = worker()
      {:ok, _} = Diagnostics.trace_processes(pid, flags: [:call], max_messages: 1_000_000)
      {:ok, _} = Diagnostics.trace_functions({__MODULE__, :echo, 1}, max_messages: 1_000_000)
      session = Process.whereis(Session)
      {:max_heap_size, %{size: words, kill: true}} = Process.info(session, :max_heap_size)
      assert words * :erlang.system_info(:wordsize) == 64 * 1024 * 1024
      assert {:message_queue_data, :on_heap} = Process.info(session, :message_queue_data)
      work(pid, 1_000)
      for _ <- 1..1_000, do: assert_receive({:trace, ^pid, :call, _})
    end
  end

  test "everything may be traced, its receiver and the counting process are not" do
    assert {:ok, %{traced: n}} = Diagnostics.trace_processes(:all, flags: [:send, :receive])
    assert n > 10
    me = self()
    send(worker(), {:work, me, 1})
    assert_receive :worked
    session = Process.whereis(Session)
    {:ok, _} = Diagnostics.stop_trace()
    idle()

    traced = traced([])
    assert [_ | _] = traced
    refute me in traced
    refute session in traced
  end

  defp traced(pids) do
    receive do
      message when elem(message, 0) == :trace -> traced([elem(message, 1) | pids])
    after
      0 -> Enum.uniq(pids)
    end
  end

  test "another tracer is neither disturbed nor seen" do
    pid = worker()
    other = :trace.session_create(:other, self(), [])
    1 = :trace.process(other, pid, true, [:call])
    1 = :trace.function(other, {__MODULE__, :echo, 1}, true, [])
    # The function is traced only in their session, and this process only in ours as well.
    {:ok, _} = Diagnostics.trace_processes(pid)
    work(pid)
    assert_receive {:trace, ^pid, :call, {__MODULE__, :echo, ["secret argument"]}}
    refute_received {:trace_ts, _, _, _, _}

    {:ok, _} = Diagnostics.stop_trace()
    idle()
    work(pid)
    assert_receive {:trace, ^pid, :call, _}
    :trace.session_destroy(other)
  end

  describe "the gate" do
    @tag allow: []
    test "denies everything that is not listed" do
      denied = {:error, :admin_action_denied}
      assert Diagnostics.trace_processes(self()) == denied
      assert Diagnostics.trace_functions(String) == denied
      assert Diagnostics.stop_trace() == denied
      assert Diagnostics.stop_trace(self()) == denied
      assert Diagnostics.stop_trace(self(), :call) == denied
      assert Diagnostics.stop_trace_functions() == denied
      assert Diagnostics.stop_trace_functions(String) == denied
      assert Process.whereis(Session) == nil
    end

    test "denies when nothing is configured" do
      Application.delete_env(:phoenix_gen_api, :admin_actions)
      assert Diagnostics.trace_processes(self()) == {:error, :admin_action_denied}
    end

    @tag allow: [:enable_tracing]
    test "lets begin who may not end" do
      pid = worker()
      assert {:ok, _} = Diagnostics.trace_processes(pid)
      assert Diagnostics.stop_trace() == {:error, :admin_action_denied}
    end
  end

  describe "what is wrong is said" do
    test "of targets" do
      dead = spawn(fn -> :ok end)
      Await.until(fn -> not Process.alive?(dead) end)

      for wrong <- [:no_such_name, dead, "pid", 5, nil, make_ref()] do
        assert Diagnostics.trace_processes(wrong) == {:error, :invalid_trace_target}
        assert Diagnostics.stop_trace(wrong) == {:error, :invalid_trace_target}
      end

      assert Diagnostics.trace_processes([self(), 5, :no_such_name]) ==
               {:error, {:invalid_trace_target, [5, :no_such_name]}}

      assert Diagnostics.trace_processes([]) == {:error, {:invalid_trace_target, []}}
      improper = [self() | :x]

      assert Diagnostics.trace_processes(improper) ==
               {:error, {:invalid_trace_target, improper}}
    end

    test "of flags and tracers" do
      for wrong <- [[:no_such], [], "call", [:call | :send], [tracer: self()]],
          do: assert(trace(flags: wrong) == {:error, :invalid_trace_flag})

      dead = spawn(fn -> :ok end)
      Await.until(fn -> not Process.alive?(dead) end)

      for wrong <- [dead, :shell, "x", 5],
          do: assert(trace(tracer: wrong) == {:error, :invalid_tracer})

      assert_raise ArgumentError, fn -> trace(max_messages: 0) end
      assert_raise ArgumentError, fn -> trace(max_ms: :infinity) end
      assert_raise ArgumentError, fn -> trace(other: 1) end
    end

    defp trace(options), do: Diagnostics.trace_processes(self(), options)

    test "of functions and match specifications" do
      for wrong <- [
            "String",
            5,
            nil,
            :_,
            {:_, :_, :_},
            {String, "f"},
            {String, :f, 256},
            {String, :_, 1}
          ] do
        assert Diagnostics.trace_functions(wrong) == {:error, :invalid_mfa}
        assert Diagnostics.stop_trace_functions(wrong) == {:error, :invalid_mfa}
      end

      assert Diagnostics.trace_functions([String, 5]) == {:error, {:invalid_mfa, [5]}}
      assert Diagnostics.trace_functions([]) == {:error, {:invalid_mfa, []}}

      for wrong <- [5, [5], [{:_, [], [{:no_such_action}]}], "x"] do
        assert Diagnostics.trace_functions(String, match_spec: wrong) ==
                 {:error, :invalid_match_spec}
      end

      idle()
    end
  end

  test "the status says whether there is a session" do
    assert %{node: node, trace_control_word: word, active: false} = Diagnostics.trace_status()
    assert node == node() and is_integer(word)
    {:ok, _} = Diagnostics.trace_processes(worker())

    assert %{active: true, processes: 1, delivered: 0, messages_left: 1_000} =
             Diagnostics.trace_status()
  end

  test "the front door has the same functions" do
    pid = worker()
    assert {:ok, _} = PhoenixGenApi.trace_processes(pid)
    assert {:ok, _} = PhoenixGenApi.trace_functions(String)
    assert %{active: true} = PhoenixGenApi.trace_status()
    assert {:ok, _} = PhoenixGenApi.stop_trace_functions()
    assert {:ok, _} = PhoenixGenApi.stop_trace(pid)
    idle()
  end
end
