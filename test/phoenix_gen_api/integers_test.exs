defmodule PhoenixGenApi.IntegersTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{ConfigDb, Executor, Integers, JsonEncoding, Relay}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.Functions

  @max 1_024
  @longest 10 ** @max - 1

  test "an integer is short up to the very digit" do
    for max <- [1, 2, 17, 18, 19, 20, 100, 308, @max], sign <- [1, -1] do
      assert Integers.short?(sign * (10 ** max - 1), max)
      assert Integers.short?(0, max)
      # What a word holds is written at once.
      if max > 18, do: refute(Integers.short?(sign * 10 ** max, max))
    end
  end

  test "an integer of 900,000 digits is told from a short one without being written" do
    long = 10 ** 900_000
    {told, false} = :timer.tc(fn -> Integers.short?(long, @max) end)
    {written, _text} = :timer.tc(fn -> Integer.to_string(10 ** 50_000) end)
    assert told < written
  end

  test "a long integer is found at any depth, as a key and in an improper list" do
    long = @longest + 1

    for term <- [
          long,
          [long],
          [1 | long],
          %{"a" => [%{"b" => long}]},
          %{long => 1},
          Enum.reduce(1..10_000, long, fn _, inner -> [inner] end)
        ] do
      assert Integers.all_short?(term, :erlang.external_size(term), @max) == false
      assert Integers.all_short?([@longest, "a", 1.5], 1_000_000, @max)
    end
  end

  test "a payload with one is no request, and the error does not repeat it" do
    payload = &%{"request_id" => "r", "request_type" => "t", "service" => "s", "args" => &1}
    assert {:ok, _request} = Request.decode(payload.(%{"n" => @longest}))
    {:error, error} = Request.decode(payload.(%{"a" => %{"n" => [@longest + 1]}}))
    assert error.message == "Invalid fields: args has an integer of more than 1024 digits"
    assert %Response{error: text} = Executor.execute_params(payload.(%{"n" => 10 ** 900_000}))
    assert text =~ "more than 1024 digits"
  end

  test "a result with one cannot be encoded, and says where it is" do
    assert JsonEncoding.check(Response.sync_response("r", [@longest, -@longest]), JSON) == :ok

    assert JsonEncoding.check(Response.sync_response("r", %{sum: [1, 10 ** 900_000]}), JSON) ==
             {:error, "result.sum[1]"}

    assert {:error, _path} = JsonEncoding.check(%{(@longest + 1) => 1}, JSON)
  end

  test "a relay message with one is refused at its sender, before anybody has to write it" do
    group = "integers-#{System.unique_integer([:positive])}"
    :ok = Relay.create_group(group, :public, "ann", self())
    on_exit(fn -> Relay.delete_group(group) end)
    assert Relay.send_to_group(group, "server", %{"n" => @longest}) == {:ok, 1}
    assert_receive {:relay_message, _}

    assert Relay.send_to_group(group, "server", %{"n" => [10 ** 900_000]}) ==
             {:error, :invalid_message}

    config = %FunConfig{
      service: group,
      request_type: "say",
      nodes: :local,
      mfa: {Relay, :handle_relay, []},
      arg_types: [{"group_id", :string}, {"message", :any}]
    }

    :ok = ConfigDb.add(config)
    on_exit(fn -> ConfigDb.delete(group, "say") end)

    request =
      Functions.request(
        service: group,
        request_type: "say",
        user_id: "ann",
        args: %{"group_id" => group, "message" => 10 ** 2_000}
      )

    assert Executor.execute!(request).error == "argument validation failed"
    refute_received {:relay_message, _}
  end
end
