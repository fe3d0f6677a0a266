defmodule PhoenixGenApi.WorkerPoolWorkerTest do
  # Handlers see the workers of the whole node.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.WorkerPool.Worker

  test "a worker runs its tasks one at a time, in order, and tells after each" do
    Process.register(self(), __MODULE__)
    worker = start_supervised!({Worker, pool_name: __MODULE__})
    parent = self()

    for n <- 1..3 do
      assert :ok = Worker.execute(worker, fn -> send(parent, {:ran, n, self()}) end)
    end

    assert for(_ <- 1..6, do: receive(do: (message -> message))) ==
             Enum.flat_map(1..3, &[{:ran, &1, worker}, {:worker_done, worker}])
  end

  test "a task that fails ends neither the worker nor what comes after" do
    worker = start_supervised!({Worker, pool_name: self()})
    parent = self()

    Telemetry.attach_worker_pool(worker, fn [_, _ | event], _measurements, metadata, _ ->
      if metadata.pool_name == parent, do: send(parent, {event, metadata[:kind]})
    end)

    on_exit(fn -> Telemetry.detach_all(worker) end)

    for {fail, kind} <- [
          {fn -> raise "oops" end, :error},
          {fn -> throw(:oops) end, :throw},
          {fn -> exit(:oops) end, :exit}
        ] do
      assert :ok = Worker.execute(worker, fail)
      assert_receive {[:task, :start], nil}
      assert_receive {[:task, :exception], ^kind}
      assert_receive {:worker_done, ^worker}
    end

    assert :ok = Worker.execute(worker, fn -> send(self(), :left_behind) end)
    assert_receive {[:task, :stop], nil}
    assert_receive {:worker_done, ^worker}
    assert Process.alive?(worker)
  end

  test "a worker of nobody works all the same" do
    worker = start_supervised!({Worker, pool_name: :no_such_process})
    parent = self()
    assert :ok = Worker.execute(worker, fn -> :ok end)
    assert :ok = Worker.execute(worker, fn -> send(parent, :ran) end)
    assert_receive :ran
  end
end
