defmodule PhoenixGenApi.StreamCallTest do
  # The pool, and the table of streams, are shared.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers
  import PhoenixGenApi.Test.Functions, only: [config: 2, request: 0, request: 1]

  alias PhoenixGenApi.{Await, ConfigDb, Executor, StreamCall, WorkerPool}
  alias PhoenixGenApi.StreamCall.Registry
  alias PhoenixGenApi.Structs.{Request, Response, StreamHelper}
  alias PhoenixGenApi.Test.Functions
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @moduletag :capture_log

  # Whatever a test did, nothing is left of its streams.
  setup do
    on_exit(fn -> Await.until(&idle?/0) end)
  end

  defp idle?, do: Registry.count() == 0 and WorkerPool.status(:stream_pool).busy_workers == 0

  # Without a helper.
  defp plain(fun, fields \\ []),
    do: config(fun, Keyword.merge([response_type: :stream, timeout: :infinity], fields))

  # `fun` gets the helper.
  defp helped(fun, fields \\ []), do: plain(fun, [request_info: true] ++ fields)

  # `fun` gets the helper, and lives until its stream ends.
  defp fed(fields \\ []) do
    test = self()

    helped(
      fn out ->
        send(test, {:function, self(), out})
        receive(do: (:return -> :ok))
      end,
      fields
    )
  end

  defp run(config, fields \\ []), do: Executor.execute_with_config!(request(fields), config)

  # A stream for this process that waits for its slot, in a request that another process makes.
  defp run_waiting(config, fields \\ []) do
    type = "waiting-#{System.unique_integer([:positive])}"
    :ok = ConfigDb.add(%{config | request_type: type})
    on_exit(fn -> ConfigDb.delete("test", type) end)
    test = self()
    %{request_id: id} = request = request([{:request_type, type} | fields])
    {:ok, before} = Registry.find(test, id)
    spawn_link(fn -> Executor.execute!(request, receiver: test) end)

    Await.until(fn ->
      match?({:ok, now} when length(now) > length(before), Registry.find(test, id))
    end)
  end

  defp start(config, fields \\ []) do
    request = request(fields)
    id = request.request_id
    assert run(config, fields) == Response.stream_response(id, :init)
    assert_receive {:stream_started, ^id, pid}
    pid
  end

  defp feed(fields \\ [], request \\ []) do
    pid = start(fed(fields), request)
    assert_receive {:function, function, out}
    {pid, function, out}
  end

  defp frames(config, fields \\ []) do
    start(config, fields)
    frames()
  end

  # The results up to the final frame, and that.
  defp frames do
    assert_receive {:stream_response, %Response{} = response}

    if response.has_more do
      assert response == Response.stream_response(response.request_id, response.result)
      {results, last} = frames()
      {[response.result | results], last}
    else
      {[], response}
    end
  end

  defp ended, do: Response.stream_end_response("r1")

  defp watch(pids), do: for(pid <- List.wrap(pids), do: {pid, Process.monitor(pid)})

  defp assert_ends(watched) do
    for {pid, monitor} <- watched,
        do: assert_receive({:DOWN, ^monitor, :process, ^pid, _reason})
  end

  defp nothing_more do
    Await.until(&idle?/0)
    refute_received _
  end

  defp waiting(pid), do: pid |> Process.info(:message_queue_len) |> elem(1)

  # A receiver that takes nothing until told to; then it hands everything to the test.
  defp slow_receiver do
    test = self()

    spawn_link(fn ->
      receive(do: (:go -> :ok))
      forward(test)
    end)
  end

  defp forward(test) do
    receive do
      message -> send(test, message)
    end

    forward(test)
  end

  defp execute_for(receiver, config) do
    type = "slow-#{System.unique_integer([:positive])}"
    :ok = ConfigDb.add(%{config | request_type: type})
    on_exit(fn -> ConfigDb.delete("test", type) end)
    Executor.execute!(request(request_type: type), receiver: receiver)
  end

  describe "a request" do
    test "is acknowledged, then told its stream, then gets frames" do
      assert run(plain(fn -> [1] end)) == Response.stream_response("r1", :init)
      assert_receive first
      assert {:stream_started, "r1", pid} = first
      assert is_pid(pid)
      assert frames() == {[1], ended()}
      nothing_more()
    end

    test "takes one slot of the stream pool for the life of its stream" do
      {_pid, _function, out} = feed()
      assert WorkerPool.status(:stream_pool).busy_workers == 1
      StreamHelper.send_complete(out)
      Await.until(fn -> WorkerPool.status(:stream_pool).busy_workers == 0 end)
    end

    test "that fails before the call is answered with that error, and there is no stream" do
      config = plain(fn -> [] end, arg_types: %{"a" => :num})
      details = [%{"path" => "a", "rule" => "required"}]
      assert run(config) == error("argument validation failed", false, details: details)
      config = plain(fn -> [] end, check_permission: :any_authenticated)
      assert run(config) == error("Permission denied")
      nothing_more()
    end

    test "without a node that can be reached gets that as its final frame" do
      config =
        plain(fn -> [] end, nodes: [:"nobody#{System.unique_integer([:positive])}@127.0.0.1"])

      assert frames(config) == {[], error("No service node available", true)}
    end

    test "may have any id" do
      for id <- [nil, :_, :"$1", {:a, "b"}, ""] do
        request = %Request{request() | request_id: id}
        Executor.execute_with_config!(request, fed())
        assert_receive {:function, _function, out}
        assert PhoenixGenApi.stop_stream("other") == {:error, :not_found}
        unless is_pid(id), do: assert(PhoenixGenApi.stop_stream(id) == :ok)
        assert_receive {:stream_response, response}
        assert response == Response.stream_end_response(id)
        assert out.request_id == id
      end
    end
  end

  describe "a function with a helper" do
    test "gets one with the stream, the ids and the request" do
      pid = start(fed(), user_id: "ann", device_id: "phone", args: %{})
      assert_receive {:function, _function, out}
      assert %StreamHelper{stream_pid: ^pid, request_id: "r1"} = out
      assert %StreamHelper{user_id: "ann", device_id: "phone"} = out
      assert %Request{user_id: "ann", request_id: "r1"} = out.request
      StreamHelper.send_complete(out)
      frames()
    end

    test "has its items delivered while it runs" do
      {_pid, function, out} = feed()
      StreamHelper.send_result(out, 1)
      assert_receive {:stream_response, %Response{result: 1}}
      assert Process.alive?(function)
      StreamHelper.send_last_result(out, 2)
      assert frames() == {[], Response.stream_response("r1", 2, false)}
    end

    test "has its items delivered after it has returned, and its return ignored" do
      for value <- [:ok, 5, %{}, "x", {:error, :no}, :error, [1, 2], {:ok, [3]}, {:a, :b}] do
        {_pid, function, out} = feed_returning(value)
        StreamHelper.send_result(out, 1)
        watched = watch(function)
        send(function, :return)
        assert_ends(watched)
        StreamHelper.send_result(out, 2)
        StreamHelper.send_complete(out)
        assert {value, frames()} == {value, {[1, 2], ended()}}
      end

      nothing_more()
    end

    defp feed_returning(value) do
      test = self()

      config =
        helped(fn out ->
          send(test, {:function, self(), out})
          receive(do: (:return -> value))
        end)

      pid = start(config)
      assert_receive {:function, function, out}
      {pid, function, out}
    end

    test "that has sent nothing may return an enumerable or an error instead" do
      assert frames(helped(fn _out -> [1, 2] end)) == {[1, 2], ended()}
      assert frames(helped(fn _out -> {:ok, 1..3} end)) == {[1, 2, 3], ended()}

      assert frames(helped(fn _out -> {:error, "hunter2"} end)) ==
               {[], error("Internal Server Error")}

      assert frames(helped(fn _out -> :error end)) == {[], error("Internal Server Error")}

      own = Response.error_response(nil, "Out of stock")
      assert frames(helped(fn _out -> own end)) == {[], error("Out of stock")}
    end

    test "that has sent nothing and returns something else keeps its stream open" do
      for value <- [:ok, 5, %{a: 1}, "text", {:a, :b}, nil] do
        {_pid, function, out} = feed_returning(value)
        watched = watch(function)
        send(function, :return)
        assert_ends(watched)
        StreamHelper.send_result(out, value)
        StreamHelper.send_complete(out)
        assert frames() == {[value], ended()}
      end
    end

    test "may let other processes send: the items of each arrive in its order" do
      config =
        helped(fn out ->
          tasks =
            for n <- 1..5,
                do:
                  Task.async(fn -> for i <- 1..200, do: StreamHelper.send_result(out, {n, i}) end)

          Task.await_many(tasks, :infinity)
          StreamHelper.send_complete(out)
        end)

      {results, last} = frames(config)
      assert last == ended()
      by_sender = Enum.group_by(results, &elem(&1, 0), &elem(&1, 1))
      assert by_sender == Map.new(1..5, &{&1, Enum.to_list(1..200)})
    end

    test "may use a helper with the first two fields only, and raw messages" do
      {_pid, _function, out} = feed()
      bare = %StreamHelper{stream_pid: out.stream_pid, request_id: "r1"}
      for n <- 1..300, do: assert(StreamHelper.send_result(bare, n) == :ok)
      send(out.stream_pid, {:result, 301})
      send(out.stream_pid, {:last_result, 302})
      {results, last} = frames()
      assert results == Enum.to_list(1..301)
      assert last == Response.stream_response("r1", 302, false)
    end

    test "may put a process of its own between itself and the stream" do
      test = self()

      config =
        helped(fn out ->
          between = spawn_link(fn -> double(out) end)
          for n <- 1..300, do: StreamHelper.send_result(%{out | stream_pid: between}, n)
          send(test, :sent)
          receive(do: (:never -> :ok))
        end)

      start(config)
      assert_receive :sent
      for n <- 1..300, do: assert_receive({:stream_response, %Response{result: ^n}})
      assert PhoenixGenApi.stop_stream("r1") == :ok
      frames()
    end

    defp double(out) do
      receive do
        {:result, n} -> StreamHelper.send_result(out, n)
      end

      double(out)
    end

    test "that raises, exits or throws ends its stream with an error that says nothing" do
      for how <- [:raise, :error, :exit, :normal, :throw, :kill] do
        {results, last} =
          frames(
            helped(fn out ->
              StreamHelper.send_result(out, 1)
              Functions.crash(how)
            end)
          )

        assert {how, last} == {how, error("Internal Server Error")}
        # A function that is killed may take its last messages with it.
        if how != :kill, do: assert(results == [1])
      end
    end

    test "knows its callers" do
      test = self()
      start(helped(fn _out -> send(test, {:callers, Process.get(:"$callers")}) && [] end))
      assert_receive {:callers, callers}
      assert test in callers
    end

    test "may send items of many megabytes" do
      items = for n <- 1..3, do: String.duplicate(<<n>>, 5_000_000)
      lists = for n <- 1..3, do: List.duplicate(n, 500_000)

      config =
        helped(fn out ->
          for item <- items ++ lists, do: StreamHelper.send_result(out, item)
          StreamHelper.send_complete(out)
        end)

      assert {results, last} = frames(config)
      assert results == items ++ lists
      assert last == ended()
    end

    test "is neither linked to the stream nor told of anything" do
      {pid, function, out} = feed()
      assert {:links, []} = Process.info(function, :links)
      for n <- 1..500, do: StreamHelper.send_result(out, n)
      assert {:messages, []} = Process.info(function, :messages)
      StreamHelper.send_complete(out)
      refute pid == function
    end
  end

  describe "a function without a helper" do
    test "may return an enumerable, which is relayed item by item" do
      {:ok, io} = StringIO.open("a\nb\n")

      for {enumerable, items} <- [
            {[1, "a", nil], [1, "a", nil]},
            {[], []},
            {[a: 1], [a: 1]},
            {1..100, Enum.to_list(1..100)},
            {MapSet.new([1]), [1]},
            {Stream.map(1..3, &(&1 * 2)), [2, 4, 6]},
            {Stream.resource(fn -> 1 end, &counted/1, fn _ -> :ok end), [1, 2, 3]},
            {IO.stream(io, :line), ["a\n", "b\n"]},
            {Date.range(~D[2026-01-01], ~D[2026-01-02]), [~D[2026-01-01], ~D[2026-01-02]]},
            {{:ok, [1]}, [1]},
            {{:ok, 1..2}, [1, 2]}
          ] do
        assert frames(plain(fn -> enumerable end)) == {items, ended()}
      end
    end

    defp counted(4), do: {:halt, 4}
    defp counted(n), do: {[n], n + 1}

    test "may return a value, which is the only frame" do
      for {value, result} <- [
            {5, 5},
            {nil, nil},
            {"text", "text"},
            {%{a: 1}, %{a: 1}},
            {{:ok, "x"}, "x"},
            {{:ok, %{b: 2}}, %{b: 2}},
            {~D[2026-01-01], ~D[2026-01-01]}
          ] do
        assert frames(plain(fn -> value end)) ==
                 {[], Response.stream_response("r1", result, false)}
      end

      nothing_more()
    end

    test "may return a response, which is sent as it is" do
      own = Response.error_response(nil, "Out of stock", true)
      assert frames(plain(fn -> own end)) == {[], error("Out of stock", true)}
      assert frames(plain(fn -> {:ok, own} end)) == {[], error("Out of stock", true)}
      {[], last} = frames(plain(fn -> Response.stream_response("x", 1) end))
      assert last == Response.stream_response("r1", 1, false)
    end

    test "that fails ends its stream with the text of its failure" do
      assert frames(plain(fn -> {:error, "hunter2"} end)) == {[], error("Internal Server Error")}
      assert frames(plain(fn -> :error end)) == {[], error("Internal Server Error")}
      assert frames(plain(fn -> {:a, 1} end)) == {[], error("Unexpected execution result")}

      for how <- [:raise, :error, :exit, :normal, :throw, :kill] do
        config = %{plain(fn -> [] end) | mfa: {Functions, :crash, [how]}}
        assert {how, frames(config)} == {how, {[], error("Internal Server Error")}}
      end

      missing = %{plain(fn -> [] end) | mfa: {Functions, :no_such, []}}
      assert frames(missing) == {[], error("Internal Server Error")}
    end

    test "tells a client the reason only with detail_error" do
      Application.put_env(:phoenix_gen_api, :detail_error, true)
      :ok = PhoenixGenApi.Config.reload()

      on_exit(fn ->
        Application.delete_env(:phoenix_gen_api, :detail_error)
        PhoenixGenApi.Config.reload()
      end)

      {[], last} = frames(plain(fn -> raise "why" end))
      assert last == error("Internal Server Error: why")
      {[], last} = frames(helped(fn out -> StreamHelper.send_error(out, :because) end))
      assert last == error("Internal Server Error: :because")
    end
  end

  describe "an enumerable" do
    test "runs in the process of the function" do
      config =
        plain(fn ->
          owner = self()
          Stream.map([1], fn _ -> self() == owner end)
        end)

      assert frames(config) == {[true], ended()}
    end

    test "that raises in the middle ends its stream with an error after its items" do
      config = plain(fn -> Stream.map(1..5, &if(&1 == 4, do: raise("hunter2"), else: &1)) end)
      assert frames(config) == {[1, 2, 3], error("Internal Server Error")}
      improper = [1 | 2]
      assert {_, last} = frames(plain(fn -> improper end))
      assert last == error("Internal Server Error")
    end

    test "is halted when its stream is stopped, and its cleanup runs" do
      {pid, producer} = endless(fn n -> {[n], n + 1} end)
      watched = watch([pid, producer])
      StreamCall.stop(pid)
      assert_receive :cleaned_up
      assert_ends(watched)
      assert {_results, last} = frames()
      assert last == ended()
    end

    test "that makes its items slowly is halted with the next one" do
      {pid, producer} =
        endless(fn n ->
          receive do
          after
            30 -> {[n], n + 1}
          end
        end)

      assert_receive {:stream_response, %Response{result: 1}}
      watched = watch([pid, producer])
      StreamCall.stop(pid)
      assert_receive :cleaned_up
      assert_ends(watched)
      assert {_results, last} = frames()
      assert last == ended()
    end

    test "is halted when its receiver dies, its time is over, or its stream is killed" do
      receiver = spawn(fn -> receive(do: (:never -> :ok)) end)
      {config, _} = endless_config(fn n -> {[n], n + 1} end, [])
      assert %Response{success: true} = execute_for(receiver, config)
      assert_receive {:producing, _producer}
      Process.exit(receiver, :kill)
      assert_receive :cleaned_up, 5_000

      endless(fn n -> {[n], n + 1} end, timeout: 100)
      assert_receive :cleaned_up
      assert {_, last} = frames()
      assert last == error("Request timed out after 100ms", true)

      {pid, _producer} = endless(fn n -> {[n], n + 1} end)
      Process.exit(pid, :kill)
      assert_receive :cleaned_up
      assert {_, last} = frames()
      assert last == error("Stream execution failed")
    end

    test "that hangs is killed shortly after its stream was stopped" do
      test = self()

      {pid, producer} =
        endless(fn _ ->
          send(test, :hangs)
          receive(do: (:never -> :ok))
        end)

      assert_receive :hangs
      watched = watch([pid, producer])
      StreamCall.stop(pid)
      assert frames() == {[], ended()}
      assert_ends(watched)
    end

    test "may take every message there is without disturbing its stream" do
      test = self()

      {pid, producer} =
        endless(fn n ->
          receive do
            message -> send(test, {:taken, message})
          after
            0 -> :ok
          end

          {if(n > 1_000, do: :halt, else: [n]), n + 1}
        end)

      send(producer, :mine)
      assert {results, last} = frames()
      assert {length(results), last} == {1_000, ended()}
      assert_receive {:taken, :mine}
      refute_received {:taken, _}
      assert is_pid(pid)
    end

    defp endless(next, fields \\ []) do
      {config, _} = endless_config(next, fields)
      pid = start(config)
      assert_receive {:producing, producer}
      {pid, producer}
    end

    defp endless_config(next, fields) do
      test = self()

      config =
        plain(
          fn ->
            Stream.resource(
              fn ->
                send(test, {:producing, self()})
                1
              end,
              next,
              fn _ -> send(test, :cleaned_up) end
            )
          end,
          fields
        )

      {config, test}
    end
  end

  describe "the end of a stream" do
    test "is the first one that is sent, and nothing comes after it" do
      ends = [
        {&StreamHelper.send_last_result(&1, "last"),
         Response.stream_response("r1", "last", false)},
        {&StreamHelper.send_complete/1, ended()},
        {&StreamHelper.send_error(&1, "hunter2"), error("Internal Server Error")},
        {&StreamHelper.send_error(&1, Response.error_response("x", "Gone", true)),
         error("Gone", true)},
        {&StreamCall.stop(&1.stream_pid), ended()}
      ]

      for {first, last} <- ends, {second, _} <- ends do
        {pid, function, out} = feed()
        watched = watch([pid, function])
        StreamHelper.send_result(out, 1)
        assert first.(out) == :ok
        assert second.(out) == :ok
        assert StreamHelper.send_result(out, 2) == :ok
        assert frames() == {[1], last}
        assert_ends(watched)
      end

      nothing_more()
    end

    test "is its timeout, which is its whole life" do
      {pid, function, out} = feed(timeout: 150)
      watched = watch([pid, function])
      StreamHelper.send_result(out, 1)
      assert frames() == {[1], error("Request timed out after 150ms", true)}
      assert_ends(watched)
    end

    test "comes when its time has passed in the queue, though the pool stays full" do
      test = self()

      with_full_pool(fn free ->
        config = plain(fn -> send(test, :ran) end, timeout: 100)
        assert run(config) == error("Request timed out after 100ms", true, executed: "no")
        Await.until(fn -> WorkerPool.status(:stream_pool).queued_tasks == 0 end)
        assert Registry.find(test, "r1") == {:ok, []}
        free.()
      end)

      nothing_more()
    end

    test "is not waited for by a stream in the queue whose receiver has died" do
      with_full_pool(fn free ->
        config = plain(fn -> [1] end)
        receiver = spawn(fn -> run(config) && receive(do: (:never -> :ok)) end)
        Await.until(fn -> WorkerPool.status(:stream_pool).queued_tasks == 1 end)
        Process.exit(receiver, :kill)
        Await.until(fn -> WorkerPool.status(:stream_pool).queued_tasks == 0 end)
        assert Registry.find(receiver, "r1") == {:ok, []}
        free.()
      end)
    end

    test "comes when its pool stops while it waits for a worker, and nothing is left to be stopped" do
      test = self()

      with_full_pool(fn _free ->
        run_waiting(plain(fn -> send(test, :ran) end))
        :ok = Supervisor.terminate_child(WorkerPoolSupervisor, :stream_pool)
        {:ok, _pool} = Supervisor.restart_child(WorkerPoolSupervisor, :stream_pool)
        assert frames() == {[], error("Stream execution failed")}
        Await.until(fn -> Registry.count() == 0 end)
        assert PhoenixGenApi.stop_stream("r1") == {:error, :not_found}
      end)

      nothing_more()
    end

    test "comes when its process is killed while it waits, and nothing is left to be stopped" do
      with_full_pool(fn free ->
        run_waiting(plain(fn -> [1] end))
        killed = fn -> lost_in_the_queue("r2") end
        :sys.suspend(Registry)
        killed.()
        # Which is known before its row is taken out.
        assert PhoenixGenApi.stop_stream("r2") == {:error, :not_found}
        :sys.resume(Registry)
        Await.until(fn -> Registry.count() == 1 end)
        # Also while nobody watches.
        restarted(Registry, killed)
        Await.until(fn -> Registry.count() == 1 end)
        free.()
      end)

      assert_receive {:stream_started, "r1", _pid}
      assert frames() == {[1], ended()}
      nothing_more()
    end

    defp lost_in_the_queue(id) do
      before = Process.list()
      run_waiting(plain(fn -> [1] end), request_id: id)
      [waiting] = for pid <- Process.list() -- before, waits_for_turn?(pid), do: pid
      Process.exit(waiting, :kill)
      assert_receive {:stream_response, %Response{request_id: ^id, success: false}}
    end

    defp waits_for_turn?(pid) do
      Process.info(pid, :initial_call) == {:initial_call, {WorkerPool.Task, :run, 7}}
    end

    test "comes when its function's process is killed" do
      {_pid, function, out} = feed()
      StreamHelper.send_result(out, 1)
      assert_receive {:stream_response, %Response{result: 1}}
      Process.exit(function, :kill)
      assert frames() == {[], error("Internal Server Error")}
    end

    test "comes when the guard of its function is killed, and the function ends" do
      {_pid, function, _out} = feed()
      {:parent, guard} = Process.info(function, :parent)
      watched = watch(function)
      Process.exit(guard, :kill)
      assert frames() == {[], error("Internal Server Error")}
      assert_ends(watched)
      nothing_more()
    end

    test "comes when its own process is killed, and its function ends" do
      {pid, function, _out} = feed()
      watched = watch(function)
      Process.exit(pid, :kill)
      assert frames() == {[], error("Stream execution failed")}
      assert_ends(watched)
      nothing_more()
    end

    test "is the death of the receiver: the function ends" do
      receiver = spawn(fn -> receive(do: (:never -> :ok)) end)
      execute_for(receiver, fed())
      assert_receive {:function, function, out}
      watched = watch([function, out.stream_pid])
      Process.exit(receiver, :kill)
      assert_ends(watched)
    end

    test "is not disturbed by messages that mean nothing" do
      {pid, _function, out} = feed()

      for message <- [
            :hello,
            {:foo, 1},
            {:EXIT, self(), :boom},
            {make_ref(), :x},
            {:DOWN, 1, 2},
            %{},
            {:timeout, make_ref(), :deadline},
            {:nodedown, node()}
          ],
          do: send(pid, message)

      StreamHelper.send_last_result(out, 1)
      assert frames() == {[], Response.stream_response("r1", 1, false)}
    end

    test "leaves a producer with nothing but :ok" do
      {pid, _function, out} = feed()
      watched = watch(pid)
      StreamHelper.send_complete(out)
      assert_ends(watched)
      frames()

      Task.await(
        Task.async(fn ->
          for n <- 1..1_000, do: assert(StreamHelper.send_result(out, n) == :ok)
          assert {:messages, []} = Process.info(self(), :messages)
          assert {:monitors, []} = Process.info(self(), :monitors)
        end)
      )

      nothing_more()
    end
  end

  describe "back-pressure" do
    test "holds a producer back while its receiver is slow, and loses nothing" do
      receiver = slow_receiver()
      count = :counters.new(1, [])

      config =
        helped(fn out ->
          for n <- 1..10_000 do
            StreamHelper.send_result(out, n)
            :counters.add(count, 1, 1)
          end

          StreamHelper.send_complete(out)
        end)

      execute_for(receiver, config)
      ahead = settled(fn -> :counters.get(count, 1) end, 1_000)
      assert ahead in 1_000..1_200
      assert waiting(receiver) <= ahead
      send(receiver, :go)
      assert frames() == {Enum.to_list(1..10_000), ended()}
    end

    test "holds each of several producers back" do
      receiver = slow_receiver()
      count = :counters.new(1, [])

      config =
        helped(fn out ->
          1..10
          |> Enum.map(fn _ ->
            Task.async(fn ->
              for n <- 1..1_000 do
                StreamHelper.send_result(out, n)
                :counters.add(count, 1, 1)
              end
            end)
          end)
          |> Task.await_many(:infinity)

          StreamHelper.send_complete(out)
        end)

      execute_for(receiver, config)
      assert settled(fn -> :counters.get(count, 1) end, 1_000) in 1_000..1_800
      send(receiver, :go)
      assert {results, last} = frames()
      assert {length(results), last} == {10_000, ended()}
    end

    test "leaves at most max_unacked items with the stream" do
      receiver = slow_receiver()

      execute_for(
        receiver,
        helped(fn out -> for n <- 1..5_000, do: StreamHelper.send_result(out, n) end)
      )

      settled(fn -> waiting(receiver) end, 900)
      # The stream's own process: its items, and one that asks.
      assert {:ok, [pid]} = Registry.find(receiver, "r1")
      assert waiting(pid) <= 65
      Process.unlink(receiver)
      Process.exit(receiver, :kill)
    end

    test "keeps an enumerable at most that far ahead" do
      receiver = slow_receiver()
      count = :counters.new(1, [])
      config = plain(fn -> Stream.each(1..10_000, fn _ -> :counters.add(count, 1, 1) end) end)
      execute_for(receiver, config)
      ahead = settled(fn -> :counters.get(count, 1) end, 1_000)
      assert ahead <= waiting(receiver) + 64
      assert ahead in 1_000..1_200
      send(receiver, :go)
      assert frames() == {Enum.to_list(1..10_000), ended()}
    end

    test "ends with the stream: who waits goes on" do
      for stop <- [:stop, :kill, :timeout] do
        receiver = slow_receiver()
        test = self()

        config =
          helped(
            fn out ->
              spawn(fn ->
                for n <- 1..5_000, do: StreamHelper.send_result(out, n)
                send(test, {:done, Process.info(self(), [:messages, :monitors])})
              end)

              send(test, {:stream, out.stream_pid})
            end,
            timeout: if(stop == :timeout, do: 300, else: :infinity)
          )

        execute_for(receiver, config)
        assert_receive {:stream, pid}
        settled(fn -> waiting(receiver) end, if(stop == :timeout, do: 0, else: 900))
        if stop == :stop, do: StreamCall.stop(pid)
        if stop == :kill, do: Process.exit(pid, :kill)
        assert_receive {:done, [messages: [], monitors: []]}, 5_000
        Process.unlink(receiver)
        Process.exit(receiver, :kill)
      end
    end

    test "never makes the receiver wait for itself" do
      {_pid, _function, out} = feed()
      for n <- 1..5_000, do: StreamHelper.send_result(out, n)
      StreamHelper.send_complete(out)
      assert frames() == {Enum.to_list(1..5_000), ended()}
    end

    test "does not hold up a stop, of a stream that holds thousands of raw messages back" do
      receiver = slow_receiver()
      execute_for(receiver, fed())
      assert_receive {:function, function, out}
      for n <- 1..20_000, do: send(out.stream_pid, {:result, n})
      settled(fn -> waiting(receiver) end, 900)
      watched = watch([function, out.stream_pid])
      StreamCall.stop(out.stream_pid)
      assert_ends(watched)
      send(receiver, :go)
      assert {results, last} = frames()
      assert last == ended()
      assert results == Enum.to_list(1..length(results))
      assert length(results) < 1_200
    end

    # The value once it has reached what it must reach and has not changed for a while since. How
    # long that while is decides only whether too large a value is found, never whether one is too
    # small.
    defp settled(value, floor) do
      Await.until(fn -> value.() >= floor end)
      unchanged(value, nil, 0)
    end

    defp unchanged(value, last, times) do
      now = value.()

      cond do
        now != last -> pause() && unchanged(value, now, 0)
        times < 10 -> pause() && unchanged(value, now, times + 1)
        true -> now
      end
    end

    defp pause do
      receive do
      after
        10 -> true
      end
    end
  end

  describe "stop_stream" do
    test "by pid stops from anywhere, once and again" do
      {pid, function, _out} = feed()
      watched = watch([pid, function])
      assert Task.await(Task.async(fn -> PhoenixGenApi.stop_stream(pid) end), 60_000) == :ok
      assert frames() == {[], ended()}
      assert_ends(watched)
      assert PhoenixGenApi.stop_stream(pid) == :ok
      assert StreamCall.stop(pid) == :ok
      nothing_more()
    end

    test "by id stops the caller's streams of that id and no others" do
      {one, _, _} = feed([], request_id: "a")
      {two, _, _} = feed([], request_id: "a")
      {other, _, _} = feed([], request_id: "b")
      watched = watch([one, two])

      assert Task.await(Task.async(fn -> PhoenixGenApi.stop_stream("a") end), 60_000) ==
               {:error, :not_found}

      assert PhoenixGenApi.stop_stream("c") == {:error, :not_found}
      assert PhoenixGenApi.stop_stream("a") == :ok
      assert_ends(watched)
      end_frame = {:stream_response, Response.stream_end_response("a")}
      assert_received ^end_frame
      assert_received ^end_frame
      assert Process.alive?(other)
      assert PhoenixGenApi.stop_stream("a") == {:error, :not_found}
      assert PhoenixGenApi.stop_stream("b") == :ok
      assert {[], _} = frames()
    end

    test "by id stops one that waits for a worker, which then never begins" do
      test = self()

      with_full_pool(fn free ->
        run_waiting(plain(fn -> send(test, :ran) end))
        assert PhoenixGenApi.stop_stream("r1") == :ok
        assert frames() == {[], ended()}
        assert PhoenixGenApi.stop_stream("r1") == {:error, :not_found}
        free.()
      end)

      nothing_more()
    end

    test "by id gives the place in the queue back, also of streams without a timeout" do
      with_full_pool(fn free ->
        for _ <- 1..3, do: run_waiting(plain(fn -> [1] end))
        assert PhoenixGenApi.stop_stream("r1") == :ok
        for _ <- 1..3, do: assert(frames() == {[], ended()})
        Await.until(fn -> WorkerPool.status(:stream_pool).queued_tasks == 0 end)
        free.()
      end)

      nothing_more()
    end

    test "by id ends one that waits once, though its pool stops or it is killed just then" do
      for accident <- [:pool, :kill] do
        with_full_pool(fn free ->
          before = Process.list()
          run_waiting(plain(fn -> [1] end))
          [waiting] = for pid <- Process.list() -- before, waits_for_turn?(pid), do: pid
          # It does not come to anything before the accident.
          :erlang.suspend_process(waiting)
          assert PhoenixGenApi.stop_stream("r1") == :ok

          if accident == :kill do
            Process.exit(waiting, :kill)
            free.()
          else
            :ok = Supervisor.terminate_child(WorkerPoolSupervisor, :stream_pool)
            :erlang.resume_process(waiting)
            {:ok, _pool} = Supervisor.restart_child(WorkerPoolSupervisor, :stream_pool)
          end

          assert {[], %Response{has_more: false}} = frames()
        end)

        nothing_more()
      end
    end

    test "by id tells the after hook of one that waits" do
      test = self()
      hook = {Functions, :finished, [fn _, _, response -> send(test, {:after, response}) end]}

      with_full_pool(fn free ->
        run_waiting(plain(fn -> [1] end, after_execute: hook))
        assert PhoenixGenApi.stop_stream("r1") == :ok
        assert_receive {:after, response}
        assert response == ended()
        assert frames() == {[], ended()}
        free.()
      end)

      nothing_more()
    end

    test "by id finds a stream after the registry's process was killed" do
      {_pid, function, _out} = feed()
      restarted(Registry, fn -> :ok end)
      watched = watch(function)
      assert PhoenixGenApi.stop_stream("r1") == :ok
      assert frames() == {[], ended()}
      assert_ends(watched)

      {pid, _function, _out} = feed()
      Process.exit(pid, :kill)
      Await.until(fn -> Registry.count() == 0 end)
      frames()
    end

    test "by id says so where no gateway runs" do
      assert {:error, :not_running} == on_client(fn -> PhoenixGenApi.stop_stream("r1") end)
    end

    # The table of streams away for a moment, as on a node in client mode.
    defp on_client(fun) do
      owner = Process.whereis(PhoenixGenApi.Supervisor)
      assert :ets.info(Registry, :owner) == owner
      :ets.rename(Registry, :elsewhere)

      try do
        fun.()
      after
        :ets.rename(:elsewhere, Registry)
      end
    end
  end

  describe "start_link" do
    test "runs a stream outside the pool, linked to the caller, for the caller" do
      request = request()
      config = plain(fn -> [1, 2] end)
      busy = WorkerPool.status(:stream_pool).total_tasks_executed

      assert {:ok, pid} =
               StreamCall.start_link(%{request: request, fun_config: config, receiver: nil})

      assert_receive {:stream_started, "r1", ^pid}
      assert frames() == {[1, 2], ended()}
      assert WorkerPool.status(:stream_pool).total_tasks_executed == busy
    end

    test "is linked: it ends with its caller" do
      test = self()
      receiver = slow_receiver()

      caller =
        spawn(fn ->
          {:ok, pid} =
            StreamCall.start_link(%{
              request: request(),
              fun_config: blocked(test),
              receiver: receiver
            })

          send(test, {:started, pid})
          receive(do: (:never -> :ok))
        end)

      assert_receive {:started, pid}
      assert_receive {:function, function, _out}
      watched = watch([pid, function])
      Process.exit(caller, :boom)
      assert_ends(watched)
      send(receiver, :go)
      assert frames() == {[], error("Stream execution failed")}
    end

    test "sends to the receiver, and can be stopped" do
      receiver = slow_receiver()
      send(receiver, :go)
      args = %{request: request(), fun_config: blocked(self()), receiver: receiver}
      assert {:ok, pid} = StreamCall.start_link(args)
      assert_receive {:function, _function, out}
      StreamHelper.send_result(out, 1)
      assert_receive {:stream_response, %Response{result: 1}}
      assert StreamCall.stop(pid) == :ok
      assert frames() == {[], ended()}
    end

    test "refuses a config or arguments that are wrong" do
      config = %{plain(fn -> [] end) | timeout: 1}

      assert {:error, {:invalid_config, [_]}} =
               StreamCall.start_link(%{request: request(), fun_config: config})

      config = plain(fn -> [] end, arg_types: %{"a" => :num})

      assert {:error, {:invalid_arguments, _}} =
               StreamCall.start_link(%{request: request(), fun_config: config})

      assert Registry.count() == 0
    end

    defp blocked(test) do
      helped(fn out ->
        send(test, {:function, self(), out})
        receive(do: (:never -> :ok))
      end)
    end
  end

  describe "the after hook" do
    test "sees the final response once, at the end, and its return is ignored" do
      test = self()

      hook = fn _request, _config, response ->
        send(test, {:after, response})
        Response.error_response(nil, "replaced")
      end

      {_pid, _function, out} = feed(after_execute: {Functions, :finished, [hook]})
      StreamHelper.send_result(out, 1)
      assert_receive {:stream_response, %Response{result: 1}}
      refute_received {:after, _}
      StreamHelper.send_last_result(out, 2)
      last = Response.stream_response("r1", 2, false)
      assert frames() == {[], last}
      assert_receive {:after, ^last}
      nothing_more()
    end

    test "runs when the stream fails, is stopped, or its receiver dies" do
      test = self()
      hook = {Functions, :finished, [fn _, _, response -> send(test, {:after, response}) end]}
      frames(plain(fn -> raise "no" end, after_execute: hook))
      assert_receive {:after, %Response{error: "Internal Server Error"}}
      {pid, _, _} = feed(after_execute: hook)
      StreamCall.stop(pid)
      frames()
      end_frame = ended()
      assert_receive {:after, ^end_frame}

      receiver = spawn(fn -> receive(do: (:never -> :ok)) end)
      execute_for(receiver, fed(after_execute: hook))
      assert_receive {:function, _function, _out}
      Process.exit(receiver, :kill)
      assert_receive {:after, ^end_frame}
    end

    test "holds nothing up: not the function, not the slot, not those who still send" do
      test = self()

      hook =
        {Functions, :finished,
         [
           fn _, _, _ ->
             send(test, {:hook, self()})
             receive(do: (:go -> :ok))
           end
         ]}

      {pid, function, out} = feed(after_execute: hook, hook_timeout: 60_000)
      watched = watch([pid, function])
      StreamCall.stop(pid)
      assert frames() == {[], ended()}
      assert WorkerPool.status(:stream_pool).busy_workers == 0
      assert_receive {:hook, hook}
      assert_ends(watched)

      Task.await(
        Task.async(fn -> for n <- 1..1_000, do: StreamHelper.send_result(out, n) end),
        60_000
      )

      send(hook, :go)
      nothing_more()
    end
  end

  describe "telemetry" do
    test "tells of the acknowledgement as a request, and of the stream as a task" do
      test = self()
      id = {__MODULE__, test}

      :ok =
        PhoenixGenApi.Telemetry.attach_all(id, fn name, _, metadata, _ ->
          send(test, {:event, tl(name), metadata})
        end)

      on_exit(fn -> PhoenixGenApi.Telemetry.detach_all(id) end)
      {_pid, _function, out} = feed()
      assert_receive {:event, [:executor, :request, :start], %{request_id: "r1"}}
      assert_receive {:event, [:executor, :request, :stop], %{success: true, async: true}}
      assert_receive {:event, [:worker_pool, :task, :start], %{pool_name: :stream_pool}}
      refute_received {:event, [:worker_pool, :task, :stop], _}
      StreamHelper.send_error(out, "no")
      assert_receive {:event, [:worker_pool, :task, :stop], %{pool_name: :stream_pool}}
      refute_received {:event, [:executor, :request, _], _}

      frames(plain(fn -> raise "why" end))
      assert_receive {:event, [:worker_pool, :task, :exception], metadata}
      assert %{pool_name: :stream_pool, kind: :error, reason: "why"} = metadata
    end
  end

  # Killed, and `fun` is run before its supervisor can have started it again.
  defp restarted(name, fun) do
    supervisor = Process.whereis(PhoenixGenApi.Supervisor)
    old = Process.whereis(name)
    :ok = :sys.suspend(supervisor)
    Process.exit(old, :kill)
    Await.until(fn -> Process.whereis(name) == nil end)
    fun.()
    :ok = :sys.resume(supervisor)
    Await.until(fn -> Process.whereis(name) end)
  end

  # Runs `fun` with a function that frees the pool, which is full until then.
  # Requests wait for as long as the test takes.
  defp with_full_pool(fun) do
    PhoenixGenApi.Test.Options.set(:stream, start_timeout_ms: 600_000)
    status = WorkerPool.status(:stream_pool)
    test = self()
    size = status.idle_workers + status.busy_workers

    for _ <- 1..size do
      WorkerPool.execute_async(:stream_pool, fn ->
        send(test, {:blocks, self()})
        receive(do: (:go -> :ok))
      end)
    end

    blocking = for _ <- 1..size, do: receive(do: ({:blocks, pid} -> pid))
    fun.(fn -> for pid <- blocking, do: send(pid, :go) end)
  end
end
