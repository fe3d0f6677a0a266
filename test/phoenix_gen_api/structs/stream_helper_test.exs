defmodule PhoenixGenApi.Structs.StreamHelperTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Structs.{Request, StreamHelper}

  test "has the fields of a request's stream" do
    assert %StreamHelper{} == %StreamHelper{
             stream_pid: nil,
             request_id: nil,
             user_id: nil,
             device_id: nil,
             request: nil
           }

    assert %StreamHelper{request: %Request{}}
  end

  test "each function sends its message to the stream and returns :ok" do
    stream = %StreamHelper{stream_pid: self(), request_id: "r1"}

    assert StreamHelper.send_result(stream, %{page: 1}) == :ok
    assert_received {:result, %{page: 1}}

    assert StreamHelper.send_last_result(stream, 0) == :ok
    assert_received {:last_result, 0}

    assert StreamHelper.send_complete(stream) == :ok
    assert_received :complete

    assert StreamHelper.send_error(stream, :broken) == :ok
    assert_received {:error, :broken}
  end

  test "every function returns :ok after the stream has ended" do
    {pid, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
    stream = %StreamHelper{stream_pid: pid, request_id: "r1"}

    assert StreamHelper.send_result(stream, 1) == :ok
    assert StreamHelper.send_last_result(stream, 1) == :ok
    assert StreamHelper.send_complete(stream) == :ok
    assert StreamHelper.send_error(stream, 1) == :ok
  end

  test "messages of one process arrive in order, from whichever process" do
    stream = %StreamHelper{stream_pid: self(), request_id: "r1"}
    task = Task.async(fn -> for i <- 1..100, do: StreamHelper.send_result(stream, i) end)
    Task.await(task, 60_000)
    received = for _ <- 1..100, do: receive(do: ({:result, i} -> i))
    assert received == Enum.to_list(1..100)
  end
end
