defmodule PhoenixGenApi.Channel.Entry do
  @moduledoc false
  # A request that has arrived at a channel, and what can be told of it ahead of executing.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.Request

  @enforce_keys [:request, :device, :found]
  defstruct @enforce_keys ++ [:deadline, :max_bytes, long?: false, relay?: false]

  @typedoc """
  `found` is the answer of the config table. `deadline` is in ms from the arrival. A `long?` request (async
  or stream) continues after its acknowledgement, with results of at most `max_bytes` each. A `relay?` request
  is a message to a group.
  """
  @type t :: %__MODULE__{
          request: Request.t(),
          device: Executor.device(),
          found: {:ok, Plan.t()} | {:error, term()} | nil,
          deadline: pos_integer() | nil,
          max_bytes: pos_integer() | nil,
          long?: boolean(),
          relay?: boolean()
        }

  @spec new(Request.t(), Executor.device()) :: t()
  def new(%{service: service, request_type: type, version: version} = request, device) do
    case ConfigDb.fetch(service, type, version) do
      {:ok, plan(module: module, function: function, response_type: response_type) = plan} = found ->
        long? = response_type in [:async, :stream]

        %__MODULE__{
          request: request,
          device: device,
          found: found,
          deadline: deadline(request, plan),
          long?: long?,
          max_bytes: if(long?, do: Plan.max_result_bytes(plan)),
          relay?: module == Relay and function == :handle_relay
        }

      unknown ->
        %__MODULE__{request: request, device: device, found: unknown}
    end
  end

  # Numbers are less than nil.
  defp deadline(%{deadline_ms: given}, plan) when has(plan, :deadline),
    do: min(given, Plan.config(plan).deadline)

  defp deadline(%{deadline_ms: given}, _plan), do: given
end
