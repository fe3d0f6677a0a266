defmodule PhoenixGenApi.Channel.Entry do
  @moduledoc false
  # A request that a channel takes in: what its session has to know of it ahead of executing.

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.Channel.Delivery
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.Structs.{Request, Response}

  @enforce_keys [:request, :device]
  defstruct @enforce_keys ++ [:held, :max_bytes, long?: false, relay?: false]

  @typedoc """
  `held` is the id that no other request of the channel may have meanwhile. As far as can be told
  by now: `long?` requests go on after their acknowledgement, their later results may have so many
  bytes, and `relay?` is a message to a group.
  """
  @type t :: %__MODULE__{
          request: Request.t(),
          device: Executor.device(),
          held: String.t() | nil,
          max_bytes: pos_integer() | nil,
          long?: boolean(),
          relay?: boolean()
        }

  @typedoc "A request, or what is to be answered instead of executing it, when its turn comes."
  @type item :: t() | {:answer, Response.t()} | {:refuse, Request.t(), limit :: atom()}

  @doc """
  Begins a decoded request in its connection. An error is what it is to be answered at once, since
  an unfinished request has its id.
  """
  @spec take({:ok, Request.t(), Executor.device()} | {:error, Response.t()}, Delivery.t()) ::
          item() | {:error, Response.t()}
  def take({:error, response}, _delivery), do: {:answer, response}

  def take({:ok, %{request_id: id} = request, device}, delivery) do
    entry = expected(%__MODULE__{request: request, device: device})
    hold? = entry.long? or delivery.mode != :reply

    case ClientConnection.begin_request(delivery.connection, id, hold?) do
      :begun ->
        if hold?, do: %{entry | held: id}, else: entry

      :full ->
        {:refuse, request, :max_connection_requests}

      :duplicate ->
        FailureLog.log(:duplicate_request_id, FailureLog.about(request))
        {:error, ErrorResponse.build(id, :duplicate_request_id)}
    end
  end

  defp expected(%{request: %{service: service, request_type: type, version: version}} = entry) do
    case ConfigDb.fetch(service, type, version) do
      {:ok, plan(module: module, function: function, response_type: response_type) = plan} ->
        long? = response_type in [:async, :stream]
        max_bytes = if long?, do: Plan.max_result_bytes(plan)
        relay? = {module, function} == {Relay, :handle_relay}
        %{entry | long?: long?, max_bytes: max_bytes, relay?: relay?}

      _unknown ->
        entry
    end
  end
end
