defmodule PhoenixGenApi.Executor.Client do
  @moduledoc false
  # How the executor runs a request that a client has sent: who gets what comes later, what is known of it
  # already, and whom to ask before it is answered.

  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC

  @enforce_keys [:receiver, :device, :json_library, :claim]
  defstruct @enforce_keys ++ [:found, :inline, queued: 0]

  @typedoc """
  `claim` answers the request, with a response of so many bytes, or acknowledges it, and says whether
  that counts: a client may have cancelled it. What cannot be sent with `json_library` is a failure.
  `found` is what the config table has said, if it was asked. With `inline` a function that runs here may do so in the
  calling process, which runs nothing else. `queued` is for how many ms it has waited.
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
