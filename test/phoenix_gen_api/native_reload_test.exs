defmodule PhoenixGenApi.NativeReloadTest do
  # Loads the native module again on a gateway that runs.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{ConfigDb, Executor, Native, RateLimiter}
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.Test.LogLines

  @limit %{key: :user_id, max_requests: 1_000, window_ms: 600_000}

  setup do
    LogLines.forward()

    config = %FunConfig{
      service: "reload",
      request_type: "up",
      nodes: :local,
      mfa: {String, :upcase, []},
      arg_types: %{"text" => :string},
      arg_orders: ["text"]
    }

    :ok = ConfigDb.add(config)
    :ok = RateLimiter.set_global_limits([@limit])
    :ok
  end

  defp call do
    Executor.execute!(%Request{
      request_id: "r",
      user_id: "ann",
      service: "reload",
      request_type: "up",
      args: %{"text" => "a"}
    })
  end

  defp warnings(count) do
    receive do
      {:logged, :warning, line, _meta} when is_binary(line) ->
        warnings(if line =~ "was loaded again", do: count + 1, else: count)

      {:logged, _level, _line, _meta} ->
        warnings(count)
    after
      0 -> count
    end
  end

  for {how, name} <- [load: "from its file", binary: "from memory", purge: "after a purge"] do
    test "the native module loaded again #{name} changes nothing, and says so once each time" do
      application = Process.whereis(PhoenixGenApi.Supervisor)
      {_module, binary, file} = :code.get_object_code(Native)
      before = RateLimiter.get_rate_limit_status("ann", :global, :user_id)

      for _ <- 1..3 do
        assert %{success: true, result: "A"} = call()

        case unquote(how) do
          :load ->
            assert {:error, :on_load_failure} = :code.load_file(Native)

          :binary ->
            assert {:error, :on_load_failure} = :code.load_binary(Native, file, binary)

          :purge ->
            assert :code.purge(Native) == false and match?({:error, _}, :code.load_file(Native))
        end
      end

      assert %{success: true, result: "A"} = call()
      assert Process.whereis(PhoenixGenApi.Supervisor) == application
      # What it held is still there.
      [%{current_requests: now}] = RateLimiter.get_rate_limit_status("ann", :global, :user_id)
      assert now == 4 + Enum.sum(for %{current_requests: n} <- before, do: n)
      assert Native.status() == :ok
      assert warnings(0) == 3
    end
  end
end
