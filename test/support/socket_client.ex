defmodule PhoenixGenApi.SocketClient do
  @moduledoc false
  # A client of Phoenix's WebSocket transport, on bare TCP: it can also send what no decent
  # client would. What the server sends arrives as messages of the process that connected:
  # `{:reply, ref, status, response}`, `{:push, client, event, payload}` and `{:closed, client}`.

  @enforce_keys [:tcp, :id]
  defstruct [:tcp, :id, :reader]

  @type t :: %__MODULE__{tcp: :gen_tcp.socket(), id: reference(), reader: pid() | nil}

  @doc "Connects to `/socket` of that port, with these parameters."
  def connect(port, params) do
    {:ok, tcp} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, nodelay: true])

    :ok =
      :gen_tcp.send(tcp, """
      GET /socket/websocket?#{URI.encode_query(Map.put(params, :vsn, "2.0.0"))} HTTP/1.1\r
      Host: localhost\r
      Connection: Upgrade\r
      Upgrade: websocket\r
      Sec-WebSocket-Version: 13\r
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
      \r
      """)

    "HTTP/1.1 101" <> _ = head(tcp, "")
    client = %__MODULE__{tcp: tcp, id: make_ref()}
    owner = self()
    reader = spawn_link(fn -> receive do: (:go -> read(client, owner, "")) end)
    :ok = :gen_tcp.controlling_process(tcp, reader)
    send(reader, :go)
    %{client | reader: reader}
  end

  @doc "Reads nothing from now on, also not what is on its way."
  def stop_reading(client), do: :erlang.suspend_process(client.reader)

  @doc "Reads again."
  def read_on(client), do: :erlang.resume_process(client.reader)

  @doc "Connects as a user and joins a topic, which must succeed: the client and the response."
  def join(port, user, topic) do
    client = connect(port, %{user: user})
    ref = push(client, topic, "phx_join", %{})

    receive do
      {:reply, ^ref, "ok", response} -> {client, response}
      {:reply, ^ref, status, response} -> raise "join of #{topic}: #{inspect({status, response})}"
    after
      5_000 -> raise "no answer to the join of #{topic}"
    end
  end

  @doc "Pushes a message; the reference of its reply."
  def push(client, topic, event, payload) do
    ref = "#{System.unique_integer([:positive])}"
    text(client, JSON.encode!([topic, ref, topic, event, payload]))
    ref
  end

  @doc "Sends a text frame."
  def text(client, data), do: frame(client, 1, data)

  @doc "Sends a frame of any kind, or of none that exists."
  def frame(client, opcode, data) do
    data = IO.iodata_to_binary(data)

    length =
      case byte_size(data) do
        n when n < 126 -> <<n::7>>
        n when n < 65_536 -> <<126::7, n::16>>
        n -> <<127::7, n::64>>
      end

    # A mask of zeros leaves the data as it is.
    :gen_tcp.send(client.tcp, [<<1::1, 0::3, opcode::4, 1::1, length::bitstring, 0::32>>, data])
  end

  @doc "Sends bytes as they are."
  def raw(client, bytes), do: :gen_tcp.send(client.tcp, bytes)

  @doc "Ends the connection without a word."
  def close(client), do: :gen_tcp.close(client.tcp)

  defp head(tcp, got) do
    if String.ends_with?(got, "\r\n\r\n") do
      got
    else
      {:ok, byte} = :gen_tcp.recv(tcp, 1, 5_000)
      head(tcp, got <> byte)
    end
  end

  defp read(client, owner, buffer) do
    case next(buffer) do
      {opcode, data, rest} ->
        deliver(opcode, data, client, owner)
        read(client, owner, rest)

      :more ->
        case :gen_tcp.recv(client.tcp, 0) do
          {:ok, bytes} -> read(client, owner, buffer <> bytes)
          {:error, _closed} -> send(owner, {:closed, client.id})
        end
    end
  end

  defp next(<<1::1, _::3, opcode::4, 0::1, 127::7, n::64, data::binary-size(n), rest::binary>>),
    do: {opcode, data, rest}

  defp next(<<1::1, _::3, opcode::4, 0::1, 126::7, n::16, data::binary-size(n), rest::binary>>),
    do: {opcode, data, rest}

  defp next(<<1::1, _::3, opcode::4, 0::1, n::7, data::binary-size(n), rest::binary>>)
       when n < 126,
       do: {opcode, data, rest}

  defp next(_incomplete), do: :more

  defp deliver(1, json, client, owner) do
    case JSON.decode!(json) do
      [_join_ref, ref, _topic, "phx_reply", %{"status" => status, "response" => response}] ->
        send(owner, {:reply, ref, status, response})

      [_join_ref, _ref, _topic, event, payload] ->
        send(owner, {:push, client.id, event, payload})
    end
  end

  defp deliver(_control, _data, _client, _owner), do: :ok
end
