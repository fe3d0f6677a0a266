defmodule PhoenixGenApi.TestingTest do
  use ExUnit.Case, async: true

  import PhoenixGenApi.Testing

  alias PhoenixGenApi.{Await, ConfigDb, Security}
  alias PhoenixGenApi.Structs.{FunConfig, Response, StreamHelper}

  @moduletag :capture_log

  defmodule Prices do
    use PhoenixGenApi.Service, service: "shop", check_permission: :any_authenticated

    @api version: "1.0.0"
    @spec price(item :: String.t(), quantity :: 1..99) :: {:ok, map()}
    def price(item, quantity), do: {:ok, %{item: item, total: quantity * 5}}

    @api check_permission: false
    @spec ping() :: String.t()
    def ping, do: "pong"

    @api response_type: :stream, check_permission: false
    @spec count(to :: pos_integer()) :: term()
    def count(to), do: 1..to
  end

  @tea %{"item" => "tea", "quantity" => 3}

  test "a service of a test has a name of its own and the declared functions" do
    one = service("shop", apis: [Prices])
    other = service("shop", apis: [Prices])
    assert one != other and String.starts_with?(one, "shop-")

    assert %Response{success: true, result: %{total: 15}} =
             call(one, "price", @tea, user_id: "ann")

    assert %{code: "unauthenticated"} = call(one, "price", @tea)
    assert %{code: "invalid_arguments"} = call(one, "price", %{"item" => 1}, user_id: "ann")
    assert %{result: "pong"} = call(one, "ping")
    assert %{code: "unknown_function"} = call(one, "ping", %{}, version: "9.0.0")
  end

  test "a service takes functions that are written by hand" do
    up = %FunConfig{
      request_type: "up",
      mfa: {String, :upcase, []},
      arg_types: %{"text" => :string}
    }

    util = service(:util, functions: [up])
    assert %{result: "HI"} = call(util, "up", %{"text" => "hi"})
  end

  test "a service without functions of its name is a mistake" do
    assert_raise ArgumentError, ~r/have no functions of "books", but of \["shop"\]/, fn ->
      service("books", apis: [Prices])
    end
  end

  test "a stub replaces the code of a function and keeps its contract" do
    shop = service("shop", apis: [Prices])
    stub(shop, "price", fn item, quantity -> {:ok, {item, quantity} |> Tuple.to_list()} end)

    assert %{result: ["tea", 3]} = call(shop, "price", @tea, user_id: "ann")
    assert %{code: "unauthenticated"} = call(shop, "price", @tea)

    assert %{code: "invalid_arguments"} =
             call(shop, "price", %{@tea | "quantity" => 100}, user_id: "ann")

    assert [%{args: @tea, user_id: "ann"}] = calls(shop, "price")
    # And again, over the stub.
    stub(shop, "price", {:ok, "sold out"})
    assert calls(shop, "price") == []
    assert %{result: "sold out"} = call(shop, "price", @tea, user_id: "ann", version: "1.0.0")
    stub(shop, "price", fn _item, quantity, request -> {:ok, [quantity, request.user_id]} end)
    assert %{result: [3, "ann"]} = call(shop, "price", @tea, user_id: "ann")
  end

  test "a stub of a function without arguments, and one that raises" do
    shop = service("shop", apis: [Prices])
    stub(shop, "ping", fn -> raise "out of order" end)
    assert %{code: "internal"} = call(shop, "ping")
    assert_called(shop, "ping")
    stub(shop, "ping", fn request -> request.user_id end)
    assert %{result: "bob"} = call(shop, "ping", %{}, user_id: "bob")
  end

  test "a stub answers a stream with an enumerable, or sends the items itself" do
    shop = service("shop", apis: [Prices])
    stub(shop, "count", ["a", "b"])
    assert %{result: :init} = call(shop, "count", %{"to" => 1}, request_id: "r1")
    assert_receive {:stream_response, %{request_id: "r1", result: "a", has_more: true}}
    assert_receive {:stream_response, %{request_id: "r1", result: "b", has_more: true}}
    assert_receive {:stream_response, %{request_id: "r1", has_more: false}}

    stub(shop, "count", fn to, %StreamHelper{} = out -> StreamHelper.send_last_result(out, to) end)

    call(shop, "count", %{"to" => 7}, request_id: "r2", user_id: "ann")
    assert_receive {:stream_response, %{request_id: "r2", result: 7, has_more: false}}
    assert %{user_id: "ann", request_id: "r2"} = assert_called(shop, "count", %{"to" => 7})
  end

  test "a stub declares a function that does not exist" do
    shop = service("shop")

    stub(shop, "find", fn isbn, lang -> {:ok, [isbn, lang]} end,
      arg_types: [isbn: :string, lang: [type: :string, default_value: "en"]],
      version: "2.0.0",
      response_type: :async
    )

    assert %{async: true} = call(shop, "find", %{"isbn" => "1"}, request_id: "r3")
    assert_receive {:async_call, %{request_id: "r3", result: ["1", "en"]}}
    assert_called(shop, "find", %{"lang" => "en"})
  end

  test "a function that takes its arguments as a map is stubbed as one" do
    shop = service("shop")

    stub(shop, "find", fn args -> args end,
      arg_types: %{"a" => :string, "b" => :string},
      arg_orders: :map
    )

    assert %{result: %{"a" => "1", "b" => "2"}} = call(shop, "find", %{"a" => "1", "b" => "2"})
  end

  test "a stub with mistakes says which" do
    shop = service("shop", apis: [Prices])

    assert_raise ArgumentError,
                 "the stub takes 1 arguments, and the function has 2: item, quantity",
                 fn ->
                   stub(shop, "price", fn _item -> :ok end)
                 end

    assert_raise ArgumentError, ~r/timeout must be/, fn ->
      stub(shop, "ping", "pong", timeout: 1)
    end

    assert_raise ArgumentError, ~r/arg_orders is required/, fn ->
      stub(shop, "new", "x", arg_types: %{"a" => :string, "b" => :string})
    end

    assert_raise KeyError, fn -> stub(shop, "new", "x", arguments: []) end
  end

  test "assertions match arguments, with pinned variables, and show the calls that there were" do
    shop = service("shop", apis: [Prices])
    stub(shop, "price", "ok")
    item = "tea"
    refute_called(shop, "price")
    call(shop, "price", @tea, user_id: "ann")

    assert %{args: @tea} = assert_called(shop, "price", %{"item" => ^item})
    refute_called(shop, "price", %{"item" => "coffee"})

    error =
      assert_raise ExUnit.AssertionError, fn ->
        assert_called(shop, "price", %{"item" => "coffee"}, 0)
      end

    assert error.message =~ ~s(was not called with %{"item" => "coffee"})
    assert error.message =~ ~s("quantity" => 3)

    assert_raise ExUnit.AssertionError, ~r/was called with _/, fn ->
      refute_called(shop, "price")
    end

    assert_raise ArgumentError, ~r/is not stubbed/, fn -> assert_called(shop, "ping") end
  end

  test "an assertion waits for a call that comes" do
    shop = service("shop", apis: [Prices])
    stub(shop, "ping", "pong")
    test = self()

    caller =
      spawn_link(fn ->
        receive do: (:go -> send(test, call(shop, "ping")))
      end)

    send(caller, :go)
    assert_called(shop, "ping", _, 5_000)
  end

  test "reset takes away what the test has made and puts back what was there" do
    name = "reset-#{System.unique_integer([:positive])}"

    up = %FunConfig{service: name, request_type: "up", nodes: :local, mfa: {Prices, :ping, []}}
    :ok = ConfigDb.add(up)
    on_exit(fn -> ConfigDb.delete(name, "up") end)

    stub(name, "up", "stubbed")
    stub(name, "up", "again")
    stub(name, "new", "new")
    shop = service("shop", apis: [Prices])
    assert %{result: "again"} = call(name, "up")

    assert :ok = reset()
    assert %{result: "pong"} = call(name, "up")
    assert {:error, :not_found} = ConfigDb.get(name, "new")
    assert ConfigDb.get_functions_from_services(shop) == %{}
    assert :ok = reset()
  end

  test "what a process has stubbed belongs to it until it ends" do
    name = "owned-#{System.unique_integer([:positive])}"
    test = self()

    {owner, monitor} =
      spawn_monitor(fn ->
        stub(name, "ping", "theirs")
        send(test, :stubbed)
        receive do: (:stop -> :ok)
      end)

    assert_receive :stubbed

    assert_raise ArgumentError, ~r/is stubbed by another process/, fn ->
      stub(name, "ping", "mine")
    end

    send(owner, :stop)
    assert_receive {:DOWN, ^monitor, :process, _pid, :normal}
    assert :ok = stub(name, "ping", "mine")
    assert %{result: "mine"} = call(name, "ping")
    reset()

    {_pid, monitor} = spawn_monitor(fn -> stub(name, "ping", "theirs") end)
    assert_receive {:DOWN, ^monitor, :process, _pid, :normal}
    Await.until(fn -> ConfigDb.get(name, "ping") == {:error, :not_found} end)
  end

  test "the entry of stubs is the one function of the module that a config may name" do
    assert :ok = Security.validate_mfa({PhoenixGenApi.Testing, :__stub__, [{"a", "b", "0.0.0"}]})
    assert {:error, _} = Security.validate_mfa({PhoenixGenApi.Testing, :reset, []})
    assert {:error, _} = Security.validate_mfa({PhoenixGenApi.Testing.Stubs, :run, []})
  end
end
