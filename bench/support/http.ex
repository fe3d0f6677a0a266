defmodule Bench.Http.Client do
  @moduledoc "What `bench/http.exs` runs in a VM of its own."

  @body ~s({"item": "tea", "quantity": 3})
  @sockets __MODULE__

  @doc "The body of one answer, without the request id."
  def answer(port, path) do
    socket = connect(port)
    body = ask(socket, request(port, path, "application/json"))
    :gen_tcp.close(socket)
    body |> JSON.decode!() |> Map.delete("request_id")
  end

  @doc "Nanoseconds of each of so many requests, one after the other."
  def times(port, path, count) do
    socket = connect(port)
    request = request(port, path, "application/json")

    times =
      for _ <- 1..count do
        began = :erlang.monotonic_time(:nanosecond)
        ask(socket, request)
        :erlang.monotonic_time(:nanosecond) - began
      end

    :gen_tcp.close(socket)
    times
  end

  @doc "Opens streams of events, and returns when each has its first one."
  def open(port, path, count) do
    keeper = spawn_link(fn -> keep(port, path, count) end)
    if Process.whereis(@sockets), do: close()
    Process.register(keeper, @sockets)
    send(keeper, {:open, self()})
    receive(do: (:opened -> :ok))
  end

  defp keep(port, path, count) do
    receive do
      {:open, from} ->
        sockets =
          for _ <- 1..count do
            socket = connect(port)
            :ok = :gen_tcp.send(socket, request(port, path, "text/event-stream", ""))
            first(socket, "")
            socket
          end

        send(from, :opened)

        receive do
          {:close, from} ->
            Enum.each(sockets, &:gen_tcp.close/1)
            send(from, :closed)
        end
    end
  end

  def close do
    send(@sockets, {:close, self()})
    receive(do: (:closed -> :ok))
    until_free()
  end

  defp until_free, do: if(Process.whereis(@sockets), do: until_free(), else: :ok)

  defp first(socket, read) do
    if read =~ "data: ", do: read, else: first(socket, read <> elem(:gen_tcp.recv(socket, 0), 1))
  end

  defp connect(port) do
    {:ok, socket} =
      :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, nodelay: true])

    socket
  end

  defp request(port, path, accept, body \\ @body) do
    "POST #{path} HTTP/1.1\r\nhost: 127.0.0.1:#{port}\r\naccept: #{accept}\r\n" <>
      "content-type: application/json\r\ncontent-length: #{byte_size(body)}\r\n\r\n" <> body
  end

  defp ask(socket, request) do
    :ok = :gen_tcp.send(socket, request)
    {:ok, answer} = :gen_tcp.recv(socket, 0)
    body(socket, answer)
  end

  defp body(socket, answer) do
    with [head, body] <- :binary.split(answer, "\r\n\r\n"),
         [_, length] = Regex.run(~r/content-length: (\d+)/, head),
         true <- byte_size(body) == String.to_integer(length) do
      body
    else
      _part ->
        {:ok, more} = :gen_tcp.recv(socket, 0)
        body(socket, answer <> more)
    end
  end
end

if Code.ensure_loaded?(Bandit) do
  defmodule Bench.Http.Bare do
    @moduledoc "A plug that does what has to be done, and nothing else."
    @behaviour Plug
    import Plug.Conn

    @impl true
    def init(options), do: options

    @impl true
    def call(conn, _options) do
      {:ok, body, conn} = read_body(conn)
      %{"item" => item, "quantity" => quantity} = JSON.decode!(body)
      id = Base.url_encode64(:crypto.strong_rand_bytes(16), padding: false)

      response = %{
        request_id: id,
        success: true,
        result: Bench.Http.Server.price(item, quantity),
        error: nil,
        async: false,
        has_more: false,
        can_retry: false
      }

      conn
      |> merge_resp_headers([
        {"x-request-id", id},
        {"content-type", "application/json"},
        {"cache-control", "no-store"},
        {"x-content-type-options", "nosniff"}
      ])
      |> send_resp(200, JSON.encode_to_iodata!(response))
    end
  end

  defmodule Bench.Http.Adapter do
    @moduledoc "A server that has the request, and throws the answer away."
    def read_req_body(state, _options), do: {:ok, ~s({"item": "tea", "quantity": 3}), state}
    def send_resp(state, _status, _headers, _body), do: {:ok, nil, state}
  end

  defmodule Bench.Http.Server do
    @moduledoc "The two plugs, under their paths, on Bandit."
    @behaviour Plug

    @impl true
    def init(options), do: options

    @impl true
    def call(%{path_info: ["bare" | rest]} = conn, _options),
      do: Bench.Http.Bare.call(%{conn | path_info: rest}, [])

    def call(%{path_info: ["gen_api" | rest]} = conn, options),
      do: PhoenixGenApi.Plug.call(%{conn | path_info: rest, assigns: %{user_id: "ann"}}, options)

    def start do
      options = PhoenixGenApi.Plug.init([])

      {:ok, server} =
        Bandit.start_link(plug: {__MODULE__, options}, port: 0, ip: :loopback, startup_log: false)

      {:ok, {_ip, port}} = ThousandIsland.listener_info(server)
      port
    end

    @doc "A request without a server."
    def conn(which) do
      %Plug.Conn{
        adapter: {Bench.Http.Adapter, nil},
        method: "POST",
        path_info: [which, "bench", "price"],
        remote_ip: {127, 0, 0, 1},
        req_headers: [
          {"host", "127.0.0.1:4000"},
          {"accept", "application/json"},
          {"content-type", "application/json"},
          {"content-length", "30"}
        ]
      }
    end

    def price(item, quantity), do: %{item: item, total: 3 * quantity}
  end
end
