defmodule Demo.Streams do
  # Functions that answer with many frames, what ends them, and what holds them back.
  @moduledoc false

  import Demo.Run

  alias Demo.{Client, Nodes, ServiceA}

  @items 10_000
  # Some 2,000 fit into the mailboxes between the function and the client: the channel's, and that
  # of the request's process.
  @made 1_000..3_000

  def play(run) do
    run
    |> heading("Functions answer with streams")
    |> step(
      "each item of a list as a frame of its own, and one that ends the stream",
      request("books", "titles", %{}),
      [opened(), item("Dune"), item("Emma"), item("Ulysses"), ended()],
      ["service_a"]
    )
    |> cancelled()
    |> held_back()
  end

  defp cancelled(run) do
    id = next_id(run)

    run
    |> step(
      "a feed that is open for as long as the client wishes",
      request("books", "sales", %{}),
      [opened()],
      ["service_a"]
    )
    |> sale(id)
    |> cancel(id)
    |> event("another book is sold", :ok, fn -> sell("Emma") end)
    |> await("service_a has ended the function", nil, fn ->
      :erpc.call(Nodes.service_a(), Process, :whereis, [ServiceA.Sales], 5_000)
    end)
    |> step(
      "of that sale the client hears nothing: what he gets next is the answer to his next request",
      request("local", "add", %{"a" => 1, "b" => 2, "c" => 3}),
      [result(6)],
      ["gateway"]
    )
  end

  defp sale(run, id) do
    began = now()
    :ok = sell("Dune")
    frames = frames(1, began)

    check(
      run,
      "a book is sold",
      Enum.map(frames, &received/1),
      compare([of(item("Dune"), id)], seen(frames)) ++ leaks(run, frames)
    )
  end

  defp cancel(run, id) do
    json = Client.object(request_id: id, cancel: true)
    began = now()
    Client.send(run.clients.ann, next_id(run), json)
    frames = frames(2, began)
    confirmed = {:ok, %{"request_id" => id, "cancelled" => true}}

    # Two processes send these.
    check(
      run,
      "the client cancels it",
      [sent(json) | Enum.map(frames, &received/1)],
      compare(Enum.sort([confirmed, of(ended(), id)]), frames |> seen() |> Enum.sort()) ++
        leaks(run, frames)
    )
  end

  defp held_back(run) do
    id = next_id(run)
    members = request("books", "catalogue", %{"items" => @items})
    json = Client.object([{:request_id, id} | members])
    began = now()
    Client.send(run.clients.ann, id, json)
    Client.stall(run.clients.ann)
    made = settled(@made.first, &made/0)
    at = now() - began
    Client.resume(run.clients.ann)
    frames = frames(@items + 2, began)
    took = now() - began
    ran = ran(1)

    wanted = [opened()] ++ Enum.map(1..@items, &item/1) ++ [ended()]

    check(
      run,
      "a channel that is busy holds a function back that could make #{@items} items at once",
      [
        sent(json),
        happened(at, "the channel is busy: the function waits after #{made} items"),
        happened(took, "the channel goes on: the client gets #{length(frames)} frames"),
        ran_on(ran)
      ],
      if(made in @made, do: [], else: [{"#{inspect(@made)} items", "#{made}"}]) ++
        compare(Enum.map(wanted, &of(&1, id)), seen(frames)) ++
        compare_nodes(["service_a"], ran) ++ leaks(run, frames)
    )
  end

  defp sell(title) do
    send({ServiceA.Sales, Nodes.service_a()}, {:sold, title})
    :ok
  end

  defp made, do: :erpc.call(Nodes.service_a(), ServiceA, :made, [], 5_000)

  defp of({kind, fields}, id), do: {kind, Map.put(fields, "request_id", id)}
  defp seen(frames), do: for({_at, kind, json} <- frames, do: {kind, JSON.decode!(json)})
end
