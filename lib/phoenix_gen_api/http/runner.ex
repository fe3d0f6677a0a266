defmodule PhoenixGenApi.Http.Runner do
  @moduledoc false
  # Runs a request in the process of its connection, if one response is all there is. Async and stream requests
  # have a receiver of their own.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Http.{Answer, Call, Receiver}
  alias PhoenixGenApi.Structs.Request

  @answer {__MODULE__, :answer}

  @doc "Runs a request with what the config table says of its function."
  @spec run(Call.t(), Request.t(), Call.found()) :: Answer.t()
  # A hook may make any other function of it.
  def run(call, request, {:ok, plan(response_type: type) = plan} = found)
      when type in [:async, :stream] or has(plan, :before_execute),
      do: Receiver.run(call, request, found)

  def run(call, request, found) do
    client = Call.client(call, found, &keep/3)
    _over = Executor.execute_for_client(request, client)
    Call.answer(call, Process.delete(@answer))
  end

  defp keep(:answer, result, _bytes) do
    Process.put(@answer, result)
    :ok
  end
end
