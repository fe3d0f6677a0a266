defmodule Demo.Scenario do
  # The steps of the demo, and the answers that its clients have to get.
  @moduledoc false

  import Demo.Run

  alias Demo.{Client, Nodes, Outage, ServiceA, Streams}
  alias PhoenixGenApi.{Config, ConfigDb, ConfigPuller, Service}
  alias PhoenixGenApi.Structs.FunConfig

  @isbn "9780441172719"
  @dune %{"isbn" => @isbn, "title" => "Dune", "printed" => "1965-08-01"}
  @at "2026-01-01T00:00:00Z"

  def play(run) do
    run
    |> registration()
    |> answers()
    |> rejections()
    |> changes()
    |> Streams.play()
    |> Outage.play()
    |> death_of_a_node()
  end

  defp registration(run) do
    run
    |> heading("Functions are registered")
    |> await(
      ~s(service_a offers "books", and the gateway has them),
      {[Nodes.service_a()],
       [
         "broken",
         "catalogue",
         "find",
         "order",
         "remove",
         "reserve",
         "sales",
         "titles",
         "visited"
       ]},
      fn -> {Map.keys(Service.nodes("books")), functions("books")} end
    )
    |> await("so has gateway_2", [[Nodes.service_a()]], fn ->
      Node.connect(Nodes.gateway_2())

      for nodes <- Nodes.call([Nodes.gateway_2()], Service, :nodes, ["books"]),
          do: Map.keys(nodes)
    end)
    |> await(
      ~s(the gateway pulls "math" from service_b; service_a and service_b both run it),
      {"7", ["add", "desk", "slow", "volume"]},
      fn -> {ConfigPuller.get_service_version("math"), functions("math")} end
    )
    |> event(~s(code on the gateway adds "local", which runs on the gateway), [:ok, :ok], fn ->
      Enum.map([:add, :volume], &add_local/1)
    end)
  end

  defp functions(service),
    do: ConfigDb.get_all_functions() |> Map.get(service, %{}) |> Map.keys() |> Enum.sort()

  defp add_local(function) do
    ConfigDb.add(%FunConfig{
      service: "local",
      request_type: Atom.to_string(function),
      nodes: :local,
      mfa: {Demo.Math, function, []},
      arg_types: [{"a", :integer}, {"b", :integer}, {"c", :integer}]
    })
  end

  defp answers(run) do
    order = order(2)

    run
    |> heading("A client sends requests")
    |> step("sync", find("1.0.0"), [result(@dune)], ["service_a"])
    |> step(
      "two versions side by side: 2.0.0 has one more argument, with a default",
      find("2.0.0"),
      [result(%{"isbn" => @isbn, "lang" => "en"})],
      ["service_a"]
    )
    |> step(
      "sync, on the gateway itself",
      request("local", "add", %{"a" => 1, "b" => 2, "c" => 3}),
      [result(6)],
      ["gateway"]
    )
    |> step(
      "async: acknowledged, then pushed; the function is told the user of the socket",
      books("reserve") ++ [user_id: "root"],
      [acknowledged(), pushed([@isbn, "main", "ann"])],
      ["service_a"]
    )
    |> step(
      "none: the function runs, the client hears no more of it",
      books("visited"),
      [only_the_id()],
      ["service_a"]
    )
    |> step(
      "nested arguments",
      request("books", "order", %{order: order}),
      [result(order)],
      ["service_a"]
    )
  end

  defp rejections(run) do
    bad_order = request("books", "order", %{order: order(12)})

    too_many = %{
      "details" => [%{"path" => "order.lines[0].qty", "rule" => "max", "limit" => 9}]
    }

    run
    |> heading("The gateway refuses")
    |> step(
      "wrong argument",
      bad_order,
      [failure("argument validation failed", "invalid_arguments", too_many)],
      []
    )
    |> event("detail_error is switched on", :ok, fn -> detail_error(true) end)
    |> step(
      "wrong argument, with its path",
      bad_order,
      [
        failure(
          ~s(argument validation failed: invalid argument value for "order.lines[0].qty", must be at most 9),
          "invalid_arguments",
          too_many
        )
      ],
      []
    )
    |> event("detail_error is switched off", :ok, fn -> detail_error(false) end)
    |> step(
      "missing permission, whatever the payload claims",
      books("remove") ++ [user_roles: ["admin"]],
      [failure("Permission denied", "forbidden")],
      []
    )
    |> step(
      "the same from a user whose socket has the role",
      books("remove"),
      [result(%{"removed" => @isbn})],
      ["service_a"],
      :root
    )
    |> step(
      "unknown function",
      books("burn"),
      [failure("unsupported function: burn version latest", "unknown_function")],
      []
    )
    |> step(
      "no request at all",
      [service: "books", args: 5],
      [failure("Invalid request: Missing required fields: request_type", "invalid_request")],
      []
    )
    |> step(
      "a function that raises \"database password is hunter2\"",
      books("broken"),
      [failure("Internal Server Error", "internal", ran?("yes"))],
      ["service_a"]
    )
  end

  defp changes(run) do
    run
    |> heading("Functions change while the gateway runs")
    |> event("the operator disables find 2.0.0", :ok, fn ->
      ConfigDb.disable("books", "find", "2.0.0")
    end)
    |> step(
      "disabled version",
      find("2.0.0"),
      [failure("disabled function: find version 2.0.0", "disabled_function")],
      []
    )
    |> step(
      "without a version the highest enabled one answers",
      books("find"),
      [result(@dune)],
      ["service_a"]
    )
    |> event("the operator enables find 2.0.0", :ok, fn ->
      ConfigDb.enable("books", "find", "2.0.0")
    end)
    |> step(
      "an API that is not there yet",
      request("books", "count", %{}),
      [failure("unsupported function: count version latest", "unknown_function")],
      []
    )
    |> event("service_a stops, and offers one function more when it is back", :ok, &upgrade/0)
    |> step("the same request", request("books", "count", %{}), [result(3)], ["service_a"])
  end

  defp upgrade, do: :erpc.call(Nodes.service_a(), ServiceA, :upgrade, [], 10_000)

  defp death_of_a_node(run) do
    run
    |> heading("A service node dies")
    |> spread(~s(20 requests to "math", round robin), %{"service_a" => 10, "service_b" => 10})
    |> kill()
    |> step(
      "the client sends the failed one again",
      request("math", "slow", %{text: "done"}),
      [result("done")],
      ["service_b"]
    )
    |> spread(~s(20 requests to "math": the traffic has moved), %{"service_b" => 20})
    |> step(
      ~s("books" has no other node),
      books("find"),
      [failure("No service node available", "unavailable", can_retry("no"))],
      []
    )
  end

  # Two requests are running, one on each node, when one of the nodes is killed. Which of them
  # runs where is up to the round robin.
  defp kill(run) do
    process = :erpc.call(Nodes.service_a(), System, :pid, [], 5_000)
    id = next_id(run)

    requests =
      for letter <- ["a", "b"] do
        Client.object([
          {:request_id, id <> letter} | request("math", "slow", %{text: "done"})
        ])
      end

    began = now()
    Enum.each(requests, &Client.send(run.clients.ann, id, &1))
    ran = ran(2)
    killed = now() - began
    {_output, 0} = System.cmd("kill", ["-9", process])
    frames = frames(2, began)

    wanted = [
      failure("Service temporarily unavailable", "unavailable", can_retry("unknown")),
      {:ok, success("done")}
    ]

    seen =
      for {_at, kind, json} <- frames, do: {kind, Map.delete(JSON.decode!(json), "request_id")}

    check(
      run,
      "two requests run, one on each node, and service_a is killed: one of them fails",
      Enum.map(requests, &sent/1) ++
        [happened(killed, "kill -9 #{process} (service_a)")] ++
        Enum.map(frames, &received/1) ++ [ran_on(ran)],
      compare(wanted, seen) ++
        compare_nodes(["service_a", "service_b"], ran) ++ leaks(run, frames)
    )
  end

  defp spread(run, title, shares) do
    id = next_id(run)
    began = now()

    frames =
      for n <- 1..20 do
        ref = "#{id}.#{n}"

        json =
          Client.object([
            {:request_id, ref} | request("math", "add", %{"a" => n, "b" => n, "c" => n})
          ])

        {kind, json} = Client.call(run.clients.ann, ref, json)
        {now() - began, kind, json}
      end

    took = now() - began
    ran = 20 |> ran() |> Enum.frequencies()
    sums = for {_at, kind, json} <- frames, do: {kind, JSON.decode!(json)["result"]}
    wanted = for n <- 1..20, do: {:ok, 3 * n}
    right = Enum.zip(sums, wanted) |> Enum.count(fn {sum, wanted} -> sum == wanted end)
    counts = Enum.map_join(Enum.sort(ran), ", ", fn {node, count} -> "#{count} on #{node}" end)

    check(
      run,
      title,
      [happened(took, "#{right} right answers; #{counts}")],
      compare(wanted, sums) ++ compare_nodes(shares, ran) ++ leaks(run, frames)
    )
  end

  defp find(version), do: books("find") ++ [version: version]
  defp books(type), do: request("books", type, %{isbn: @isbn})
  defp order(quantity), do: %{"at" => @at, "lines" => [%{"isbn" => @isbn, "qty" => quantity}]}

  defp detail_error(value) do
    settings = Application.get_env(:phoenix_gen_api, :gen_api)
    settings = Keyword.put(settings, :detail_error, value)
    Application.put_env(:phoenix_gen_api, :gen_api, settings)
    Config.reload()
  end
end
