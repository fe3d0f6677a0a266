defmodule PhoenixGenApi.ConfigSync.ServiceLockTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Await
  alias PhoenixGenApi.ConfigSync.ServiceLock

  defp hold(service) do
    test = self()

    pid =
      spawn(fn ->
        ServiceLock.run(service, fn ->
          send(test, {:holding, self()})

          receive do
            :go -> :ok
            :raise -> raise "boom"
          end
        end)

        # Lives on: its turn ends with the work.
        receive do
          :end -> :ok
        end
      end)

    on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  test "returns what the work returns, and a turn can be taken again" do
    assert ServiceLock.run("turn a", fn -> 1 end) == 1
    assert ServiceLock.run("turn a", fn -> 2 end) == 2
    assert :ets.lookup(ServiceLock, "turn a") == []
  end

  test "gives turns in the order they are asked for" do
    first = hold("turn b")
    assert_receive {:holding, ^first}

    waiting =
      for _ <- 1..3 do
        pid = hold("turn b")
        Await.until(fn -> Process.info(pid, :status) == {:status, :waiting} end)
        pid
      end

    for {pid, next} <- Enum.zip([first | waiting], waiting) do
      refute_received {:holding, _}
      send(pid, :go)
      assert_receive {:holding, ^next}
    end
  end

  test "does not make one service wait for another" do
    pid = hold("turn c")
    assert_receive {:holding, ^pid}
    assert ServiceLock.run("turn d", fn -> :ran end) == :ran
  end

  @tag :capture_log
  test "gives on the turn of a process that dies or raises, or died while it waited" do
    first = hold("turn e")
    assert_receive {:holding, ^first}
    dead = hold("turn e")
    Await.until(fn -> Process.info(dead, :status) == {:status, :waiting} end)
    raising = hold("turn e")
    Await.until(fn -> Process.info(raising, :status) == {:status, :waiting} end)
    Process.exit(dead, :kill)
    Process.exit(first, :kill)
    assert_receive {:holding, ^raising}
    send(raising, :raise)
    assert ServiceLock.run("turn e", fn -> :ran end) == :ran
  end

  @tag :capture_log
  test "a turn that was given just before a crash of the process is not waited for" do
    old = Process.whereis(PhoenixGenApi.ConfigReceiver)

    task =
      Task.async(fn ->
        # What is left when the process is killed between noting a turn and saying so.
        :ets.insert(ServiceLock, {"turn g", self()})
        Process.exit(old, :kill)
        Await.until(fn -> Process.whereis(PhoenixGenApi.ConfigReceiver) not in [nil, old] end)
        ServiceLock.run("turn g", fn -> :ran end)
      end)

    assert Task.yield(task, 2_000) == {:ok, :ran}
    assert ServiceLock.run("turn g", fn -> :free end) == :free
  end
end
