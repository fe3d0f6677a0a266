defmodule PhoenixGenApi.Test.SlowReader do
  @moduledoc false
  # The process of a connection whose client reads nothing but what it is told to, and a
  # serializer that makes real frames for it. Results of 5 MB are one binary each, as on a wire.

  @doc "Starts one; it is killed with the test."
  def start do
    pid = spawn(&loop/0)
    ExUnit.Callbacks.on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  defp loop do
    receive do
      {__MODULE__, from, :next} ->
        receive do
          {:frame, frame} -> send(from, {:read, self(), frame})
        end

        loop()
    end
  end

  @doc "The bytes in its mailbox."
  def held(reader) do
    case Process.info(reader, :messages) do
      {:messages, messages} ->
        for({:frame, frame} <- messages, do: byte_size(frame)) |> Enum.sum()

      nil ->
        0
    end
  end

  @doc "Has it read one frame, as soon as there is one, and returns what the client gets."
  def read(reader) do
    send(reader, {__MODULE__, self(), :next})

    receive do
      {:read, ^reader, frame} -> JSON.decode!(frame)
    after
      60_000 -> raise "nothing came for the client"
    end
  end

  @doc "A response, as the client gets it."
  def encode!(%{payload: payload}), do: {:frame, JSON.encode!(payload)}

  @doc "The frame of a message to a group."
  def fastlane!(%{payload: payload}), do: {:socket_push, :text, JSON.encode!(payload)}
end
