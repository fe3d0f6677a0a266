defmodule Demo.Run do
  # One run of the demo: its clients, and the ways of doing something and checking what comes
  # of it. Every check is a numbered entry of the transcript.
  @moduledoc false

  alias Demo.{CallRecorder, Client, Nodes, Transcript}

  # The members of a response besides its request id. A failure has a code as well.
  @blank %{
    "success" => false,
    "result" => nil,
    "error" => nil,
    "async" => false,
    "has_more" => false,
    "can_retry" => false
  }

  # How long anything may take that is to happen.
  @patience 10_000
  # How many looks in a row find the same of what has come to rest.
  @still 10

  @enforce_keys [:transcript, :clients, :internals]
  defstruct @enforce_keys

  def new(transcript) do
    names = [Nodes.gateway(), Nodes.gateway_2(), Nodes.service_a(), Nodes.service_b()]

    %__MODULE__{
      transcript: transcript,
      clients: %{
        ann: Client.connect(%{user_id: "ann"}),
        root: Client.connect(%{user_id: "root", user_roles: ["admin"]})
      },
      # What no client may ever be told.
      internals:
        ["127.0.0.1", "hunter2", "Elixir.", "Demo.", "#PID", "noconnection", "nodedown", "erpc"] ++
          Enum.map(names, &Atom.to_string/1)
    }
  end

  def heading(run, text, note \\ nil),
    do: %{run | transcript: Transcript.heading(run.transcript, text, note)}

  @doc "A check: what to print below the title, and the problems found."
  def check(run, title, lines, problems),
    do: %{run | transcript: Transcript.check(run.transcript, title, lines, problems)}

  @doc "Something that is done, and what that is to give."
  def event(run, title, expected, action) do
    began = now()

    got =
      try do
        action.()
      catch
        kind, reason -> {kind, reason}
      end

    outcome(run, title, expected, got, now() - began)
  end

  @doc "Something that comes about by itself."
  def await(run, title, expected, look) do
    began = now()
    got = poll(expected, look, System.monotonic_time(:millisecond) + @patience)
    outcome(run, title, expected, got, now() - began)
  end

  @doc "A number that grows to `least` and more, once it no longer does."
  def settled(least, look),
    do: settled(least, look, 0, 0, System.monotonic_time(:millisecond) + @patience)

  defp settled(least, look, before, times, deadline) do
    number = look.()
    times = if number == before and number >= least, do: times + 1, else: 0

    if times == @still or System.monotonic_time(:millisecond) > deadline do
      number
    else
      Process.sleep(10)
      settled(least, look, number, times, deadline)
    end
  end

  @doc """
  A request, the frames it is to be answered with (`result/1` and so on), and the nodes that are
  to run a function for it.
  """
  def step(run, title, members, answers, nodes, client \\ :ann) do
    id = next_id(run)
    json = Client.object([{:request_id, id} | members])
    began = now()
    Client.send(run.clients[client], id, json)
    frames = frames(length(answers), began)
    ran = ran(length(nodes))

    wanted = for {kind, fields} <- answers, do: {kind, Map.put(fields, "request_id", id)}
    seen = for {_at, kind, json} <- frames, do: {kind, JSON.decode!(json)}

    check(
      run,
      title,
      [sent(json) | Enum.map(frames, &received/1)] ++ [ran_on(ran)],
      compare(wanted, seen) ++ compare_nodes(nodes, ran) ++ leaks(run, frames)
    )
  end

  def request(service, type, args), do: [service: service, request_type: type, args: args]

  def result(value), do: {:ok, success(value)}
  def acknowledged, do: {:ok, %{@blank | "success" => true, "async" => true}}
  def pushed(value), do: {:push, success(value)}
  def opened, do: {:ok, frame("init", true)}
  def item(value), do: {:push, frame(value, true)}
  def ended, do: {:push, frame(nil, false)}
  def only_the_id, do: {:ok, %{}}

  def failure(text, code, more \\ %{}),
    do: {:error, Map.merge(%{@blank | "error" => text}, Map.put(more, "code", code))}

  def success(value), do: %{@blank | "success" => true, "result" => value}

  @doc "For `failure/3`: whether the function ran, as far as the gateway knows."
  def ran?(answer), do: %{"details" => [%{"executed" => answer}]}

  @doc "The same of a failure that is worth another try."
  def can_retry(answer), do: Map.put(ran?(answer), "can_retry", true)

  defp frame(value, more?),
    do: %{@blank | "success" => true, "result" => value, "async" => true, "has_more" => more?}

  @doc "The id of the next check's request."
  def next_id(run), do: "r#{run.transcript.count + 1}"

  @doc "This many frames, and any that came besides: `{time since began, kind, json}`."
  def frames(count, began) do
    case Client.receive_frame(if(count > 0, do: @patience, else: 0)) do
      {kind, json} -> [{now() - began, kind, json} | frames(count - 1, began)]
      :nothing -> []
    end
  end

  @doc "The nodes that ran a function since the last time, by their short names."
  def ran(expected), do: expected |> CallRecorder.ran() |> Enum.map(&Nodes.short/1)

  def sent(json), do: ">                   " <> json

  def received({at, kind, json}),
    do: "< #{Transcript.ms(at)}  #{String.pad_trailing(to_string(kind), 5)}  #{json}"

  def happened(at, text), do: "  #{Transcript.ms(at)}  #{text}"

  def ran_on([]), do: "  no function ran"
  def ran_on(nodes), do: "  ran on #{Enum.join(nodes, " and ")}"

  @doc "A problem, unless both are the same nodes."
  def compare_nodes(expected, ran), do: compare({:ran_on, expected}, {:ran_on, ran})

  @doc "A problem, unless both are equal."
  def compare(same, same), do: []
  def compare(expected, got), do: [{shown(expected), shown(got)}]

  @doc "The frames that tell a client what is none of its business."
  def leaks(run, frames) do
    for {_at, _kind, json} <- frames, secret <- run.internals, json =~ secret do
      {"nothing about the inside", "#{inspect(secret)} in a frame"}
    end
  end

  def now, do: System.monotonic_time()

  defp outcome(run, title, expected, got, took) do
    lines = if got == :ok, do: [], else: [happened(took, shown(got))]
    check(run, title, lines, compare(expected, got))
  end

  defp shown(term), do: inspect(term, limit: 100, printable_limit: 500, width: :infinity)

  defp poll(expected, look, deadline) do
    got = look.()

    if got == expected or System.monotonic_time(:millisecond) > deadline do
      got
    else
      Process.sleep(10)
      poll(expected, look, deadline)
    end
  end
end
