defmodule PhoenixGenApi.Channel.FailureLogTest do
  # What the log and telemetry say of requests over a channel that fail before or after the executor.
  # The log is everybody's.
  use PhoenixGenApi.ChannelCase, async: false

  alias PhoenixGenApi.FailureLog.Limit
  alias PhoenixGenApi.Structs.StreamHelper
  alias PhoenixGenApi.Test.{Events, LogLines, Options}

  defmodule Api do
    use PhoenixGenApi, event: "api"
  end

  defmodule NoneWaiting do
    use PhoenixGenApi, event: "api", max_pending: 0
  end

  defmodule OneRunning do
    use PhoenixGenApi, event: "api", max_running: 1, concurrency: 2
  end

  defmodule Verified do
    use PhoenixGenApi, event: "api", require_verified_user_id: true
  end

  setup do
    LogLines.forward()
    :ets.delete_all_objects(Limit)
    :ok
  end

  defp id, do: "log-#{System.unique_integer([:positive])}"

  test "a sync result that JSON cannot hold is a failure for the log and for telemetry", %{
    service: service
  } do
    Events.forward([[:phoenix_gen_api, :executor, :request, :stop]], fn _event, _m, meta ->
      {:stop, meta.request_id, meta}
    end)

    register(service, "unencodable")
    id = id()
    push_in(join(Api), payload(service, "unencodable", id))
    assert_receive {:stop, ^id, %{success: false, code: "internal", reason: reason, attempts: 1}}
    assert reason == "a result that JSON cannot hold: result.owner is a pid"
    assert {:error, line, %{code: "internal"}} = LogLines.first(id)
    assert line =~ "ChannelFunctions.unencodable/1 on "
    assert line =~ reason
    assert LogLines.others(id) == []
  end

  test "a result that is too large is logged, whenever it comes", %{service: service} do
    channel = join(Api)

    for type <- [:sync, :async] do
      register(service, "echo",
        arg_types: %{"text" => :string},
        response_type: type,
        max_result_bytes: 1_000
      )

      id = id()
      args = %{"text" => String.duplicate("x", 1_000)}
      push_in(channel, payload(service, "echo", id, %{"args" => args}))
      assert {:error, line, %{code: "internal"}} = LogLines.first(id)
      assert line =~ "result too large"
    end
  end

  test "a later result that JSON cannot hold is logged once", %{service: service} do
    register(service, "unencodable", response_type: :async)
    id = id()
    push_in(join(Api), payload(service, "unencodable", id))
    assert_receive {:push, "api", %Response{success: false}}
    assert {:error, line, _meta} = LogLines.first(id)
    assert line =~ "result.owner is a pid"
    assert LogLines.others(id) == []
  end

  test "an item that JSON cannot hold is logged once", %{service: service} do
    register(service, "feed", response_type: :stream, request_info: true)
    id = id()
    push_in(join(Api), payload(service, "feed", id))
    assert_receive {:feeding, ^id, _function, out}
    StreamHelper.send_result(out, {:a, :tuple})
    assert_receive {:push, "api", %Response{success: false}}
    assert {:error, line, _meta} = LogLines.first(id)
    assert line =~ "result is a tuple"
    assert LogLines.others(id) == []
  end

  test "a request that the channel has no room for is a warning", %{service: service} do
    register(service, "gate", arg_types: %{"name" => :string})
    channel = join(NoneWaiting, user_id: "ann")
    push_in(channel, payload(service, "gate", "a", %{"args" => %{"name" => "a"}}))
    assert_receive {:running, "a", _function}
    id = id()
    push_in(channel, payload(service, "gate", id, %{"args" => %{"name" => "b"}}))
    assert {:warning, line, %{code: "unavailable", user_id: "ann"}} = LogLines.first(id)
    assert line =~ "of ann failed: #{service} gate: not called: over max_pending of the channel"
  end

  test "one more running request than allowed is a warning", %{service: service} do
    register(service, "gate", response_type: :async)
    channel = join(OneRunning)
    push_in(channel, payload(service, "gate", "a"))
    assert_receive {:running, nil, _function}
    id = id()
    push_in(channel, payload(service, "gate", id))
    assert {:warning, line, %{code: "unavailable"}} = LogLines.first(id)
    assert line =~ "over max_running of the channel"
  end

  test "a payload that is no request, and one without a user, are for information" do
    push_in(join(Api, user_id: "ann"), %{"request_id" => "log-no-request"})
    assert {:info, line, %{code: "invalid_request"}} = LogLines.first("log-no-request")

    assert line =~
             "of ann failed: invalid request: Missing required fields: request_type, service"

    push_in(join(Verified, ip_address: "192.0.2.7"), payload("s", "t", "log-no-user"))
    assert {:info, line, %{code: "unauthenticated"}} = LogLines.first("log-no-user")
    assert line =~ "of 192.0.2.7 failed: its connection has no user"
  end

  test "a process of a request that is killed is a warning", %{service: service} do
    register(service, "gate", arg_types: %{"name" => :string})
    channel = join(Api)
    id = id()
    push_in(channel, payload(service, "gate", id, %{"args" => %{"name" => "a"}}))
    assert_receive {:running, "a", _function}
    for pid <- request_processes(channel), do: Process.exit(pid, :kill)
    assert {:error, line, %{code: "internal"}} = LogLines.first(id)
    assert line =~ "killed"
  end

  test "a request that its client cancels is for debugging", %{service: service} do
    register(service, "gate", arg_types: %{"name" => :string})
    channel = join(Api)

    cancelled = fn ->
      id = id()
      request = push_in(channel, payload(service, "gate", id, %{"args" => %{"name" => "a"}}))
      assert_receive {:running, "a", _function}
      cancel = push_in(channel, %{"request_id" => id, "cancel" => true})
      assert_receive {:reply, ^cancel, :ok, %{cancelled: true}}
      assert_receive {:reply, ^request, :error, %Response{code: "cancelled"}}
      in_channel(channel)
      id
    end

    id = cancelled.()
    assert LogLines.others(id) == []

    Options.set(:log, level: :debug)
    id = cancelled.()
    assert {:debug, line, %{code: "cancelled"}} = LogLines.first(id)
    assert line =~ "cancelled"
    assert LogLines.others(id) == []
  end

  test "telemetry says for how long a request has waited for its turn", %{service: service} do
    Events.forward([[:phoenix_gen_api, :executor, :request, :stop]], fn _event, m, meta ->
      {:stop, meta.request_id, m.queued_us}
    end)

    register(service, "gate", arg_types: %{"name" => :string})
    channel = join(Api)
    {first, second} = {id(), id()}
    push_in(channel, payload(service, "gate", first, %{"args" => %{"name" => "a"}}))
    assert_receive {:running, "a", function}
    push_in(channel, payload(service, "gate", second, %{"args" => %{"name" => "b"}}))
    until(fn -> counts(channel) == {1, 0, 1} end)
    since = System.monotonic_time(:microsecond)
    # Some ms have to pass for it.
    refute_receive {:running, "b", _function}, 5
    waited = System.monotonic_time(:microsecond) - since
    send(function, {:return, 1})
    assert_receive {:stop, ^first, 0}
    assert_receive {:running, "b", function}
    send(function, {:return, 1})
    assert_receive {:stop, ^second, queued_us}
    assert queued_us >= waited - 1_000
  end
end
