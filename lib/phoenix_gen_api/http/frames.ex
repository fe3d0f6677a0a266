defmodule PhoenixGenApi.Http.Frames do
  @moduledoc false
  # The chunks of a stream, as an enumerable. Each question for the next one goes to the stream's receiver.
  #
  # That a client is gone shows only when something is written to its socket, and of what is written first
  # the system still takes. So soon after each frame, if no other follows, and every 15 seconds, something is
  # written that clients ignore.

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Http.Call
  alias PhoenixGenApi.Structs.Request

  @doc "The chunks of the stream whose receiver that is; they can be enumerated once."
  @spec new(pid(), Call.t(), :events | :lines, Request.t()) :: Enumerable.t()
  def new(receiver, call, format, request) do
    request = %{request | args: %{}}
    %{options: options, library: library} = call

    Stream.resource(
      fn -> {:ask, Process.monitor(receiver), options.heartbeat_ms} end,
      fn
        :over ->
          {:halt, :over}

        {:ask, monitor, quiet_ms} ->
          # The monitor tells its answers from those to an earlier enumeration.
          send(receiver, {:next, self(), monitor})
          await(monitor, quiet_ms, format, library, options, request)

        {:wait, monitor, quiet_ms} ->
          await(monitor, quiet_ms, format, library, options, request)
      end,
      fn state -> stop(receiver, state) end
    )
  end

  defp await(monitor, quiet_ms, format, library, options, request) do
    receive do
      {^monitor, :more, data} ->
        {[data], {:ask, monitor, options.probe_ms}}

      {^monitor, :last, data} ->
        Process.demonitor(monitor, [:flush])
        {[data], :over}

      {:DOWN, ^monitor, :process, _receiver, _reason} ->
        FailureLog.log(:stream_failed, FailureLog.about(request))
        error = ErrorResponse.build(request.request_id, :stream_failed)
        {[Call.frame(format, error, nil, library)], :over}
    after
      quiet_ms -> {[heartbeat(format)], {:wait, monitor, options.heartbeat_ms}}
    end
  end

  defp heartbeat(:events), do: ":\n\n"
  # White space ahead of a line of JSON is no part of it.
  defp heartbeat(:lines), do: " "

  defp stop(_receiver, :over), do: :ok

  defp stop(receiver, {_next, monitor, _quiet_ms}) do
    Process.demonitor(monitor, [:flush])
    Process.exit(receiver, :kill)
    # The answer to a question that was asked may be here already.
    receive do
      {^monitor, _kind, _data} -> :ok
    after
      0 -> :ok
    end
  end
end
