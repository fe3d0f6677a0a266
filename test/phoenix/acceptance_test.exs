defmodule PhoenixGenApi.Phoenix.AcceptanceTest do
  # The acceptance script over real sockets: a client, Phoenix, and a service on another node.
  use ExUnit.Case, async: false

  import PhoenixGenApi.SocketClient, only: [join: 3, push: 4]

  alias PhoenixGenApi.{Await, ConfigDb, ConfigPuller, PhoenixGateway}
  alias PhoenixGenApi.{RateLimiter, SocketClient, WorkerPool}
  alias PhoenixGenApi.Structs.{FunConfig, ServiceConfig}
  alias PhoenixGenApi.Test.Cluster

  @moduletag :phoenix
  @moduletag :capture_log

  # Which servers and libraries there are is only known when the tests run.
  for server <- ["Bandit", "Cowboy"], library <- [JSON, Jason] do
    @tag server: server, json_library: library
    test "Q1 to Q17, with #{server} and #{inspect(library)}", context do
      case PhoenixGateway.start(context) do
        {:ok, port} -> requests(port, Cluster.node_name("books"))
        :not_installed -> :ok
      end
    end
  end

  defp start_books(name), do: Cluster.start_peer(name: name, app: [client_mode: true])

  defp register_books(name) do
    on_exit(fn ->
      ConfigPuller.delete(["books"])
      ConfigDb.delete("util", "up")
      RateLimiter.update_config(%{api_limits: []})
      RateLimiter.clear()
    end)

    :ok =
      ConfigPuller.add([
        %ServiceConfig{
          service: "books",
          nodes: [name],
          module: Books.Directory,
          function: :functions,
          args: [:gw]
        }
      ])

    :ok =
      RateLimiter.update_config(%{
        api_limits: [
          %{
            service: "books",
            request_type: "buy",
            key: :user_id,
            max_requests: 3,
            window_ms: 60_000
          }
        ]
      })

    :ok =
      ConfigDb.add(%FunConfig{
        service: :util,
        request_type: "up",
        nodes: :local,
        mfa: {String, :upcase, []},
        arg_types: %{"text" => {:string, 5}}
      })

    Await.until(fn -> ConfigDb.get_all_functions()["books"] end)
  end

  # A request on the socket, and its reply.
  defp request(client, type, args, fields \\ %{}) do
    request = %{
      "service" => "books",
      "request_type" => type,
      "request_id" => "r-#{type}",
      "args" => args
    }

    send_payload(client, Map.merge(request, fields))
  end

  defp send_payload(client, payload) do
    ref = push(client, "api:1", "api", payload)
    assert_receive {:reply, ^ref, status, response}
    {status, response}
  end

  defp pushed(%{id: id}, request_id) do
    assert_receive {:push, ^id, "api", %{"request_id" => ^request_id} = response}
    response
  end

  defp requests(port, name) do
    books = start_books(name)
    register_books(name)
    {client, _response} = join(port, "ann", "api:1")

    # The sample of the contract
    assert request(client, "find", %{"isbn" => "9780441"}, %{"version" => "1.0.0"}) ==
             {"ok",
              %{
                "request_id" => "r-find",
                "success" => true,
                "error" => nil,
                "async" => false,
                "has_more" => false,
                "can_retry" => false,
                "result" => %{"isbn" => "9780441", "title" => "Dune", "printed" => "1965-08-01"}
              }}

    # Q1
    assert {"ok", %{"result" => %{"isbn" => "1", "lang" => "en"}}} =
             request(client, "find", %{"isbn" => "1"})

    # Q2
    assert {"error", %{"error" => "unsupported function: find version 3.0.0"}} =
             request(client, "find", %{"isbn" => "1"}, %{"version" => "3.0.0"})

    # Q3
    assert {"error", %{"error" => "argument validation failed"}} =
             request(client, "find", %{"isbn" => "1", "lang" => "fr"})

    # Q4
    assert {"ok", %{"result" => ["ann"]}} = request(client, "mine", %{"user_id" => "ann"})
    denied = {"error", "Permission denied"}
    assert error(request(client, "mine", %{"user_id" => "bob"})) == denied

    assert error(request(client, "mine", %{"user_id" => "bob"}, %{"user_id" => "bob"})) == denied

    # Q5
    assert error(request(client, "wipe", %{}, %{"user_roles" => ["admin"]})) == denied

    # Q6
    assert {"ok", %{"async" => true, "result" => nil}} =
             request(client, "reserve", %{"isbn" => "1"})

    assert %{"async" => false, "result" => ["1", "main", "ann"]} = pushed(client, "r-reserve")

    # Q7
    order = fn qty ->
      %{
        "order" => %{
          "at" => "2026-01-01T00:00:00Z",
          "lines" => [%{"isbn" => "1", "qty" => qty}]
        }
      }
    end

    assert {"ok", %{"result" => %{"at" => "2026-01-01T00:00:00Z"}}} =
             request(client, "order", order.(2))

    # Q8
    detailed(fn ->
      assert error(request(client, "order", order.(12))) ==
               {"error",
                "argument validation failed: invalid argument value for " <>
                  ~s("order.lines[0].qty", must be at most 9)}
    end)

    # Q9: the error is compared as a whole
    assert error(request(client, "broken", %{"isbn" => "1"})) ==
             {"error", "Internal Server Error"}

    # Q10
    for _ <- 1..3 do
      assert error(request(client, "buy", %{"isbn" => "1"})) == {"error", "Out of stock"}
    end

    assert {"error", %{"error" => error, "can_retry" => true}} =
             request(client, "buy", %{"isbn" => "1"})

    [_, seconds] = Regex.run(~r/^Rate limit exceeded. Please retry after (\d+) seconds.$/, error)
    assert String.to_integer(seconds) in 1..60

    # Q11
    assert {"ok", %{"result" => "init", "has_more" => true}} =
             request(client, "pages", %{"from" => 1, "to" => 3})

    for page <- 1..3 do
      assert %{"result" => %{"page" => ^page}, "has_more" => true} = pushed(client, "r-pages")
    end

    assert %{"success" => true, "result" => nil, "has_more" => false} = pushed(client, "r-pages")

    # Q12
    assert {"ok", %{"result" => "init"}} = request(client, "countdown", %{"n" => 2})
    frames = for _ <- 1..3, do: pushed(client, "r-countdown")

    assert Enum.map(frames, &{&1["result"], &1["has_more"]}) == [
             {2, true},
             {1, true},
             {0, false}
           ]

    # Q13
    assert {"ok", %{"result" => "init"}} = request(client, "ticks", %{}, %{"request_id" => "t"})
    for _ <- 1..2, do: assert(%{"result" => "tick"} = pushed(client, "t"))

    assert send_payload(client, %{"request_id" => "t", "cancel" => true}) ==
             {"ok", %{"request_id" => "t", "cancelled" => true}}

    assert last_of(client, "t") == %{"success" => true, "result" => nil, "has_more" => false}

    # Q14
    {other, _response} = join(port, "ann", "api:1")
    assert {"ok", %{"result" => "init"}} = request(other, "ticks", %{})
    pushed(other, "r-ticks")
    assert WorkerPool.status(:stream_pool).busy_workers == 1
    SocketClient.close(other)
    Await.until(fn -> WorkerPool.status(:stream_pool).busy_workers == 0 end)

    # Q15
    for payload <- [[1, 2], %{}, %{"args" => 5}] do
      assert {"error", %{"error" => "Invalid request: " <> _}} = send_payload(client, payload)
    end

    # Q16
    up = &request(client, "up", %{"text" => &1}, %{"service" => "util"})
    assert {"ok", %{"result" => "HÉLLO"}} = up.("héllo")
    assert error(up.("toolong")) == {"error", "argument validation failed"}

    # Nothing that belongs to no request above has been pushed.
    refute_received {:push, _, _, _}

    # Q17
    :ok = Cluster.stop_peer(books)
    assert {"error", %{"error" => text, "can_retry" => true}} = request(client, "find", isbn())
    assert text in ["No service node available", "Service temporarily unavailable"]
    start_books(name)
    Await.until(fn -> match?({"ok", _}, request(client, "find", isbn())) end)
    %{id: id} = client
    refute_received {:closed, ^id}
  end

  defp isbn, do: %{"isbn" => "1"}

  defp error({status, %{"error" => error}}), do: {status, error}

  defp detailed(fun) do
    Application.put_env(:phoenix_gen_api, :detail_error, true)
    :ok = PhoenixGenApi.reload_config()
    fun.()
  after
    Application.delete_env(:phoenix_gen_api, :detail_error)
    :ok = PhoenixGenApi.reload_config()
  end

  # Ticks may be on their way until the stream has ended; none come after.
  defp last_of(client, id) do
    case pushed(client, id) do
      %{"has_more" => true} -> last_of(client, id)
      last -> Map.take(last, ["success", "result", "has_more"])
    end
  end
end
