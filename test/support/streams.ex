defmodule PhoenixGenApi.Test.Streams do
  @moduledoc false
  # Functions of streams that run on other nodes.

  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Structs.StreamHelper

  @doc "Tells who it is, and ends when told."
  def feed(test, %StreamHelper{} = out) do
    send(test, {:function, self(), out})

    receive do
      :return -> :ok
    end
  end

  @doc "Sends 1 to `n`, telling of each."
  def count(n, test, %StreamHelper{} = out) do
    for i <- 1..n//1 do
      StreamHelper.send_result(out, i)
      send(test, {:sent, i})
    end

    StreamHelper.send_complete(out)
  end

  @doc "An enumerable that tells when it is begun and when it is cleaned up."
  def endless(test) do
    Stream.resource(
      fn -> send(test, {:function, self(), nil}) && 1 end,
      fn n -> {[n], n + 1} end,
      fn _ -> send(test, :cleaned_up) end
    )
  end

  @doc "Leaves the sending to a process of its own."
  def delegate(test, %StreamHelper{} = out) do
    send(test, {:function, spawn(__MODULE__, :feed, [test, out]), out})
    :ok
  end

  def squares(n), do: Stream.map(1..n, &(&1 * &1))
  def identity(value), do: value

  @doc "Needs neither Elixir nor this library on its node."
  def raw(%{stream_pid: pid}) do
    :erlang.send(pid, {:result, 1})
    :erlang.send(pid, {:result, 2})
    :erlang.send(pid, {:last_result, 3})
    :ok
  end

  @doc "The same, and it stays."
  def raw_and_stay(test, %{stream_pid: pid}) do
    :erlang.send(pid, {:result, 1})
    :erlang.send(test, {:function, :erlang.self(), nil})

    receive do
      :return -> :ok
    end
  end

  @doc "Starts a stream on this node, for a process that lives as long as the node."
  def hold(request, config) do
    spawn(fn ->
      Executor.execute_with_config!(request, config)

      receive do
        :never -> :ok
      end
    end)
  end
end
