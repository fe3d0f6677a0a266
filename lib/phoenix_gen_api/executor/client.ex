defmodule PhoenixGenApi.Executor.Client do
  @moduledoc false
  # How the executor runs a request from a client: the receiver of later results, the config if it was looked
  # up already, and the function that claims the answer.

  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC

  @enforce_keys [:receiver, :device, :json_library, :claim]
  defstruct @enforce_keys ++ [:found, :inline, queued: 0]

  @typedoc """
  `claim` sends the answer (of so many bytes) or the acknowledgement, unless the request has been claimed
  otherwise, for example by a cancel. A result that `json_library` cannot encode is a failure. `found` is the answer
  of the config table, if it was asked. With `inline` a local function may run in the calling process, which
  runs nothing else. `queued` is the time in the queue, in ms.
  """
  @type t :: %__MODULE__{
          receiver: pid(),
          device: Executor.device(),
          json_library: module(),
          claim: (:answer
                  | :async_call
                  | :stream_response,
                  Executor.result(),
                  non_neg_integer() ->
                    :ok | {:refused, PhoenixGenApi.ErrorResponse.failure()} | :ended),
          found: {:ok, Plan.t()} | {:error, term()} | nil,
          inline: RPC.Local.inline() | nil,
          queued: non_neg_integer()
        }
end
