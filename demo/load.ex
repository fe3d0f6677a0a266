defmodule Demo.Load do
  # 50,000 requests through channels, counted, checked and timed.
  #
  # One client sends 40,000, each after the answer to the one before. What the gateway adds is
  # seen against bare calls of the same function, made in turn with the requests, in blocks, so
  # that whatever else the machine is doing meets all alike. Then eight clients send 10,000 at
  # once.
  @moduledoc false

  import Demo.Run

  alias Demo.{Client, Nodes}
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Structs.Response

  @ways [:bare, :executor, :channel]
  @blocks 40
  @block 500
  @clients 8
  @per_client 625
  @patience 60_000

  def play(run) do
    run
    |> heading(
      "50,000 sync requests to a function of three arguments, every answer checked",
      "The gateway's own share is the median time of a request less that of a bare call, made in turn."
    )
    |> one_client("local")
    |> one_client("math")
    |> many_clients("local")
    |> many_clients("math")
  end

  defp one_client(run, service) do
    # What is slow only once is not measured.
    Enum.each(@ways, &isolated(fn -> block(service, &1, 1..@block) end))

    blocks =
      for n <- 1..@blocks, way <- rotated(n), reduce: %{} do
        blocks ->
          block = isolated(fn -> block(service, way, 1..@block) end)
          Map.update(blocks, way, [block], &[block | &1])
      end

    times = Map.new(blocks, fn {way, blocks} -> {way, Enum.flat_map(blocks, &elem(&1, 0))} end)

    rows =
      for way <- @ways, do: row(name(service, way), times[way], times[way], share(way, times))

    title =
      "#{place(service)}, one client: #{number(@blocks * @block)} requests, one after the other"

    check(run, title, [header("the gateway's own share") | rows], mistakes(blocks))
  end

  defp rotated(n) do
    {last, first} = Enum.split(@ways, rem(n, length(@ways)))
    first ++ last
  end

  defp many_clients(run, service) do
    began = now()

    blocks =
      for(_ <- 1..@clients, do: async(fn -> block(service, :channel, 1..@per_client) end))
      |> Enum.map(&await/1)

    took = now() - began
    times = Enum.flat_map(blocks, &elem(&1, 0))
    title = "#{place(service)}, #{@clients} clients at once: #{number(length(times))} requests"
    row = row(name(service, :channel), times, [took], "")
    check(run, title, [header(""), row], mistakes(%{channel: blocks}))
  end

  defp mistakes(blocks) do
    for {way, blocks} <- blocks,
        wrong = blocks |> Enum.map(&elem(&1, 1)) |> Enum.sum(),
        wrong > 0 do
      {"only right answers", "#{wrong} wrong ones (#{way})"}
    end
  end

  # The times of these calls and the number of wrong answers.
  defp block(service, way, numbers) do
    {prepare, call, result} = caller(service, way)

    {times, right} =
      Enum.unzip(
        for n <- numbers do
          prepared = prepare.(n)
          began = now()
          answer = call.(prepared)
          time = now() - began
          {time, result.(answer) == n * 2 * 3}
        end
      )

    {times, Enum.count(right, &(not &1))}
  end

  # What is prepared for the n-th call, the call, and the result in its answer.
  defp caller("local", :bare), do: {&[&1, 2, 3], &bare_local/1, & &1}
  defp caller("math", :bare), do: {&[&1, 2, 3], &bare_remote/1, & &1}

  defp caller(service, :executor),
    do: {&params(service, &1), &Executor.execute_params!/1, &executed/1}

  defp caller(service, :channel) do
    channel = Client.connect(%{user_id: "ann"})
    {&(service |> params(&1) |> JSON.encode!()), &Client.call(channel, "1", &1), &replied/1}
  end

  defp bare_local(arguments) do
    {pid, monitor} =
      spawn_monitor(fn -> exit({:result, apply(Demo.Math, :volume, arguments)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:result, result}} -> result
    end
  end

  defp bare_remote(arguments),
    do: :erpc.call(Nodes.service_b(), Demo.Math, :volume, arguments, 5_000)

  defp params(service, n) do
    %{
      "request_id" => Integer.to_string(n),
      "service" => service,
      "request_type" => "volume",
      "args" => %{"a" => n, "b" => 2, "c" => 3}
    }
  end

  defp executed(%Response{success: true, result: result}), do: result
  defp executed(_failure), do: nil

  defp replied({:ok, json}), do: JSON.decode!(json)["result"]
  defp replied(_failure), do: nil

  # In a process without a past: nobody's garbage is collected on another's time.
  defp isolated(fun), do: fun |> async() |> await()

  defp async(fun), do: spawn_monitor(fn -> exit({:result, fun.()}) end)

  defp await({pid, monitor}) do
    receive do
      {:DOWN, ^monitor, :process, ^pid, {:result, result}} -> result
      {:DOWN, ^monitor, :process, ^pid, reason} -> exit(reason)
    after
      @patience -> exit(:timeout)
    end
  end

  defp place("local"), do: "local"
  defp place("math"), do: "remote, on service_b"

  defp name("local", :bare), do: "a bare process"
  defp name("math", :bare), do: "a bare :erpc.call"
  defp name(_service, :executor), do: "Executor"
  defp name(_service, :channel), do: "channel, JSON to JSON"

  defp header(last), do: cells(["", "p50", "p99", "per second", last])

  defp row(name, times, elapsed, last) do
    rate = length(times) * 1_000_000_000 / nanoseconds(Enum.sum(elapsed))
    cells([name, us(percentile(times, 50)), us(percentile(times, 99)), number(round(rate)), last])
  end

  defp share(:bare, _times), do: ""

  defp share(way, times) do
    whole = percentile(times[way], 50)
    own = whole - percentile(times.bare, 50)
    "#{us(own)}, #{round(100 * own / whole)} % of the request"
  end

  defp cells([name, p50, p99, rate, last]) do
    [
      "  ",
      String.pad_trailing(name, 22),
      Enum.map([p50, p99, rate], &String.pad_leading(&1, 12)),
      if(last == "", do: "", else: "   " <> last)
    ]
  end

  defp percentile(times, percent) do
    times |> Enum.sort() |> Enum.at(div(percent * (length(times) - 1), 100))
  end

  defp us(native), do: :erlang.float_to_binary(nanoseconds(native) / 1000, decimals: 1) <> " us"

  defp nanoseconds(native), do: System.convert_time_unit(native, :native, :nanosecond)

  defp number(n), do: n |> Integer.to_string() |> String.replace(~r/\B(?=(\d{3})+$)/, ",")
end
