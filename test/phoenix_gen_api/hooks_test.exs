defmodule PhoenixGenApi.HooksTest do
  # Handlers see the hooks of the whole node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{Hooks, Telemetry}
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.Functions

  @moduletag :capture_log

  setup do
    config = Functions.config(fn -> :ran end, hook_timeout: 1_000)
    %{config: config, request: Functions.request()}
  end

  defp before(fun), do: {Functions, :before, [fun]}
  defp finished(fun), do: {Functions, :finished, [fun]}

  defp hang do
    parent = self()

    fn ->
      send(parent, {:hanging, self()})
      Process.sleep(:infinity)
    end
  end

  defp assert_killed do
    assert_received {:hanging, pid}
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, reason} when reason in [:killed, :noproc]
  end

  describe "run_before" do
    test "without a hook changes nothing", %{config: config, request: request} do
      assert Hooks.run_before(nil, request, config) == {:ok, request, config}
    end

    test "goes on with what the hook returns", %{config: config, request: request} do
      hook =
        before(fn request, config ->
          {:ok, %{request | user_id: "x"}, %{config | timeout: 100}}
        end)

      assert Hooks.run_before(hook, request, config) ==
               {:ok, %{request | user_id: "x"}, %{config | timeout: 100}}
    end

    test "takes hooks with and without arguments of their own", ctx do
      assert {:error, :invalid_hook_return} =
               Hooks.run_before({Kernel, :==}, ctx.request, ctx.config)

      seen = before(fn request, config -> {:error, {request, config}} end)

      assert Hooks.run_before(seen, ctx.request, ctx.config) ==
               {:error, {ctx.request, ctx.config}}
    end

    test "rejects with the hook's reason", %{config: config, request: request} do
      for reason <- [:banned, "banned", %{a: 1}, %Response{error: "banned"}] do
        hook = before(fn _, _ -> {:error, reason} end)
        assert Hooks.run_before(hook, request, config) == {:error, reason}
      end
    end

    test "rejects any other return", %{config: config, request: request} do
      for other <-
            [nil, :ok, {:ok, request}, {:ok, config, request}, {:ok, request, config, 1}] ++
              [{:ok, %{}, config}, {:ok, request, nil}, :error, {request, config}] do
        assert Hooks.run_before(before(fn _, _ -> other end), request, config) ==
                 {:error, :invalid_hook_return}
      end
    end

    test "rejects when the hook raises, exits, throws or dies", ctx do
      for fun <- [
            fn _, _ -> raise "oops" end,
            fn _, _ -> exit(:normal) end,
            fn _, _ -> throw({:ok, ctx.request, ctx.config}) end,
            fn _, _ -> Process.exit(self(), :kill) end
          ] do
        assert {:error, reason} = Hooks.run_before(before(fun), ctx.request, ctx.config)
        assert is_binary(reason)
      end

      assert {:error, _} = Hooks.run_before({NoSuch, :hook}, ctx.request, ctx.config)
      refute_received _
    end

    test "gives up after hook_timeout and kills the hook", %{config: config, request: request} do
      hang = hang()
      config = %{config | hook_timeout: 30}

      assert Hooks.run_before(before(fn _, _ -> hang.() end), request, config) ==
               {:error, "hook timed out after 30ms"}

      assert_killed()
      refute_received _
    end
  end

  describe "run_after" do
    test "without a hook gives the result", %{config: config, request: request} do
      assert Hooks.run_after(nil, request, config, :result) == :result
    end

    test "gives what the hook returns", %{config: config, request: request} do
      parent = self()

      hook =
        finished(fn request, config, result ->
          send(parent, {request, config, result})
          {:changed, result}
        end)

      assert Hooks.run_after(hook, request, config, :result) == {:changed, :result}
      assert_received {^request, ^config, :result}
    end

    test "gives the result when the hook fails", %{config: config, request: request} do
      hang = hang()

      for fun <- [
            fn _, _, _ -> raise "oops" end,
            fn _, _, _ -> throw(:x) end,
            fn _, _, _ -> exit(:x) end,
            fn _, _, _ -> Process.exit(self(), :kill) end,
            fn _, _, _ -> hang.() end
          ] do
        config = %{config | hook_timeout: 30}
        assert Hooks.run_after(finished(fun), request, config, :result) == :result
      end

      assert_killed()
      assert Hooks.run_after({NoSuch, :hook, []}, request, config, :result) == :result
      refute_received _
    end
  end

  test "hooks run in a process of their own that knows its callers", ctx do
    parent = self()

    hook =
      before(fn request, config ->
        send(parent, {:hook, self(), Process.get(:"$callers"), Process.info(self(), :links)})
        {:ok, request, config}
      end)

    assert {:ok, _, _} = Hooks.run_before(hook, ctx.request, ctx.config)
    assert_received {:hook, pid, [^parent | _], {:links, []}}
    assert pid != parent
  end

  test "each hook has a start and exactly one stop or exception", ctx do
    parent = self()
    id = "hooks_test"
    Telemetry.attach_hooks(id, fn event, m, meta, _ -> send(parent, {tl(event), m, meta}) end)
    on_exit(fn -> Telemetry.detach_all(id) end)

    Hooks.run_before(before(fn r, c -> {:ok, r, c} end), ctx.request, ctx.config)
    named = %{module: Functions, function: :before, type: :before}
    assert_received {[:hook, :before, :start], %{system_time: _}, ^named}
    assert_received {[:hook, :before, :stop], %{duration_us: _}, ^named}

    Hooks.run_after(finished(fn _, _, _ -> raise "oops" end), ctx.request, ctx.config, 1)
    assert_received {[:hook, :after, :start], _, _}

    assert_received {[:hook, :after, :exception], %{duration_us: _},
                     %{kind: :error, reason: "oops", stacktrace: [_ | _], type: :after}}

    hang = hang()
    config = %{ctx.config | hook_timeout: 20}
    Hooks.run_before(before(fn _, _ -> hang.() end), ctx.request, config)
    assert_received {[:hook, :before, :start], _, _}

    assert_received {[:hook, :before, :exception], _,
                     %{kind: :timeout, reason: "hook timed out after 20ms"}}

    assert_killed()
    refute_received _
  end

  test "the events of both hooks have the measurements and metadata of their kind, however a hook ends",
       ctx do
    parent = self()
    id = "hooks_test_keys"
    Telemetry.attach_hooks(id, fn event, m, meta, _ -> send(parent, {tl(tl(event)), m, meta}) end)
    on_exit(fn -> Telemetry.detach_all(id) end)
    config = %{ctx.config | hook_timeout: 30}
    keys = fn map -> map |> Map.keys() |> Enum.sort() end

    ends = [
      {fn -> {:ok, ctx.request, config} end, :stop, nil},
      {fn -> :anything end, :stop, nil},
      {fn -> raise "oops" end, :exception, :error},
      {fn -> exit(:oops) end, :exception, :error},
      {fn -> throw(:oops) end, :exception, :error},
      {fn -> Process.exit(self(), :kill) end, :exception, :error},
      {fn -> Process.sleep(:infinity) end, :exception, :timeout}
    ]

    for {fun, last, kind} <- ends, type <- [:before, :after] do
      {hook, function} =
        case type do
          :before -> {before(fn _, _ -> fun.() end), :before}
          :after -> {finished(fn _, _, _ -> fun.() end), :finished}
        end

      case type do
        :before -> Hooks.run_before(hook, ctx.request, config)
        :after -> Hooks.run_after(hook, ctx.request, config, :result)
      end

      named = %{module: Functions, function: function, type: type}
      assert_received {[^type, :start], started, ^named}
      assert keys.(started) == [:monotonic_time, :system_time]
      assert_received {[^type, ^last], measured, metadata}
      assert keys.(measured) == [:duration, :duration_us, :monotonic_time]
      assert Map.take(metadata, Map.keys(named)) == named

      if kind do
        assert %{kind: ^kind, reason: reason, stacktrace: stack} = metadata
        assert is_binary(reason) and is_list(stack) and map_size(metadata) == 6
      else
        assert metadata == named
      end

      refute_received _
    end
  end
end
