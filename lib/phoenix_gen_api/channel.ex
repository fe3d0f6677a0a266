defmodule PhoenixGenApi.Channel do
  @moduledoc """
  Requests over a Phoenix Channel.

      defmodule MyAppWeb.ApiChannel do
        use Phoenix.Channel
        use PhoenixGenApi, event: "api", concurrency: 4

        def join("api:" <> _topic, _params, socket), do: {:ok, socket}
      end

  The client pushes requests on the event, see `PhoenixGenApi.Structs.Request`, and gets
  `PhoenixGenApi.Structs.Response`s. In JavaScript `phoenix-gen-api` does that; the guide [Clients](clients.md)
  has the protocol:

      import {connect} from "phoenix-gen-api"

      const api = connect({socket, topic: "api:lobby", event: "api"})
      const book = await api.books.find({isbn: "9780441"})

  ## Options

  | Option | Default | Meaning |
  |---|---|---|
  | `event` | `"phoenix_gen_api"` | event of requests and of pushed results |
  | `override_user_id` | `true` | the identity comes from the socket |
  | `require_verified_user_id` | `false` | without a user id in the socket every request gets `Authentication required` |
  | `trust_client_roles` | `false` | with `override_user_id: false`: accept `user_roles` from the payload |
  | `deliver` | `:reply` | `:reply`, `:push` or `:both` |
  | `concurrency` | `1` | requests of one channel executing at a time; 1 keeps them strictly in order |
  | `max_pending` | `100` | waiting requests per channel; 0 lets none wait |
  | `max_running` | `100` | running async and stream requests per channel; 0 allows none |
  | `max_wait_ms` | `10_000` | how long a request waits for its turn |
  | `relay` | `:auto` | whether messages of groups that are joined in `join/3` go straight to the client (`:fastlane`) or through the channel (`:channel`). `:auto` means the fastlane, unless a `handle_info` clause of the module could match `{:relay_message, response}` |
  | `relay_event` | that of `event` | event on which relay messages are pushed |
  | `relay_request_id` | `true` | `false`: relay messages carry `request_id: nil` for everyone but their sender, and always come through the channel |

  A request over `max_pending` or `max_running`, or one that has waited for `max_wait_ms`, gets
  `Service temporarily unavailable`, with `can_retry` true, and is not executed. Unknown options
  and bad values are compile errors.

  Two more bounds hold for all channels of a connection together: at most
  `config :phoenix_gen_api, :channel, max_connection_requests: 200` unfinished requests, and
  `max_client_bytes: 8_388_608` waiting for the client. While more bytes than that wait, requests
  wait too, streams pause, and relay messages are skipped; at four times as many the connection
  is closed.

  ## Identity

  | Field | `override_user_id: true` | `false` |
  |---|---|---|
  | `user_id` | `assigns.user_id` | the client's |
  | `user_roles` | `assigns.user_roles` | `assigns.user_roles`, else the client's with `trust_client_roles` |
  | `device_id` | `assigns.device_id`, else the client's | the same |
  | `ip_address` | the socket's | the same |

  Ids in assigns are non-empty strings or integers, which become decimal text; roles a list or
  MapSet of strings and atoms, or a single one. The address is `assigns.ip_address` (a string, a
  charlist or an address tuple), else that of `assigns.peer_data` or of
  `assigns.connect_info.peer_data`. Anything else in assigns counts as absent and is logged once
  per channel; what the client says never takes its place.
  `PhoenixGenApi.put_client_ip/2` sets it when the client connects. Assigns are read with every
  request, so a channel may authenticate its client after the join.

  ## Delivery

  | | `:reply` | `:push` | `:both` |
  |---|---|---|---|
  | sync result, failure | reply `{:ok, response}` or `{:error, response}` | reply `{:ok, %{request_id: id}}` on receipt; push | push, and reply as `:reply` |
  | acknowledgement of async and stream | reply `{:ok, response}` | as above | as above |
  | later results | push | push | push |
  | none | reply `{:ok, %{request_id: id}}` | the same | the same |

  A message that the client has sent without a ref, hence without waiting for a reply, gets no
  reply. A result that cannot be written as JSON is `Internal Server Error`; as an item of a
  stream it ends the stream.

  ## Cancel

  The payload `{"request_id": "r1", "cancel": true}` ends every request of that id on this event,
  at once; the reply is `{:ok, %{request_id: "r1", cancelled: true}}`, or `false` when there was
  none. One that waits is never called. One that executes is ended, with its function, also on
  another node. Both are answered with the code `cancelled`. Of those that were acknowledged, a
  stream pushes its end frame and an async request nothing more. Code of the channel ends its
  client's streams with `PhoenixGenApi.stop_stream/1`. At most 100 cancels and grants of credit of a
  channel act at once in a second; more wait their turn like requests.

  ## Credit

  A stream whose request has `"credit": n`, 1 to 1,000, sends no more than `n` items before its client grants
  more. The payload `{"request_id": "r1", "credit": n}` grants `n` items to the acknowledged streams of that id on
  this event, with at most 10,000 outstanding for each; the reply is `{:ok, %{request_id: "r1"}}`, also when there
  is none. A stream that has had no credit for `credit_timeout_ms` ends with the code `timeout`.

  ## Ids

  A client knows answers by the id of their request. As long as an async or stream request is
  unfinished, from its arrival to its last result, another request of the channel with its id is
  refused by reply with `Duplicate request id` (`duplicate_request_id`), whatever its event; with
  `deliver: :push` or `:both` that holds for every request. Sync requests may share an id
  otherwise, and a cancel reaches all of them.

  ## Processes

  Requests run outside of the channel, which meanwhile handles its other messages. With the end
  of the channel, whatever its cause, its sync, async and stream requests end; `:none` requests
  go on. Streams pause while more than 1,000 messages wait for the channel.

  ## Own clauses

  The injected clauses come after those of the module, so own ones win:

      def handle_info({:relay_message, response}, socket) do
        push(socket, "chat", response)
        {:noreply, socket}
      end

  A catch-all hides them. It should then ask:

      def handle_info(message, socket) do
        with :unhandled <- PhoenixGenApi.Channel.handle_info(message, socket, event: "api") do
          Logger.info("unknown message")
          {:noreply, socket}
        end
      end

  Replies, acknowledgements, order and cancels do not depend on those clauses; pushes of later
  results do. A catch-all that does not ask is a compiler warning. In a module without any `handle_info`
  other messages are logged and ignored.

  ## Several events

  `use` adds one event. A module that serves more of them calls `handle_in/3` for the others:

      def handle_in("admin", payload, socket),
        do: PhoenixGenApi.Channel.handle_in(payload, socket, event: "admin", concurrency: 4)

  Replies and later results arrive on the event that their request was sent on.

  ## Order

  With a `concurrency` of 1, requests run in the order in which they arrive. With a higher one they run
  concurrently, except for requests of `PhoenixGenApi.Relay.handle_relay/2`: over all events of a channel these run
  one after the other, so the messages of a chat stay in order.
  """

  alias PhoenixGenApi.Channel.{Delivery, Entry, Identity, Options, PhoenixAdapter, Requests}
  alias PhoenixGenApi.ClientConnection
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.Structs.{Request, Response}
  alias PhoenixGenApi.Log

  require Log

  @typedoc "A `Phoenix.Socket` that has joined."
  @type socket :: struct()

  @typedoc "Those of `use PhoenixGenApi`; the clauses that it adds pass them checked."
  @type options :: keyword() | struct()

  # Cancels and grants of credit.
  @instructions_per_second 100

  # Kept in the process, not in the socket: callers of handle_in/3 may go on with either socket.
  @requests {__MODULE__, :requests}
  @instructions {__MODULE__, :instructions}
  @json_library {__MODULE__, :json_library}
  @connection {__MODULE__, :connection}

  @doc """
  Takes one message of a client, whatever its payload: a request, a cancel or credit for a stream.

  For channels that dispatch events themselves; `options` are those of `use PhoenixGenApi`.
  Raises `ArgumentError` for bad options. Must be called in the channel process. Each event
  has a queue and limits of its own.
  """
  @spec handle_in(term(), socket, options()) :: {:noreply, socket}
        when socket: socket()
  def handle_in(payload, socket, options) do
    options = Options.new!(options)
    ref = PhoenixAdapter.ref(socket)

    case instruction(payload) do
      nil -> request(payload, socket, ref, options)
      instruction -> follow(instruction, ref, options)
    end

    {:noreply, socket}
  end

  @doc """
  Handles the messages that requests and the relay send to a channel; `:unhandled` for others.

  Pushes `response` for `{:push, response}`, `{:async_call, response}`,
  `{:stream_response, response}` and `{:relay_message, response}`; the client is not told of
  `{:stream_started, request_id, pid}`. A later result is pushed on the event of its request. Of the options `event`, `relay_event` and
  `relay_request_id` count.
  """
  @spec handle_info(term(), socket, options()) :: {:noreply, socket} | :unhandled
        when socket: socket()
  def handle_info({tag, response}, socket, options)
      when tag in [:push, :async_call, :stream_response] do
    # How large a result may be was asked where it came from.
    max = if tag == :push, do: Config.get(:request, :max_result_bytes), else: :infinity
    {event, response} = Delivery.unmarked(response, Options.new!(options).event)
    push(socket, event, response, max)
  end

  def handle_info({:relay_message, response}, socket, options) do
    options = Options.new!(options)

    if ClientConnection.room?(connection(socket)) do
      response = relayed(response, socket, options)
      push(socket, Options.relay_event(options), response, :infinity)
    else
      Relay.Events.dropped(group(response), :slow_consumer, 1)
      {:noreply, socket}
    end
  end

  def handle_info({:stream_started, _request_id, _pid}, socket, _options), do: {:noreply, socket}
  def handle_info(_message, _socket, _options), do: :unhandled

  @doc false
  # Ends the streams of the calling channel with that id, as its client could; their number.
  @spec stop_streams(term()) :: non_neg_integer()
  def stop_streams(request_id) do
    for {_event, requests} <- Process.get(@requests, %{}), reduce: 0 do
      stopped -> stopped + Requests.stop_streams(requests, request_id)
    end
  end

  @doc false
  @spec unexpected(module(), socket) :: {:noreply, socket} when socket: term()
  def unexpected(module, socket) do
    Log.warning("#{inspect(module)} got an unexpected message, and has no handle_info/2")
    {:noreply, socket}
  end

  defp push(socket, event, response, max) do
    {response, bytes, failure} = Reply.measured(response, json_library(), max)
    if failure, do: FailureLog.log(failure, about(response.request_id))
    Delivery.push(connection(socket), socket, event, response, bytes)
    {:noreply, socket}
  end

  defp group(%Response{result: %{"group_id" => group}}), do: group
  defp group(_response), do: nil

  defp connection(socket) do
    case Process.get(@connection) do
      {_share, pid, nil} = connection when pid == socket.transport_pid ->
        connection

      _none ->
        connection = ClientConnection.open(socket.transport_pid)
        Process.put(@connection, connection)
        connection
    end
  end

  # A client that matches answers by their id must not take another user's message for one.
  defp relayed(response, _socket, %{relay_request_id: true}), do: response

  defp relayed(%Response{result: %{"from_user_id" => sender}} = response, socket, _options) do
    if Identity.of(socket.assigns).user_id == sender,
      do: response,
      else: %{response | request_id: nil}
  end

  defp relayed(response, _socket, _options), do: response

  defp request(payload, socket, ref, options) do
    requests = requests(options, socket)

    case decode(payload, request_id(payload), socket, options) do
      {:ok, request, device} -> Requests.take(requests, ref, Entry.new(request, device))
      {:error, response} -> Requests.answer(requests, ref, response)
    end
  end

  defp decode(payload, id, socket, options) do
    identity = Identity.of(socket.assigns)

    if options.require_verified_user_id and identity.user_id == nil do
      {:error, failed(id, :unauthenticated, identity)}
    else
      case payload |> Identity.without_claims(socket.assigns, options) |> Request.decode() do
        {:ok, request} ->
          device = if identity.device_id, do: :verified, else: :claimed
          {:ok, Identity.put(request, identity, options), device}

        {:error, error} ->
          {:error, invalid(id, error, identity)}
      end
    end
  catch
    # Last line of defence: a bug of this library is one request's error, never the channel's.
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      {:error, ErrorResponse.build(id, :request_not_decoded)}
  end

  # What is no request counts against the limits of who sends it all the same.
  defp invalid(id, error, identity) do
    case Executor.charge_sender(struct!(%Request{request_id: id}, Map.from_struct(identity))) do
      :ok -> failed(id, {:invalid_request, error}, identity)
      {:error, failure} -> failed(id, failure, identity)
    end
  end

  defp failed(id, failure, identity) do
    FailureLog.log(failure, about(id, Map.from_struct(identity)))
    ErrorResponse.build(id, failure)
  end

  # What is known of a request that is none.
  defp about(id, identity \\ %{}),
    do: FailureLog.about(struct!(%Request{request_id: id}, identity))

  # A cancel, or credit for a stream.
  defp follow(instruction, ref, %{event: event}) do
    case Process.get(@requests) do
      %{^event => requests} -> Requests.follow(requests, ref, instruction, too_many?())
      _none -> Requests.nothing_to_follow(ref, instruction)
    end
  end

  # A well-behaved client cancels each of its requests once at most, and grants credit for many frames at
  # a time. Those over this rate are queued like requests.
  defp too_many? do
    second = System.monotonic_time(:second)

    case Process.get(@instructions) do
      {^second, count} when count >= @instructions_per_second ->
        true

      {^second, count} ->
        Process.put(@instructions, {second, count + 1})
        false

      _before ->
        Process.put(@instructions, {second, 1})
        false
    end
  end

  defp instruction(%{"cancel" => true} = payload), do: about_id(payload, &{:cancel, &1})
  defp instruction(%{cancel: true} = payload), do: about_id(payload, &{:cancel, &1})

  # A stream request has one as well.
  defp instruction(%{"credit" => n} = payload)
       when is_integer(n) and n > 0 and not is_map_key(payload, "request_type"),
       do: about_id(payload, &{:credit, &1, n})

  defp instruction(_payload), do: nil

  defp about_id(payload, instruction), do: if(id = request_id(payload), do: instruction.(id))

  defp request_id(%{request_id: id}) when is_binary(id), do: if(String.valid?(id), do: id)
  defp request_id(%{"request_id" => id}) when is_binary(id), do: if(String.valid?(id), do: id)
  defp request_id(_payload), do: nil

  defp requests(%{event: event} = options, socket) do
    case Process.get(@requests) do
      %{^event => requests} ->
        requests

      others ->
        others = others || %{}
        sibling = others |> Map.values() |> List.first()
        requests = Requests.new(options, socket, connection(socket), sibling)
        StreamCall.on_stop_own(&__MODULE__.stop_streams/1)
        Process.put(@requests, Map.put(others, event, requests))
        requests
    end
  end

  defp json_library do
    with nil <- Process.get(@json_library) do
      library = Delivery.json_library()
      Process.put(@json_library, library)
      library
    end
  end
end
