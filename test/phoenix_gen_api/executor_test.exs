defmodule PhoenixGenApi.ExecutorTest do
  # Counts the processes of the node, and changes its configuration.
  use PhoenixGenApi.Test.OwnVM

  import PhoenixGenApi.Test.Answers

  alias PhoenixGenApi.{
    Await,
    ConfigDb,
    Executor,
    NodeSelector,
    Relay,
    Telemetry,
    WorkerPool
  }

  alias PhoenixGenApi.Errors.DecodeError
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.{Request, Response}
  alias PhoenixGenApi.Test.{Functions, Leaks, Options}
  alias PhoenixGenApi.WorkerPool.WorkerPoolSupervisor

  @moduletag :capture_log

  doctest Executor

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
  end

  defp config(fun, fields \\ []), do: Functions.config(fun, [timeout: 5_000] ++ fields)
  defp request(fields \\ []), do: Functions.request(fields)
  defp run(fun, fields \\ []), do: Executor.execute_with_config!(request(), config(fun, fields))

  defp detail_error(on?), do: Options.set(:gen_api, detail_error: on?)

  # What a call must not leave behind.
  defp traces do
    {:monitors, monitors} = Process.info(self(), :monitors)
    {:links, links} = Process.info(self(), :links)
    {:messages, messages} = Process.info(self(), :messages)
    %{monitors: monitors, links: Enum.sort(links), messages: messages}
  end

  defp assert_ends(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, reason}
    reason
  end

  # A function that says where it runs and then never ends.
  defp hang do
    parent = self()

    fn ->
      send(parent, {:running, self(), Process.get(:"$callers")})
      Process.sleep(:infinity)
    end
  end

  defp running do
    assert_receive {:running, pid, callers}

    # From when its caller waits on, the caller's death is noticed.
    with [caller | _] when caller != self() <- callers,
         do: Await.until(fn -> waits?(caller) end)

    pid
  end

  defp waits?(pid), do: Process.info(pid, :status) in [nil, {:status, :waiting}]

  # The pool of the application with other options.
  defp pool(opts) do
    :ok = Supervisor.terminate_child(WorkerPoolSupervisor, :async_pool)
    if opts, do: start_supervised!({WorkerPool, [name: :async_pool] ++ opts})

    on_exit(fn ->
      # The test's own supervisor has ended by now.
      {:ok, _pid} = Supervisor.restart_child(WorkerPoolSupervisor, :async_pool)
    end)
  end

  describe "lookup" do
    test "of an unknown function names it and the version asked for" do
      for {version, shown} <- [{nil, "latest"}, {"0.0.0", "latest"}, {"1.0.0", "1.0.0"}] do
        assert Executor.execute!(request(version: version)) ==
                 error("unsupported function: run version #{shown}")
      end
    end

    test "of a disabled function says so" do
      :ok = ConfigDb.add(config(fn -> 1 end, version: "1.0.0", disabled: true))

      for {version, shown} <- [{nil, "latest"}, {"0.0.0", "latest"}, {"1.0.0", "1.0.0"}] do
        assert Executor.execute!(request(version: version)) ==
                 error("disabled function: run version #{shown}")
      end

      assert Executor.execute!(request(version: "2.0.0")) ==
               error("unsupported function: run version 2.0.0")
    end

    test "finds the version that the request gets, and the service by atom or string" do
      for version <- ["1.0.0", "2.0.0"],
          do: :ok = ConfigDb.add(config(fn -> version end, version: version))

      assert Executor.execute!(request()) == ok("2.0.0")
      assert Executor.execute!(request(version: "1.0.0")) == ok("1.0.0")
      assert Executor.execute!(request(service: :test)) == ok("2.0.0")
    end
  end

  describe "a function's return" do
    test "of {:ok, value} or of no tuple is the result" do
      for value <- [
            nil,
            true,
            0,
            1.5,
            "text",
            :atom,
            [],
            [1, {2}],
            %{a: 1},
            ~D[2026-01-01],
            self()
          ] do
        assert run(fn -> {:ok, value} end) == ok(value)
        assert run(fn -> value end) == ok(value) or value == :error
      end

      assert run(fn -> :ok end) == ok(:ok)
      assert run(fn -> {:ok, {:ok, 1}} end) == ok({:ok, 1})
      assert run(fn -> {:ok, :error} end) == ok(:error)
    end

    test "of a response is sent as it is, with the id of the request" do
      given = %Response{
        request_id: "other",
        error: "Out of stock",
        result: 5,
        has_more: true,
        can_retry: true
      }

      assert run(fn -> given end) == %{given | request_id: "r1", code: "error"}
      assert run(fn -> Response.error_response(nil, "Out of stock") end) == error("Out of stock")
    end

    test "of an error is an internal error" do
      for returned <- [{:error, :r}, {:error, "hunter2"}, {:error, nil}, :error] do
        assert run(fn -> returned end) == error("Internal Server Error")
      end
    end

    test "of any other tuple is unexpected" do
      for returned <- [{}, {:ok}, {:error}, {:ok, 1, 2}, {:error, 1, 2}, {1, 2}, {:reply, 1}] do
        assert run(fn -> returned end) == error("Unexpected execution result")
      end
    end
  end

  test "the process of a function has the request as Logger metadata, escaped" do
    request = request(user_id: "ann\e", request_id: "r1\n", service: :test)
    metadata = [request_id: ~S(r1\n), request_type: "run", service: "test", user_id: ~S(ann\e)]

    for type <- [:sync, :async, :stream] do
      parent = self()
      tell = fn -> send(parent, {:metadata, Logger.metadata()}) && [] end
      Executor.execute_with_config!(request, config(tell, response_type: type))
      assert_receive {:metadata, told}
      assert Enum.sort(told) == metadata
    end
  end

  describe "a function that fails" do
    defp failing do
      [
        fn -> raise "hunter2" end,
        fn -> raise ArgumentError, "hunter2" end,
        fn -> :erlang.error(:hunter2) end,
        fn -> :erlang.error({:badmatch, "hunter2"}) end,
        fn -> :erlang.error(:badarg, ["hunter2"]) end,
        fn -> String.to_integer(Enum.join(["hunter", 2])) end,
        fn -> raise ArithmeticError end,
        fn -> throw("hunter2") end,
        fn -> throw({:ok, 1}) end,
        fn -> exit(:normal) end,
        fn -> exit(:shutdown) end,
        fn -> exit({:hunter2, self()}) end,
        fn -> exit(:kill) end,
        fn -> Process.exit(self(), :kill) end,
        fn -> Process.exit(self(), :hunter2) && Process.sleep(:infinity) end,
        fn -> spawn_link(fn -> exit(:hunter2) end) && Process.sleep(:infinity) end,
        fn -> apply(NoSuchModule, :hunter2, []) end,
        fn -> apply(String, :no_such, []) end,
        fn -> exit({:phoenix_gen_api, hd(Process.get(:"$callers")), :junk}) end,
        fn -> GenServer.call(:no_such_process, :hunter2) end
      ]
    end

    test "is an internal error and says nothing of why" do
      before = traces()

      for fun <- failing() do
        assert run(fun) == error("Internal Server Error")
      end

      assert traces() == before
    end

    test "is an internal error when it is not there or of another arity" do
      for mfa <-
            [{NoSuchModule, :f, []}, {String, :no_such, []}, {String, :upcase, []}] ++
              [{nil, nil, []}, {:"", :"", []}, {String, :upcase, [1, 2, 3, 4]}] do
        response = Executor.execute_with_config!(request(), config(fn -> 1 end, mfa: mfa))
        assert %{error: "Internal Server Error", code: "internal"} = response
      end
    end

    test "with detail_error appends the reason, cut, without a stacktrace" do
      detail_error(true)

      assert run(fn -> raise "oops" end) == error("Internal Server Error: oops")
      assert run(fn -> throw(:away) end) == error("Internal Server Error: :away")
      assert run(fn -> exit({:gone, 1}) end) == error("Internal Server Error: {:gone, 1}")
      assert run(fn -> {:error, {:a, 1}} end) == error("Internal Server Error: {:a, 1}")

      assert run(fn -> {:error, %RuntimeError{message: "oops"}} end) ==
               error("Internal Server Error: oops")

      assert run(fn -> {1, 2, 3} end) == error("Unexpected execution result: {1, 2, 3}")

      for fun <- [
            fn -> raise String.duplicate("é", 5_000) end,
            fn -> exit(Enum.to_list(1..100_000)) end,
            fn -> {:error, String.duplicate("x", 100_000)} end,
            fn -> List.to_tuple(Enum.to_list(1..10_000)) end
          ] do
        %Response{error: text} = run(fun)
        assert [_fixed, reason] = String.split(text, ": ", parts: 2)
        assert byte_size(reason) <= 500
        assert String.valid?(reason)
      end
    end

    test "with detail_error has a valid text whatever its message is" do
      detail_error(true)

      for fun <- [
            fn -> raise <<255, 0, 254>> end,
            fn -> throw(<<255>>) end,
            fn -> {:error, <<255>>} end,
            fn -> {:error, %RuntimeError{message: <<255>>}} end,
            fn -> raise %RuntimeError{message: nil} end,
            fn -> raise %RuntimeError{message: {:no, :text}} end
          ] do
        %Response{error: text} = run(fun)
        assert String.valid?(text)
        assert String.starts_with?(text, "Internal Server Error: ")
      end
    end

    test "does not take its caller or those it linked to with it, nor leaves anything" do
      before = traces()
      parent = self()

      child = fn ->
        send(parent, {:child, spawn_link(fn -> Process.sleep(:infinity) end)})
        :returned
      end

      assert run(child) == ok(:returned)
      assert_received {:child, pid}
      assert Process.alive?(pid)
      Process.exit(pid, :kill)

      assert run(fn -> child.() && raise("oops") end) == error("Internal Server Error")
      assert_received {:child, pid}
      assert_ends(pid)
      assert traces() == before
    end
  end

  describe "a function that takes too long" do
    test "is killed, and its late result is dropped" do
      parent = self()
      before = traces()

      late = fn ->
        Process.flag(:trap_exit, true)
        send(parent, {:running, self(), nil})

        receive do
          :return -> :late
        end
      end

      assert run(late, timeout: 100) == error("Request timed out after 100ms", true)
      pid = running()
      send(pid, :return)
      assert_ends(pid)
      assert traces() == before
    end

    test "is waited for when its timeout is infinite" do
      parent = self()
      call = Task.async(fn -> run(fn -> Functions.wait_for(parent) end, timeout: :infinity) end)
      assert_receive {:running, pid, _}
      refute_receive _, 150
      send(pid, {:return, :at_last})
      assert Task.await(call, 60_000) == ok(:at_last)
    end

    test "says nothing more with detail_error" do
      detail_error(true)
      assert run(hang(), timeout: 100) == error("Request timed out after 100ms", true)
      running()
    end
  end

  test "a function whose caller is killed is killed" do
    for call <- [
          &Executor.execute_with_config!/2,
          &Executor.sync_call/2,
          fn request, config ->
            :ok = ConfigDb.add(config)
            Executor.execute!(request)
          end,
          fn request, config ->
            :ok = ConfigDb.add(config)
            Executor.execute_with_timeout!(request, 60_000)
          end
        ] do
      config = config(hang(), timeout: :infinity)
      caller = spawn(fn -> call.(request(), config) end)
      function = running()
      Process.exit(caller, :kill)
      assert assert_ends(function) in [:killed, :noproc]
    end
  end

  test "functions run in processes of their own, unlinked, that know their callers" do
    parent = self()

    fun = fn ->
      send(parent, {:function, self(), Process.get(:"$callers"), Process.info(self(), :links)})
      :ran
    end

    Process.put(:"$callers", [:grandparent])
    assert run(fun) == ok(:ran)
    assert_received {:function, pid, [^parent, :grandparent], {:links, []}}
    assert pid != parent
  end

  describe "arguments" do
    test "are the converted ones, then the function's own, then the request" do
      types = [{"a", :integer}, {"b", :datetime}]

      fun = fn converted, request -> [converted, request] end
      config = config(fun, arg_types: [{"a", :integer}], request_info: true)
      request = request(args: %{"a" => 1})
      assert Executor.execute_with_config!(request, config) == ok([1, request])

      args = %{"b" => "2026-01-01T00:00:00Z", "a" => 1}
      config = config(fun, arg_types: types, mfa: {List, :wrap, []})
      # List.wrap takes one argument and gets two.
      assert Executor.execute_with_config!(request(args: args), config) ==
               error("Internal Server Error")

      config = config(fun, arg_types: types, mfa: {DateTime, :add, []}, arg_orders: ["b", "a"])

      assert Executor.execute_with_config!(request(args: args), config) ==
               ok(~U[2026-01-01 00:00:01Z])
    end

    test "that are invalid end the request before the function is called" do
      config = config(fn _ -> flunk("called") end, arg_types: %{"n" => :integer})
      expected = error("argument validation failed")

      for args <-
            [%{}, nil, "junk", [], %{"n" => "hunter2"}, %{"n" => nil}, %{"m" => 1}] ++
              [%{"n" => self()}, %{n: 1}, %{{:t} => 1}] do
        answer = Executor.execute_with_config!(request(args: args), config)
        assert [%{"rule" => _} | _] = answer.details
        assert %{answer | details: nil} == expected
        assert Executor.sync_call(request(args: args), config) == answer
      end
    end

    test "that are invalid are explained with detail_error, in at most 500 bytes" do
      detail_error(true)
      config = config(fn _ -> :ran end, arg_types: %{"id" => :integer})

      assert Executor.execute_with_config!(request(request_type: "get_user"), config).error ==
               "argument validation failed: missing or nil argument \"id\" in \"get_user\""

      for args <- [
            Map.new(1..500, &{"extra argument #{&1}", 1}),
            %{String.duplicate("é", 3_000) => 1},
            %{"id" => {String.duplicate("é", 5_000)}}
          ],
          type <- ["run", String.duplicate("é", 1_000)] do
        request = request(args: args, request_type: type)
        %Response{error: text} = Executor.execute_with_config!(request, config)
        assert "argument validation failed: " <> reason = text
        assert byte_size(reason) <= 500
        assert String.valid?(reason)
      end
    end
  end

  describe "hooks" do
    defp recorder do
      parent = self()
      fn what -> send(parent, {:step, what}) end
    end

    defp steps do
      receive do
        {:step, step} -> [step | steps()]
      after
        0 -> []
      end
    end

    defp hooks(fields) do
      step = recorder()

      [
        before_execute:
          {Functions, :before,
           [
             fn request, config ->
               step.(:before)
               {:ok, request, config}
             end
           ]},
        after_execute:
          {Functions, :finished,
           [
             fn _request, _config, response ->
               step.({:after, response})
               :kept
             end
           ]}
      ]
      |> Keyword.merge(fields)
    end

    test "run around permission, arguments, nodes and the function, in this order" do
      step = recorder()

      permit = fn _request ->
        step.(:permission)
        true
      end

      fun = fn argument ->
        step.({:function, argument})
        :ran
      end

      config =
        config(
          fun,
          hooks(permission_callback: {Functions, :permit, [permit]}, arg_types: %{"a" => :num})
        )

      response = Executor.execute_with_config!(request(args: %{"a" => 1}), config)
      assert response == ok(:ran)
      assert steps() == [:before, :permission, {:function, 1}, {:after, response}]
    end

    test "after runs whatever the outcome, once the before hook was reached" do
      parent = self()
      # Unknown to everyone, so that it counts as up until it is tried.
      nowhere = [:"nobody#{System.unique_integer([:positive])}@127.0.0.1"]

      for {text, retry?, fields} <- [
            {"Internal Server Error", false, mfa: {Functions, :crash, [:raise]}},
            {"Unexpected execution result", false, mfa: {Functions, :crash, [:malformed]}},
            {"Request timed out after 100ms", true,
             mfa: {Functions, :wait_for, [parent]}, timeout: 100},
            {"Permission denied", false, check_permission: :any_authenticated},
            {"argument validation failed", [details: [%{"path" => "a", "rule" => "required"}]],
             arg_types: %{"a" => :num}},
            {"No service node available", true, nodes: nowhere},
            {"missing routing key", false, nodes: nowhere, choose_node_mode: {:hash, "k"}},
            {"hook rejected", false,
             before_execute: {Functions, :before, [fn _, _ -> {:error, "hunter2"} end]}},
            {"Internal Server Error", [executed: "no"],
             before_execute: {Functions, :before, [fn r, c -> {:ok, r, %{c | timeout: 1}} end]}}
          ] do
        {retry?, opts} = if is_list(retry?), do: {false, retry?}, else: {retry?, []}
        response = error(text, retry?, opts)
        assert run(fn -> :ran end, hooks(fields)) == response, text
        assert {:after, response} == List.last(steps()), text
      end

      # Nothing runs after a failed lookup.
      assert %Response{success: false} = Executor.execute!(request())
      assert steps() == []
    end

    test "before may replace the request and the config, but not the id of the response" do
      hook = fn request, config ->
        {:ok, %{request | args: %{"a" => 5}, request_id: "changed", user_id: "ann"},
         %{config | arg_types: %{"a" => :num}, check_permission: :any_authenticated}}
      end

      config = config(&{:ok, &1 * 2}, before_execute: {Functions, :before, [hook]})
      assert Executor.execute_with_config!(request(), config) == ok(10)

      replace = fn request, config ->
        {:ok, request, %{config | response_type: :none, nodes: :local, version: nil}}
      end

      assert run(fn -> 1 end, before_execute: {Functions, :before, [replace]}) == {:ok, :none}
    end

    test "before may answer itself" do
      own = %Response{request_id: "x", error: "Closed on Sundays", can_retry: true}
      hook = {Functions, :before, [fn _, _ -> {:error, own} end]}

      assert run(fn -> flunk("called") end, before_execute: hook) ==
               error("Closed on Sundays", true, code: "rejected")
    end

    test "before that rejects, fails or hangs rejects the request" do
      for fun <- [
            fn _, _ -> {:error, "hunter2"} end,
            fn _, _ -> :junk end,
            fn _, _ -> raise "hunter2" end,
            fn _, _ -> exit(:kill) end,
            fn _, _ -> Process.sleep(:infinity) end
          ] do
        before = traces()

        assert run(fn -> flunk("called") end,
                 before_execute: {Functions, :before, [fun]},
                 hook_timeout: 20
               ) == error("hook rejected")

        assert traces() == before
      end
    end

    test "before is explained with detail_error" do
      detail_error(true)

      for {fun, reason} <- [
            {fn _, _ -> {:error, :banned} end, ":banned"},
            {fn _, _ -> :junk end, ":invalid_hook_return"},
            {fn _, _ -> raise "oops" end, "oops"},
            {fn _, _ -> Process.sleep(:infinity) end, "hook timed out after 300ms"}
          ] do
        assert run(fn -> 1 end, before_execute: {Functions, :before, [fun]}, hook_timeout: 300) ==
                 error("hook rejected: #{reason}")
      end
    end

    test "after replaces the response with another one, and with nothing else" do
      replace = fn _, _, response -> %Response{response | result: :replaced, request_id: "x"} end
      assert run(fn -> 1 end, after_execute: {Functions, :finished, [replace]}) == ok(:replaced)

      for fun <- [
            fn _, _, _ -> nil end,
            fn _, _, _ -> {:ok, :replaced} end,
            fn _, _, _ -> raise "oops" end,
            fn _, _, _ -> Process.exit(self(), :kill) end,
            fn _, _, _ -> Process.sleep(:infinity) end
          ] do
        assert run(fn -> 1 end,
                 after_execute: {Functions, :finished, [fun]},
                 hook_timeout: 20
               ) == ok(1)
      end
    end
  end

  describe "node selection" do
    test "without a usable node says so, whatever the reason" do
      for nodes <- [
            {Functions, :run, [fn -> [] end]},
            {Functions, :run, [fn -> raise "hunter2" end]},
            {Functions, :run, [fn -> :hunter2 end]},
            {Functions, :run, [fn -> ["hunter2"] end]},
            [:"nobody#{System.unique_integer([:positive])}@127.0.0.1"]
          ] do
        before = traces()
        assert run(fn -> 1 end, nodes: nodes) == error("No service node available", true)
        assert traces() == before
      end
    end

    test "marks what cannot be connected as down, in every way to choose" do
      for {nodes, mode} <- [
            {:list, :random},
            {:dynamic, :random},
            {:dynamic, :round_robin},
            {:list, {Functions, :choose, [fn nodes, _ -> nodes end]}},
            {:dynamic, {Functions, :choose, [fn [node | _], _ -> node end]}}
          ] do
        node = :"nobody#{System.unique_integer([:positive])}@127.0.0.1"
        nodes = if nodes == :list, do: [node], else: {Functions, :run, [fn -> [node] end]}

        assert run(fn -> 1 end, nodes: nodes, choose_node_mode: mode) ==
                 error("No service node available", true)

        assert NodeSelector.node_status(node) == :down
      end
    end

    test "without a node that offers the service says so, for every response type" do
      none = error("No service node available", true)
      config = config(fn -> 1 end, nodes: :service, retry: 2)
      assert Executor.execute_with_config!(request(), config) == none

      assert run(fn -> 1 end,
               nodes: :service,
               permission_callback: {Functions, :permit, [fn _ -> true end]}
             ) == none

      :ok = ConfigDb.add(%{config | response_type: :async})
      assert %Response{async: true, success: true} = Executor.execute!(request())
      assert_receive {:async_call, ^none}

      :ok = ConfigDb.add(%{config | response_type: :stream})
      assert %Response{async: true} = Executor.execute!(request())

      assert_receive {:stream_response,
                      %Response{error: "No service node available", has_more: false}}
    end

    test "passes over names that no node can have" do
      for node <- [:no_at_sign, :"", :a@b@c, :@, :a@] do
        assert run(fn -> 1 end, nodes: [node]) == error("No service node available", true)
        assert run(fn -> node() end, nodes: [node, node()]) == ok(node())
      end
    end

    test "calls this node here, where it is listed" do
      parent = self()
      fun = fn -> send(parent, {:ran, Process.get(:"$callers")}) && node() end
      assert run(fun, nodes: [node()]) == ok(node())
      assert_received {:ran, [^parent | _]}
    end

    test "without a routing value says so" do
      for args <- [%{}, %{"k" => ""}, %{"k" => []}, %{"k" => %{}}] do
        config =
          config(fn _ -> 1 end,
            nodes: [node()],
            choose_node_mode: {:hash, "k"},
            arg_types: %{"k" => [type: :any, allow_nil?: true, default_value: 1]}
          )

        assert Executor.execute_with_config!(request(args: args), config) ==
                 error("missing routing key")
      end
    end

    test "is explained with detail_error" do
      detail_error(true)
      empty = {Functions, :run, [fn -> [] end]}

      assert run(fn -> 1 end, nodes: empty) ==
               error("No service node available: :no_nodes_available", true)

      assert run(fn -> 1 end, nodes: [node()], choose_node_mode: {:hash, "k"}) ==
               error("missing routing key: {:hash_key_not_found, \"k\"}")
    end
  end

  test "permission is denied without a reason, also with detail_error" do
    for detail? <- [false, true] do
      detail_error(detail?)

      assert run(fn -> 1 end, check_permission: {:role, ["hunter2"]}) ==
               error("Permission denied")

      callback = {Functions, :permit, [fn _ -> raise "hunter2" end]}
      assert run(fn -> 1 end, permission_callback: callback) == error("Permission denied")
    end
  end

  test "functions that the gate denies are not called here" do
    refused = error("Internal Server Error", false, executed: "no")
    assert run(fn -> 1 end, mfa: {:os, :getenv, []}) == refused
    assert run(fn -> 1 end, mfa: {:os, :getenv, []}, nodes: [node()]) == refused

    :ok = ConfigDb.add(config(fn -> 1 end))
    assert Executor.execute!(request()) == ok(1)
    Application.put_env(:phoenix_gen_api, :mfa_allowlist, [])
    on_exit(fn -> Application.delete_env(:phoenix_gen_api, :mfa_allowlist) end)
    assert Executor.execute!(request()) == refused
  end

  test "an invalid config given by hand is an internal error, explained with detail_error" do
    for fields <- [[timeout: 1], [mfa: nil], [nodes: nil], [arg_types: %{"a" => :x}]] do
      refused = error("Internal Server Error", false, executed: "no")
      assert run(fn -> 1 end, fields) == refused
      assert Executor.sync_call(request(), config(fn -> 1 end, fields)) == refused
    end

    detail_error(true)

    assert run(fn -> 1 end, timeout: 1, disabled: 1) ==
             error(
               "Internal Server Error: timeout must be a positive integer between 100 and " <>
                 "300000, or :infinity; disabled must be a boolean",
               false,
               executed: "no"
             )
  end

  test "a config given by hand is normalised on the fly" do
    config = config(&{:ok, &1}, service: :test, nodes: [to_string(node())], version: nil)
    config = %{config | arg_types: [{"a", :num}], choose_node_mode: {:hash, :request_id}}
    assert Executor.execute_with_config!(request(args: %{"a" => 1}), config) == ok(1)
    assert Executor.sync_call(request(args: %{"a" => 1}), config) == ok(1)
  end

  test "nothing of any reason reaches a client without detail_error" do
    rejecting = {Functions, :before, [fn _, _ -> {:error, "hunter2"} end]}
    secret = fn -> {:error, "hunter2"} end
    malformed = fn -> {:error, "hunter2", 1} end

    responses =
      Enum.map(failing(), &run/1) ++
        [
          run(secret),
          run(malformed),
          run(fn -> 1 end, before_execute: rejecting),
          run(fn -> 1 end, check_permission: {:role, ["hunter2"]}),
          run(fn -> 1 end, nodes: {Functions, :run, [fn -> raise "hunter2" end]}),
          run(fn -> 1 end, nodes: [node()], choose_node_mode: {:hash, "hunter2"}),
          run(fn -> 1 end, arg_types: %{"hunter2" => :no_type})
        ]

    for %Response{} = response <- responses do
      refute response.success
      refute inspect(response) =~ "hunter2"
    end
  end

  describe "async requests" do
    test "are acknowledged, then answered once with async false" do
      before = traces()
      assert run(fn -> {:ok, 5} end, response_type: :async) == Response.async_response("r1")
      assert_receive {:async_call, response}
      assert response == ok(5)
      refute_received _
      assert traces() == before
    end

    test "deliver failures of node selection and the call as their message" do
      for {text, retry?, fields} <- [
            {"Internal Server Error", false, mfa: {Functions, :crash, [:raise]}},
            {"Internal Server Error", false, mfa: {Functions, :crash, [:kill]}},
            {"Unexpected execution result", false, mfa: {Functions, :crash, [:malformed]}},
            {"Request timed out after 100ms", true,
             mfa: {Process, :sleep, [:infinity]}, timeout: 100},
            {"No service node available", true, nodes: {Functions, :run, [fn -> [] end]}},
            {"missing routing key", false, nodes: [node()], choose_node_mode: {:hash, "k"}}
          ] do
        assert run(fn -> 1 end, [response_type: :async] ++ fields) ==
                 Response.async_response("r1")

        assert_receive {:async_call, response}
        assert response == error(text, retry?)
      end

      refute_received _
    end

    test "that fail before return the error instead" do
      required = [%{"path" => "a", "rule" => "required"}]

      for {text, details, fields} <- [
            {"hook rejected", nil,
             before_execute: {Functions, :before, [fn _, _ -> {:error, 1} end]}},
            {"Permission denied", nil, check_permission: :any_authenticated},
            {"argument validation failed", required, arg_types: %{"a" => :num}}
          ],
          type <- [:async, :none] do
        assert run(fn -> 1 end, [response_type: type] ++ fields) ==
                 error(text, false, details: details)
      end

      assert Executor.execute!(request()) == error("unsupported function: run version latest")
      refute_receive _, 20
    end

    test "pass a response through the after hook before it is delivered" do
      # Neither can make an acknowledgement of the answer.
      hooked = fn _, _, response -> %{response | result: :hooked, async: true} end
      hook = {Functions, :finished, [hooked]}

      run(fn -> %Response{success: true, async: true} end,
        response_type: :async,
        after_execute: hook
      )

      assert_receive {:async_call, response}
      assert response == ok(:hooked)
    end

    test "answer the receiver of the options" do
      parent = self()

      receiver =
        spawn_link(fn ->
          receive do
            message -> send(parent, {:received, self(), message})
          end
        end)

      :ok = ConfigDb.add(config(fn -> 1 end, response_type: :async))
      assert Executor.execute!(request(), receiver: receiver) == Response.async_response("r1")
      assert_receive {:received, ^receiver, {:async_call, response}}
      assert response == ok(1)
      refute_received _
    end

    test "end when the receiver dies" do
      receiver = spawn(fn -> Process.sleep(:infinity) end)
      :ok = ConfigDb.add(config(hang(), response_type: :async, timeout: :infinity))
      Executor.execute!(request(), receiver: receiver)
      function = running()
      Process.exit(receiver, :kill)
      assert assert_ends(function) in [:killed, :noproc]
      assert Await.until(fn -> WorkerPool.status(:async_pool).busy_workers == 0 end)
    end

    test "say so when the process of the task dies" do
      config = config(hang(), response_type: :async, timeout: :infinity)
      Executor.execute_with_config!(request(), config)
      assert_receive {:running, function, [task | _]}
      assert task != self()
      Process.exit(task, :kill)
      assert_receive {:async_call, response}
      assert response == error("Async execution failed")
      assert assert_ends(function) in [:killed, :noproc]
    end

    test "find a full pool, an open circuit or no pool temporarily unavailable" do
      unavailable = error("Service temporarily unavailable", true)
      pool(pool_size: 1, max_queue_size: 0, circuit_breaker_threshold: 1)

      assert run(hang(), response_type: :async) == Response.async_response("r1")
      function = running()

      for type <- [:async, :none],
          do: assert(run(fn -> 1 end, response_type: type) == unavailable)

      Process.exit(function, :kill)
      assert_receive {:async_call, _}
      assert Await.until(fn -> WorkerPool.status(:async_pool).busy_workers == 0 end)

      :ok = WorkerPool.execute_async(:async_pool, fn -> exit(:oops) end)
      assert Await.until(fn -> WorkerPool.status(:async_pool).circuit_open end)

      for type <- [:async, :none],
          do: assert(run(fn -> 1 end, response_type: type) == unavailable)

      assert run(fn -> 1 end) == ok(1)

      stop_supervised!(:async_pool)

      for type <- [:async, :none],
          do: assert(run(fn -> 1 end, response_type: type) == unavailable)
    end

    test "with detail_error say why the pool refuses" do
      pool(pool_size: 1, max_queue_size: 0)
      detail_error(true)
      run(hang(), response_type: :async)
      running()

      assert run(fn -> 1 end, response_type: :async) ==
               error("Service temporarily unavailable: :queue_full", true)
    end

    test "count the time in the queue against their timeout, then say so and do not run" do
      pool(pool_size: 1, max_queue_size: 5)
      parent = self()
      run(fn -> Functions.wait_for(parent) end, response_type: :async)
      assert_receive {:running, first, _}
      ran = fn -> send(parent, :ran) end
      timed_out = error("Request timed out after 100ms", true, executed: "no")

      # The pool stays full for longer than that.
      for type <- [:async, :none, :async], do: run(ran, response_type: type, timeout: 100)
      for _ <- 1..2, do: assert_receive({:async_call, ^timed_out})
      Await.until(fn -> WorkerPool.status(:async_pool).queued_tasks == 0 end)

      # Tried again it may be in time.
      again = [response_type: :async, timeout: 100, retry: 1, retry_on: [:timeout]]
      run(ran, again)
      refute_receive _, 150
      send(first, {:return, 1})
      assert_receive {:async_call, %{result: 1}}
      assert_receive :ran, 5_000
      assert_receive {:async_call, %{success: true}}
      assert %{busy_workers: 0, queued_tasks: 0} = WorkerPool.status(:async_pool)
      refute_received _
    end

    test "leave no function behind when the reaper stops with orders that it has not carried out" do
      config = config(hang(), response_type: :async, timeout: :infinity)

      receiver =
        spawn(fn ->
          Executor.execute_with_config!(request(), config)
          Process.sleep(:infinity)
        end)

      function = running()
      reaper = Process.whereis(RPC.Reaper)
      :sys.suspend(reaper)
      Process.exit(receiver, :kill)
      Await.until(fn -> Process.info(reaper, :message_queue_len) == {:message_queue_len, 1} end)
      # As with the application.
      on_exit(fn -> Supervisor.restart_child(PhoenixGenApi.Supervisor, RPC.Reaper) end)
      :ok = Supervisor.terminate_child(PhoenixGenApi.Supervisor, RPC.Reaper)
      assert assert_ends(function) in [:killed, :noproc]
    end

    test "relay no message whose time has passed in the queue" do
      pool(pool_size: 1, max_queue_size: 5)
      parent = self()
      run(fn -> Functions.wait_for(parent) end, response_type: :async)
      assert_receive {:running, first, _}

      say = %{
        config(fn -> :unused end, response_type: :async, timeout: 100, arg_orders: :map)
        | mfa: {Relay, :handle_relay, []},
          arg_types: %{"group_id" => :string, "message" => :string}
      }

      group = "late-#{System.unique_integer([:positive])}"
      :ok = Relay.create_group(group, :public, "ann", self())
      args = %{"group_id" => group, "message" => "hi"}
      acknowledged = Response.async_response("r1")

      assert Executor.execute_with_config!(request(user_id: "ann", args: args), say) ==
               acknowledged

      timed_out = error("Request timed out after 100ms", true, executed: "no")
      assert_receive {:async_call, ^timed_out}

      send(first, {:return, 1})
      assert_receive {:async_call, %{result: 1}}

      assert Executor.execute_with_config!(request(user_id: "ann", args: args), say) ==
               acknowledged

      assert_receive {:async_call, %{result: %{"recipients_count" => 1}}}
      assert_receive {:relay_message, _hi}
      refute_received _
      :ok = Relay.delete_group(group)
    end

    test "use their own timeout and never the pool's" do
      pool(pool_size: 1, max_queue_size: 5, task_timeout: 1)
      parent = self()
      run(fn -> Functions.wait_for(parent) end, response_type: :async)
      assert_receive {:running, function, _}
      refute_receive _, 30
      send(function, {:return, :done})
      assert_receive {:async_call, %{result: :done}}
    end

    test "do not open the pool's circuit however often functions fail" do
      for _ <- 1..20 do
        run(fn -> raise "oops" end, response_type: :async)
        assert_receive {:async_call, %{error: "Internal Server Error"}}
      end

      refute WorkerPool.status(:async_pool).circuit_open
    end
  end

  describe "requests of type :none" do
    test "are acknowledged and never answered" do
      parent = self()
      after_hook = fn _, _, response -> send(parent, {:after, response}) end

      for fun <- [fn -> 5 end, fn -> raise "oops" end] do
        fields = [response_type: :none, after_execute: {Functions, :finished, [after_hook]}]
        assert run(fun, fields) == {:ok, :none}
        assert_receive {:after, %Response{request_id: "r1"}}
      end

      refute_receive _, 20
    end

    test "that fail leave a line in the log" do
      # Those of other tests may have used up the lines of this second.
      :ets.delete_all_objects(PhoenixGenApi.FailureLog.Limit)

      log =
        ExUnit.CaptureLog.capture_log([level: :info], fn ->
          run(fn -> raise "the database is gone" end, response_type: :none)
          assert Await.until(fn -> WorkerPool.status(:async_pool).busy_workers == 0 end)
        end)

      assert log =~ "request r1 of nobody failed: test run: "
      assert log =~ "raised RuntimeError: the database is gone"
    end

    test "go on when their caller dies" do
      parent = self()
      config = config(fn -> Functions.wait_for(parent) end, response_type: :none)
      hook = {Functions, :finished, [fn _, _, r -> send(parent, {:after, r.result}) end]}

      caller =
        spawn(fn ->
          Executor.execute_with_config!(request(), %{config | after_execute: hook})
          Process.sleep(:infinity)
        end)

      assert_receive {:running, function, _}
      Process.exit(caller, :kill)
      assert_ends(caller)
      assert Process.alive?(function)
      send(function, {:return, :done})
      assert_receive {:after, :done}
    end
  end

  describe "sync_call" do
    test "validates, selects and calls whatever the response type, without hooks or permission" do
      never = fn _, _ -> flunk("called") end

      for type <- [:sync, :async, :none, :stream] do
        config =
          config(fn -> {:ok, 1} end,
            response_type: type,
            before_execute: {Functions, :before, [never]},
            check_permission: {:role, ["admin"]}
          )

        assert Executor.sync_call(request(), config) == ok(1)
      end

      assert Executor.sync_call(request(), config(hang(), timeout: 100)) ==
               error("Request timed out after 100ms", true)

      running()
      refute_received _
    end
  end

  describe "execute_with_timeout!" do
    test "does as execute! while there is time" do
      for {type, answer} <- [
            sync: ok(1),
            async: Response.async_response("r1"),
            none: {:ok, :none}
          ] do
        :ok = ConfigDb.add(config(fn -> 1 end, response_type: type))
        assert Executor.execute_with_timeout!(request()) == answer
      end

      assert_receive {:async_call, response}
      assert response == ok(1)
      ConfigDb.clear()

      assert Executor.execute_with_timeout!(request(), 10 ** 12) ==
               error("unsupported function: run version latest")
    end

    test "ends the work after its time" do
      before = traces()
      :ok = ConfigDb.add(config(hang(), timeout: :infinity))

      assert Executor.execute_with_timeout!(request(), 50) ==
               error("Request timed out after 50ms", true)

      assert_ends(running())
      assert traces() == before
    end
  end

  describe "execute_params" do
    @params %{"request_id" => "r1", "request_type" => "run", "service" => "test"}

    test "decodes and executes" do
      :ok = ConfigDb.add(config(& &1, arg_types: %{"a" => :num}))
      assert Executor.execute_params(Map.put(@params, "args", %{"a" => 1})) == ok(1)
      assert Executor.execute_params!(Map.put(@params, "args", %{"a" => 2})) == ok(2)
    end

    test "ignores roles and address under string keys, and honours the atom keys" do
      fun = fn request -> [request.user_roles, request.ip_address, request.user_id] end
      :ok = ConfigDb.add(config(fun, request_info: true))

      sent = %{"user_roles" => ["admin"], "ip_address" => "10.0.0.1", "user_id" => "ann"}
      assert Executor.execute_params(Map.merge(@params, sent)) == ok([nil, nil, "ann"])
      assert Executor.execute_params!(Map.merge(@params, sent)) == ok([nil, nil, "ann"])

      ours = %{user_roles: ["admin"], ip_address: "10.0.0.1", user_id: "ann"}

      assert Executor.execute_params(Map.merge(@params, ours)) ==
               ok([["admin"], "10.0.0.1", "ann"])
    end

    test "with an identity nobody is who the map says" do
      fun = fn request ->
        [request.user_id, request.user_roles, request.device_id, request.ip_address]
      end

      :ok = ConfigDb.add(config(fun, request_info: true))
      claims = %{user_id: "eve", user_roles: ["admin"], device_id: "d", ip_address: "6.6.6.6"}
      sent = Map.merge(@params, Map.new(claims, fn {k, v} -> {Atom.to_string(k), v} end))
      run = &Executor.execute_params(&1, identity: &2)

      for params <- [sent, Map.merge(@params, claims), Map.merge(sent, claims)] do
        assert run.(params, %{}) == ok([nil, nil, nil, nil])
        assert run.(params, %{user_id: 42, device_id: nil}) == ok(["42", nil, nil, nil])

        said = [
          user_id: "ann",
          user_roles: MapSet.new([:staff]),
          device_id: 7,
          ip_address: {10, 0, 0, 1}
        ]

        assert run.(params, said) == ok(["ann", ["staff"], "7", "10.0.0.1"])
        assert run.(params, Map.new(said)) == Executor.execute_params!(params, identity: said)
      end

      # What does not count does not make a request invalid either.
      assert run.(Map.put(@params, "user_id", %{}), %{user_id: "ann"}) ==
               ok(["ann", nil, nil, nil])
    end

    test "with an identity that cannot be read raises, whatever the map is" do
      for params <- [@params, %{}, nil],
          {identity, words} <- [
            {%{user_id: :ann}, "user_id must be a non-empty string or an integer, got an atom"},
            {%{user_id: ""}, "got an empty string"},
            {%{ip_address: {1, 2}},
             "ip_address must be a string, a charlist or an address tuple"},
            {%{user_roles: 5}, "user_roles must be a list, a MapSet, an atom or a string"},
            {%{"user_id" => "ann"}, ~s(unknown field "user_id")},
            {%{user: "ann"}, "unknown field :user"}
          ] do
        assert_raise ArgumentError, ~r/#{Regex.escape(words)}/, fn ->
          Executor.execute_params(params, identity: identity)
        end
      end
    end

    test "of a bad map answers or raises with the decoder's sentence" do
      for {params, id, sentence} <- [
            {%{}, nil, "Missing required fields: request_type, request_id, service"},
            {Map.delete(@params, "service"), "r1", "Missing required fields: service"},
            {Map.put(@params, "args", 5), "r1", "Invalid fields: args must be a map"},
            {%{request_id: "r1"}, "r1", "Missing required fields: request_type, service"},
            {[1, 2], nil, "Request payload must be a map"},
            {nil, nil, "Request payload must be a map"},
            {"x", nil, "Request payload must be a map"}
          ] do
        assert Executor.execute_params(params) ==
                 error("Invalid request: " <> sentence, false, id: id)

        assert_raise DecodeError, sentence, fn -> Executor.execute_params!(params) end
      end

      assert %Response{request_id: nil, error: "Invalid request: " <> _} =
               Executor.execute_params(%{@params | "request_id" => 5})
    end
  end

  describe "telemetry" do
    test "has a start and exactly one stop or exception for each request" do
      parent = self()
      id = "executor_test"

      Executor.attach_telemetry(id, fn [_, _, _, phase], measurements, metadata, _ ->
        send(parent, {phase, measurements, metadata})
      end)

      on_exit(fn -> Telemetry.detach_all(id) end)

      for {fun, fields, phase, expected} <- [
            {fn -> 1 end, [], :stop, %{success: true, async: false}},
            {fn -> {:error, 1} end, [], :stop, %{success: false, async: false}},
            {fn -> raise "oops" end, [], :exception, %{kind: :error, reason: "oops"}},
            {fn -> throw(:oops) end, [], :exception, %{kind: :throw, reason: ":oops"}},
            {fn -> exit(:oops) end, [], :exception, %{kind: :exit, reason: ":oops"}},
            {fn -> 1 end, [response_type: :none], :stop, %{success: true, async: true}},
            {fn -> 1 end, [timeout: 1], :stop, %{success: false, async: false}},
            {fn -> 1 end, [check_permission: :any_authenticated], :stop, %{success: false}}
          ] do
        run(fun, fields)
        assert_received {:start, %{system_time: _, monotonic_time: _}, %{request_id: "r1"}}
        assert_received {^phase, %{duration_us: _, duration: _}, metadata}
        assert Map.take(metadata, Map.keys(expected)) == expected
        assert %{service: "test", request_type: "run", user_id: nil} = metadata
        refute_received _
      end

      assert Executor.detach_telemetry(id) == :ok
      run(fn -> 1 end)
      refute_received _
    end

    test "handlers that raise affect no request" do
      id = "executor_test_raising"
      Executor.attach_telemetry(id, fn _, _, _, _ -> raise "oops" end)
      on_exit(fn -> Telemetry.detach_all(id) end)
      assert run(fn -> 1 end) == ok(1)
    end
  end

  # Terms that no client can send and any Elixir caller may.
  defp terms do
    [
      nil,
      true,
      :atom,
      :"",
      "",
      "text",
      <<255>>,
      <<1::3>>,
      0,
      -1.5,
      10 ** 400,
      [],
      [1 | 2],
      ~c"text",
      {},
      {:error, 1},
      %{},
      %{"a" => 1},
      %{a: 1},
      ~D[2026-01-01],
      %Request{},
      self(),
      make_ref(),
      &String.upcase/1,
      String.duplicate("é", 100_000),
      Enum.to_list(1..2_000)
    ]
  end

  defp fields, do: Map.keys(Map.from_struct(%Request{}))

  defp stored_for_hostile do
    modes = [
      [],
      [nodes: [node()], choose_node_mode: :hash],
      [nodes: [node()], choose_node_mode: {:hash, "user_id"}],
      [nodes: [node()], choose_node_mode: {:sticky, "ip_address"}],
      [nodes: [node()], choose_node_mode: {:weighted, %{node() => 3}}],
      [nodes: [node()], choose_node_mode: :least_busy, response_type: :async],
      [nodes: {Functions, :run, [fn -> [node()] end]}],
      [check_permission: :any_authenticated],
      [check_permission: {:arg, "a"}],
      [check_permission: {:role, ["a"]}],
      [permission_callback: {Functions, :permit, [fn r -> is_binary(r.user_id) end]}],
      [response_type: :async],
      [response_type: :none],
      [before_execute: {Functions, :before, [fn r, c -> {:ok, r, c} end]}],
      [after_execute: {Functions, :finished, [fn _, _, r -> r end]}]
    ]

    outcomes = [
      fn -> :ran end,
      fn -> raise "oops" end,
      fn -> exit(:normal) end,
      fn -> Process.exit(self(), :kill) end,
      fn -> {:error, :r} end
    ]

    for {mode, m} <- Enum.with_index(modes), {fun, f} <- Enum.with_index(outcomes) do
      type = "#{m}-#{f}"
      arguments = if f == 0, do: [arg_types: %{"a" => :any}, mfa: {List, :wrap, []}], else: []
      :ok = ConfigDb.add(config(fun, [request_type: type] ++ mode ++ arguments))
      type
    end
  end

  test "requests made by hand with any term in any field are answered and never raise" do
    types = stored_for_hostile()
    before = traces()

    for type <- Enum.take_every(types, 2), field <- fields(), term <- terms() do
      request = struct!(request(request_type: type), [{field, term}])

      case Executor.execute!(request) do
        {:ok, :none} ->
          :ok

        %Response{request_id: id, async: true} ->
          assert_receive {:async_call, %{request_id: ^id}}

        %Response{request_id: id, error: text} ->
          assert id == request.request_id
          assert text == nil or String.valid?(text), inspect({field, term, text})
      end
    end

    assert traces() == before
  end

  test "10,000 random requests get exactly one answer each and leave nothing behind" do
    :rand.seed(:exsss, 20_261_120)
    types = stored_for_hostile()
    terms = terms()
    idle = fn -> WorkerPool.status(:async_pool).busy_workers == 0 end
    assert Await.until(idle)
    watch = Leaks.watch()
    before = traces()

    random = fn ->
      for field <- Enum.take_random(fields(), :rand.uniform(4) - 1), reduce: request() do
        request -> Map.put(request, field, Enum.random(terms))
      end
    end

    acknowledged =
      for n <- 1..10_000, reduce: 0 do
        acknowledged ->
          request = random.()

          request =
            if :rand.uniform(10) > 1,
              do: %{request | request_type: Enum.random(types), service: "test"},
              else: request

          request = %{request | request_id: {n, request.request_id}}

          case Executor.execute!(request) do
            {:ok, :none} ->
              acknowledged

            %Response{request_id: {^n, _}, async: true, success: true} ->
              acknowledged + 1

            %Response{request_id: {^n, _}, async: false} ->
              acknowledged
          end
      end

    assert acknowledged > 500
    answered = for _ <- 1..acknowledged, do: assert_receive({:async_call, _})
    ids = for {:async_call, %Response{request_id: {n, _}, async: false}} <- answered, do: n
    assert length(Enum.uniq(ids)) == acknowledged
    assert Await.until(idle)
    assert traces() == before
    Leaks.assert_none(watch)
  end

  test "requests of many processes at once are answered each with its own result" do
    :ok = ConfigDb.add(config(& &1, arg_types: %{"a" => :num}))

    1..32
    |> Enum.map(fn process ->
      Task.async(fn ->
        for n <- 1..200 do
          value = process * 1_000 + n
          request = request(request_id: "#{value}", args: %{"a" => value})
          assert Executor.execute!(request) == Response.sync_response("#{value}", value)
        end

        assert Process.info(self(), :messages) == {:messages, []}
      end)
    end)
    |> Task.await_many(60_000)
  end
end
