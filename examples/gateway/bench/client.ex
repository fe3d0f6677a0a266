defmodule Bench.Client do
  @moduledoc false
  # A client on bare TCP, in a VM of its own: one frame out, one frame back. Frames are made
  # beforehand and replies only looked at as far as their end, so that most of the time that is
  # measured is the server's.

  @doc "A request on an event, as the WebSocket frame that latency/3 and throughput/4 send."
  def request(channel, event, payload), do: frame(["1", "2", channel <> ":1", event, payload])

  @doc "The reply to one request, decoded: to see that two ways do the same."
  def reply(port, channel, frame) do
    tcp = connect(port, channel)
    [_join_ref, _ref, _topic, "phx_reply", reply] = tcp |> exchange(frame) |> JSON.decode!()
    :gen_tcp.close(tcp)
    reply
  end

  @doc "Times of single requests on one socket, in ns: frames take turns, one list per frame."
  def latency(port, frames, count) do
    tcp = connect(port, "api")
    for _ <- 1..500, frame <- frames, do: exchange(tcp, frame)
    rounds = for n <- 1..count, do: timed_round(tcp, frames, rem(n, 2) == 0)
    :gen_tcp.close(tcp)
    Enum.zip_with(rounds, & &1)
  end

  defp timed_round(tcp, frames, true), do: Enum.map(frames, &timed(tcp, &1))

  defp timed_round(tcp, frames, false),
    do: frames |> Enum.reverse() |> Enum.map(&timed(tcp, &1)) |> Enum.reverse()

  defp timed(tcp, frame) do
    began = System.monotonic_time()
    exchange(tcp, frame)
    System.convert_time_unit(System.monotonic_time() - began, :native, :nanosecond)
  end

  @doc "Requests per second over so many sockets, each with one request at a time: rounds of one rate per frame."
  def throughput(port, frames, sockets, rounds, ms) do
    parent = self()
    workers = for _ <- 1..sockets, do: spawn_link(fn -> work(connect(port, "api"), parent) end)
    for worker <- workers, do: receive(do: ({:ready, ^worker} -> :ok))
    for frame <- frames, do: rate(workers, frame, div(ms, 2))

    rates =
      for n <- 1..rounds do
        if rem(n, 2) == 0,
          do: Enum.map(frames, &rate(workers, &1, ms)),
          else: frames |> Enum.reverse() |> Enum.map(&rate(workers, &1, ms)) |> Enum.reverse()
      end

    for worker <- workers, do: send(worker, :stop)
    rates
  end

  defp rate(workers, frame, ms) do
    began = System.monotonic_time(:millisecond)
    for worker <- workers, do: send(worker, {:go, frame, began + ms})
    counts = for worker <- workers, do: receive(do: ({:done, ^worker, count} -> count))
    Enum.sum(counts) * 1000 / (System.monotonic_time(:millisecond) - began)
  end

  defp work(tcp, parent) do
    send(parent, {:ready, self()})
    serve(tcp, parent)
  end

  defp serve(tcp, parent) do
    receive do
      {:go, frame, until} ->
        send(parent, {:done, self(), exchanges(tcp, frame, until, 0)})
        serve(tcp, parent)

      :stop ->
        :gen_tcp.close(tcp)
    end
  end

  defp exchanges(tcp, frame, until, count) do
    exchange(tcp, frame)

    if System.monotonic_time(:millisecond) < until,
      do: exchanges(tcp, frame, until, count + 1),
      else: count + 1
  end

  @doc "Opens sockets, each with a request if there is a frame; `close/1` ends them."
  def open(port, channel, frame, sockets) do
    parent = self()

    spawn(fn ->
      opened = for _ <- 1..sockets, do: connect(port, channel)
      if frame, do: Enum.each(opened, &exchange(&1, frame))
      send(parent, {:open, self()})
      receive do: (:close -> Enum.each(opened, fn tcp -> :gen_tcp.close(tcp) end))
    end)

    receive do: ({:open, pid} -> pid)
  end

  @doc "Opens sockets that count the frames they get; `heard/2` waits until each has so many more."
  def listen(port, channel, sockets) do
    parent = self()

    spawn(fn ->
      listeners =
        for _ <- 1..sockets do
          spawn_link(fn ->
            tcp = connect(port, channel)
            send(parent, {:listens, self()})
            hear(tcp, "", 0)
          end)
        end

      send(parent, {:listeners, self(), listeners})
      receive do: (:close -> exit(:shutdown))
    end)

    receive do
      {:listeners, pid, listeners} ->
        for listener <- listeners, do: receive(do: ({:listens, ^listener} -> :ok))
        {pid, listeners}
    end
  end

  def heard({_pid, listeners}, frames) do
    for listener <- listeners, do: send(listener, {:until, self(), frames})
    for listener <- listeners, do: receive(do: ({:heard, ^listener} -> :ok))
    :ok
  end

  defp hear(tcp, got, count) do
    receive do
      {:until, from, frames} -> hear(tcp, got, count, frames, from)
    end
  end

  defp hear(tcp, got, count, frames, from) when count >= frames do
    send(from, {:heard, self()})
    hear(tcp, got, count - frames)
  end

  defp hear(tcp, got, count, frames, from) do
    {:ok, bytes} = :gen_tcp.recv(tcp, 0)
    {more, rest} = frames(got <> bytes, 0)
    hear(tcp, rest, count + more, frames, from)
  end

  defp frames(<<129, 126, size::16, _data::binary-size(size), rest::binary>>, count),
    do: frames(rest, count + 1)

  defp frames(<<129, size, _data::binary-size(size), rest::binary>>, count) when size < 126,
    do: frames(rest, count + 1)

  defp frames(rest, count), do: {count, rest}

  def close(pid) do
    send(pid, :close)
    :ok
  end

  defp connect(port, channel) do
    options = [:binary, active: false, nodelay: true, buffer: 1_024]
    {:ok, tcp} = :gen_tcp.connect({127, 0, 0, 1}, port, options)

    :ok =
      :gen_tcp.send(tcp, """
      GET /bench/websocket?vsn=2.0.0 HTTP/1.1\r
      Host: localhost\r
      Connection: Upgrade\r
      Upgrade: websocket\r
      Sec-WebSocket-Version: 13\r
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
      \r
      """)

    "HTTP/1.1 101" <> _ = head(tcp, "")

    reply =
      exchange(
        tcp,
        frame(["1", "1", channel <> ":1", "phx_join", %{"padding" => String.duplicate("x", 126)}])
      )

    true = reply =~ ~s("status":"ok")
    tcp
  end

  defp head(tcp, got) do
    if String.ends_with?(got, "\r\n\r\n") do
      got
    else
      {:ok, byte} = :gen_tcp.recv(tcp, 1)
      head(tcp, got <> byte)
    end
  end

  # A mask of zeros leaves the data as it is. Every message has between 126 and 65,535 bytes.
  defp frame(message) do
    data = JSON.encode!(message)
    <<1::1, 0::3, 1::4, 1::1, 126::7, byte_size(data)::16, 0::32, data::binary>>
  end

  defp exchange(tcp, frame) do
    :ok = :gen_tcp.send(tcp, frame)
    receive_frame(tcp, "")
  end

  defp receive_frame(tcp, got) do
    {:ok, bytes} = :gen_tcp.recv(tcp, 0)

    case got <> bytes do
      <<129, 126, size::16, data::binary-size(size)>> -> data
      <<129, size, data::binary-size(size)>> when size < 126 -> data
      incomplete -> receive_frame(tcp, incomplete)
    end
  end
end
