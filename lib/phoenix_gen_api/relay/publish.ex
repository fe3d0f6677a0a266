defmodule PhoenixGenApi.Relay.Publish do
  @moduledoc false
  # A message on its way to a group: checked and counted, made into what each lane wants, sent.
  #
  # The calling process sends to the devices of this gateway itself. So messages of calls that
  # follow each other arrive in that order, whatever processes make them, and nobody waits for
  # somebody else's large group.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Relay.{Events, FanOut, Forwarder, Timestamp}
  alias PhoenixGenApi.Structs.{Request, Response}

  # {text, code}
  @refusals %{
    not_found: {"Group not found", "group_not_found"},
    user_not_in_group: {"Not a member of this group", "not_a_member"},
    pending: {"Pending membership: wait for acceptance", "pending_member"},
    muted: {"You are muted and cannot send messages", "muted"},
    invalid_argument: {"argument validation failed", "invalid_arguments"},
    invalid_message: {"argument validation failed", "invalid_arguments"},
    message_too_large: {"Message too large", "invalid_arguments"}
  }

  @doc "A message of a member, as a request."
  @spec request(Request.t()) :: Response.t()
  def request(%Request{request_id: request_id, user_id: user, args: args}) do
    with {:ok, group, message} <- arguments(args),
         {:ok, relay} <- Gateway.handle(:relay),
         :ok <- check(message),
         user = if(is_binary(user) and String.valid?(user), do: user),
         {:ok, count} <-
           publish(
             request_id,
             group,
             user,
             message,
             &Native.relay_publish(relay, group, user, &1)
           ) do
      Response.sync_response(request_id, %{
        "status" => "relayed",
        "recipients_count" => count
      })
    else
      {:error, reason} -> refused(request_id, reason, args)
    end
  end

  defp refused(request_id, :not_running, _args), do: ErrorResponse.build(request_id, :not_running)

  defp refused(request_id, {:too_fast, after_ms}, _args),
    do: ErrorResponse.build(request_id, {:too_fast, after_ms})

  defp refused(request_id, reason, args) do
    {text, code} = @refusals[name(reason)]
    Response.error_response(request_id, text, false, code: code, details: problems(reason, args))
  end

  defp name({:invalid_message, _path, _value}), do: :invalid_message
  defp name(reason), do: reason

  defp problems(:invalid_argument, args) when not is_non_struct_map(args),
    do: problems(:invalid_argument, %{})

  defp problems(:invalid_argument, args) do
    group = group_problem(args["group_id"])
    message = if not is_map_key(args, "message"), do: problem("message", "required")
    Enum.reject([group, message], &is_nil/1)
  end

  defp problems({:invalid_message, path, value}, _args) when is_integer(value),
    do: [problem(path, "max_digits", %{"limit" => Config.get(:request, :max_digits)})]

  defp problems({:invalid_message, path, value}, _args) when is_binary(value),
    do: [problem(path, "encoding")]

  defp problems({:invalid_message, path, _value}, _args),
    do: [problem(path, "type", %{"expected" => "json"})]

  defp problems(:message_too_large, _args),
    do: [problem("message", "max_bytes", %{"limit" => Config.get(:relay, :max_message_bytes)})]

  defp problems(_reason, _args), do: nil

  defp group_problem(nil), do: problem("group_id", "required")
  defp group_problem(""), do: problem("group_id", "min_length", %{"limit" => 1})

  defp group_problem(group) when not is_binary(group),
    do: problem("group_id", "type", %{"expected" => "string"})

  defp group_problem(group),
    do: if(not String.valid?(group), do: problem("group_id", "encoding"))

  defp problem(path, rule, more \\ %{}), do: Map.merge(%{"path" => path, "rule" => rule}, more)

  @doc "A message of the server."
  @spec from_server(reference(), String.t(), String.t(), term()) ::
          {:ok, non_neg_integer()} | {:error, atom()}
  def from_server(relay, group, from, message) do
    with :ok <- check(message) do
      publish(nil, group, from, message, fn _now -> Native.relay_fan_out(relay, group) end)
    else
      {:error, reason} -> {:error, name(reason)}
    end
  end

  defp arguments(%{"group_id" => group, "message" => message})
       when is_binary(group) and group != "" do
    if String.valid?(group), do: {:ok, group, message}, else: {:error, :invalid_argument}
  end

  defp arguments(_args), do: {:error, :invalid_argument}

  # Whatever its members would be sent instead of a message that JSON does not have, its sender would
  # take it for delivered.
  defp check(message) do
    if :erlang.external_size(message) > Config.get(:relay, :max_message_bytes) do
      {:error, :message_too_large}
    else
      case JsonEncoding.measure(message, :configured, :infinity) do
        {:ok, _bytes} -> :ok
        {:error, "value" <> path, value} -> {:error, {:invalid_message, "message" <> path, value}}
      end
    end
  end

  defp publish(request_id, group, user, message, check) do
    started = System.monotonic_time()

    case check.(System.convert_time_unit(started, :native, :nanosecond)) do
      {audience, fan, lanes, remote} ->
        response = response(request_id, group, user, message)
        FanOut.send_all(group, fan, lanes, response)
        Forwarder.forward(remote, group, user, response)
        Events.published(started, group, user, audience)
        {:ok, audience}

      reason ->
        {:error, reason}
    end
  end

  defp response(request_id, group, user, message) do
    Response.sync_response(request_id, %{
      "group_id" => group,
      "from_user_id" => user,
      "message" => message,
      "timestamp" => Timestamp.now()
    })
  end
end
