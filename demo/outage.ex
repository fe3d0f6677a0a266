defmodule Demo.Outage do
  # A node that is connected and answers nothing.
  @moduledoc false

  import Demo.Run

  alias Demo.{Client, Nodes}
  alias PhoenixGenApi.NodeSelector

  @cooldown_ms 800
  @timed_out "Request timed out after 800ms"

  @doc "What the gateway is configured with: how long an open circuit waits before its probe."
  def cooldown_ms, do: @cooldown_ms

  def play(run) do
    process = :erpc.call(Nodes.service_a(), System, :pid, [], 5_000)

    run
    |> heading(
      "A service node hangs",
      "Two timeouts in a row open the circuit between a function and a node: the node is passed over."
    )
    |> signal("service_a stops, but stays connected", "STOP", process)
    |> await_timeouts()
    |> passed_over()
    |> signal("service_a goes on", "CONT", process)
    |> await("a request is let through as a probe, is answered, and closes the circuit", [], fn ->
      ask(run, next_id(run))
      circuits()
    end)
    |> shared()
  end

  defp signal(run, title, signal, process) do
    event(run, "#{title} (kill -#{signal} #{process})", :ok, fn ->
      {_output, 0} = System.cmd("kill", ["-" <> signal, process])
      :ok
    end)
  end

  defp await_timeouts(run) do
    id = next_id(run)
    requests = for letter <- ["a", "b", "c", "d"], do: json(id <> letter)
    began = now()
    Enum.each(requests, &Client.send(run.clients.ann, id, &1))
    frames = frames(4, began)
    well = {:ok, success("desk b")}
    hung = failure(@timed_out, "timeout", can_retry("unknown"))

    seen =
      for {_at, kind, json} <- frames, do: {kind, Map.delete(JSON.decode!(json), "request_id")}

    check(
      run,
      "four requests, two to each node: the circuit of service_a opens",
      Enum.map(requests, &sent/1) ++ Enum.map(frames, &received/1),
      compare(Enum.sort([well, well, hung, hung]), Enum.sort(seen)) ++
        compare([{"service_a", :open}], circuits()) ++ leaks(run, frames)
    )
  end

  # A machine that is very slow may get to the probe of the next cool-down.
  defp passed_over(run) do
    {answers, took} = twenty(run)
    wrong = Enum.count(answers, &(&1 != {:ok, "desk b"}))
    probes = div(System.convert_time_unit(took, :native, :millisecond), @cooldown_ms)

    check(
      run,
      "20 requests: none is sent to service_a",
      [happened(took, counted(answers))],
      if(wrong <= probes, do: [], else: [{"20 answers of desk b", counted(answers)}])
    )
  end

  defp shared(run) do
    {answers, took} = twenty(run)

    check(
      run,
      "20 requests: both nodes have their share again",
      [happened(took, counted(answers))],
      compare(%{{:ok, "desk a"} => 10, {:ok, "desk b"} => 10}, Enum.frequencies(answers))
    )
  end

  defp twenty(run) do
    id = next_id(run)
    began = now()
    answers = for n <- 1..20, do: ask(run, "#{id}.#{n}")
    {answers, now() - began}
  end

  defp ask(run, ref) do
    {kind, json} = Client.call(run.clients.ann, ref, json(ref))
    answer = JSON.decode!(json)
    {kind, answer["result"] || answer["error"]}
  end

  defp json(id), do: Client.object([{:request_id, id} | request("math", "desk", %{})])

  defp counted(answers) do
    answers
    |> Enum.frequencies()
    |> Enum.sort()
    |> Enum.map_join(", ", fn {{_kind, text}, count} -> ~s(#{count} times "#{text}") end)
  end

  defp circuits do
    for %{request_type: "desk", node: node, state: state} <- NodeSelector.circuits(),
        state != :closed,
        do: {Nodes.short(node), state}
  end
end
