defmodule PhoenixGenApi.Test.RawHttp do
  @moduledoc false
  # An HTTP client on a bare socket, which sends what no library would.

  @wait_ms 30_000

  @doc "A whole exchange: status, headers, and the body as JSON."
  def post(port, path, args, headers) do
    body = if is_map(args), do: JSON.encode!(args), else: args
    request(port, "POST", path, [{"content-type", "application/json"} | headers], body)
  end

  def request(port, method, path, headers, body) do
    socket = open(port, method, path, [{"connection", "close"} | headers], body)
    answer = read_all(socket, "")
    :gen_tcp.close(socket)
    parse(answer)
  end

  @doc "Sends a request and leaves the socket open."
  def open(port, method, path, headers, body) do
    lines = for {name, value} <- headers, do: [name, ": ", value, "\r\n"]

    host =
      if List.keymember?(headers, "host", 0), do: [], else: ["host: 127.0.0.1:#{port}\r\n"]

    raw(port, [
      [method, " ", path, " HTTP/1.1\r\n", host, lines],
      ["content-length: #{byte_size(body)}\r\n\r\n", body]
    ])
  end

  @doc "Sends these bytes."
  def raw(port, bytes) do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    # A server may have answered and closed before it has read all of it.
    _sent = :gen_tcp.send(socket, bytes)
    socket
  end

  @doc "What has come so far, once it has that text in it."
  def read_until(socket, text, read \\ "") do
    if read =~ text do
      read
    else
      {:ok, more} = :gen_tcp.recv(socket, 0, @wait_ms)
      read_until(socket, text, read <> more)
    end
  end

  @doc "All until the server closes."
  def read_all(socket, read \\ "") do
    case :gen_tcp.recv(socket, 0, @wait_ms) do
      {:ok, more} -> read_all(socket, read <> more)
      {:error, reason} when reason in [:closed, :econnreset] -> read
    end
  end

  @doc "Status, headers, and the body, decoded if it is JSON."
  def parse(answer) do
    [head, body] = String.split(answer, "\r\n\r\n", parts: 2)

    ["HTTP/1." <> <<_minor, " ", status::binary-size(3), _::binary>> | lines] =
      String.split(head, "\r\n")

    headers =
      for line <- lines, into: %{} do
        [name, value] = String.split(line, ":", parts: 2)
        {String.downcase(name), String.trim(value)}
      end

    {String.to_integer(status), headers, decoded(headers, dechunked(headers, body))}
  end

  defp dechunked(%{"transfer-encoding" => "chunked"}, body), do: chunks(body)
  defp dechunked(_headers, body), do: body

  defp chunks(body) do
    with [size, rest] <- String.split(body, "\r\n", parts: 2),
         {bytes, _extension} when bytes > 0 <- Integer.parse(size, 16) do
      <<chunk::binary-size(^bytes), "\r\n", rest::binary>> = rest
      chunk <> chunks(rest)
    else
      _last -> ""
    end
  end

  defp decoded(%{"content-type" => "application/json" <> _}, body) when body != "",
    do: JSON.decode!(body)

  defp decoded(_headers, body), do: body
end
