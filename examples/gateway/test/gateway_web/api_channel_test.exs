defmodule GatewayWeb.ApiChannelTest do
  use ExUnit.Case, async: false
  import Phoenix.ChannelTest

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Structs.{FunConfig, Response}

  @endpoint GatewayWeb.Endpoint

  # Functions of the service run on other nodes; what a gateway does with any function can be
  # tested with one that runs here.
  setup do
    user = "user-#{System.unique_integer([:positive])}"
    on_exit(fn -> ConfigDb.delete("test", "upcase") end)
    register([])
    {:ok, socket} = connect(GatewayWeb.UserSocket, %{"user" => user})
    {:ok, _reply, socket} = subscribe_and_join(socket, "api:console")
    %{socket: socket, user: user}
  end

  defp register(fields) do
    config = %FunConfig{
      service: "test",
      request_type: "upcase",
      nodes: :local,
      mfa: {String, :upcase, []},
      arg_types: [{"text", {:string, 5}}]
    }

    :ok = ConfigDb.add(struct!(config, fields))
  end

  defp request(args, fields \\ %{}) do
    Map.merge(
      %{"service" => "test", "request_type" => "upcase", "request_id" => "r1", "args" => args},
      fields
    )
  end

  test "a request is replied to with a response", %{socket: socket} do
    ref = push(socket, "api", request(%{"text" => "tea"}))
    assert_reply ref, :ok, %Response{request_id: "r1", success: true, result: "TEA"}
  end

  test "a refused argument is an error reply", %{socket: socket} do
    ref = push(socket, "api", request(%{"text" => "coffee"}))
    assert_reply ref, :error, %Response{error: "argument validation failed"}
  end

  test "the user is the socket's, whatever a request claims", %{socket: socket, user: user} do
    register(arg_types: [{"text", :string}], check_permission: {:arg, "text"})
    ref = push(socket, "api", request(%{"text" => user}))
    assert_reply ref, :ok, %Response{success: true}

    ref = push(socket, "api", request(%{"text" => "root"}, %{"user_id" => "root"}))
    assert_reply ref, :error, %Response{error: "Permission denied"}
  end

  test "an async result is pushed", %{socket: socket} do
    register(response_type: :async)
    ref = push(socket, "api", request(%{"text" => "tea"}))
    assert_reply ref, :ok, %Response{async: true}
    assert_push "api", %Response{request_id: "r1", async: false, result: "TEA"}
  end

  test "a limit of the config denies the fourth purchase", %{socket: socket} do
    # A request for a function that is not there counts as well.
    ref = push(socket, "api", request(%{}, %{"service" => "shop", "request_type" => "buy"}))
    assert_reply ref, :error, %Response{error: "unsupported function: buy version latest"}

    :ok =
      ConfigDb.add(%FunConfig{
        service: "shop",
        request_type: "buy",
        nodes: :local,
        mfa: {DateTime, :utc_now, []}
      })

    on_exit(fn -> ConfigDb.delete("shop", "buy") end)
    buy = request(%{}, %{"service" => "shop", "request_type" => "buy"})

    for _ <- 1..2 do
      ref = push(socket, "api", buy)
      assert_reply ref, :ok, %Response{success: true}
    end

    ref = push(socket, "api", buy)
    assert_reply ref, :error, %Response{error: "Rate limit exceeded." <> _, result: details}
    assert %{"retry_after_ms" => wait} = details
    assert wait in 1..10_000
  end

  test "the channel's own event lists the functions", %{socket: socket} do
    ref = push(socket, "functions", %{})
    assert_reply ref, :ok, %{functions: functions}
    assert function = Enum.find(functions, &(&1.service == "test"))
    assert %{request_type: "upcase", arguments: ["text: {:string, 5}"]} = function
  end

  test "a change of the functions is announced" do
    :ok = ConfigDb.delete("test", "upcase")
    assert_broadcast "functions_changed", %{}
  end

  test "a name is needed to connect" do
    assert :error = connect(GatewayWeb.UserSocket, %{})
    assert :error = connect(GatewayWeb.UserSocket, %{"user" => ""})
  end
end
