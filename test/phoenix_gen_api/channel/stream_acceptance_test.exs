defmodule PhoenixGenApi.Channel.StreamAcceptanceTest do
  # The streams of the acceptance script, Q11 to Q14.
  use PhoenixGenApi.ChannelCase, async: false

  alias PhoenixGenApi.{Await, WorkerPool}

  defmodule Api do
    use PhoenixGenApi, event: "api", concurrency: 4
  end

  setup do
    for config <- Books.Directory.list(), config.request_type in ~w(pages countdown ticks) do
      :ok = ConfigDb.add(%{config | nodes: :local})
      on_exit(fn -> ConfigDb.delete("books", config.request_type) end)
    end

    %{channel: join(Api, %{user_id: "ann"})}
  end

  defp request(channel, type, id, args \\ %{}) do
    push_in(channel, payload("books", type, id, %{"args" => args}))
    assert_receive {:reply, _ref, :ok, %Response{request_id: ^id, result: :init, has_more: true}}
  end

  test "Q11: pages", %{channel: channel} do
    request(channel, "pages", "q11", %{"from" => 1, "to" => 3})

    for page <- 1..3 do
      assert_receive {:push, "api", %Response{result: result, has_more: true}}
      assert result == %{page: page}
    end

    assert_receive {:push, "api", last}
    assert last == Response.stream_end_response("q11")
  end

  test "Q12: countdown", %{channel: channel} do
    request(channel, "countdown", "q12", %{"n" => 2})
    assert_receive {:push, "api", %Response{result: 2, has_more: true}}
    assert_receive {:push, "api", %Response{result: 1, has_more: true}}
    assert_receive {:push, "api", %Response{result: 0, has_more: false}}
    in_channel(channel)
    refute_received {:push, _, _}
  end

  test "Q13: ticks, cancelled", %{channel: channel} do
    request(channel, "ticks", "t")
    assert_receive {:push, "api", %Response{result: "tick"}}
    ref = push_in(channel, %{"request_id" => "t", "cancel" => true})
    assert_receive {:reply, ^ref, :ok, %{request_id: "t", cancelled: true}}
    assert last() == Response.stream_end_response("t")
    refute_receive {:push, _, _}, 150
  end

  defp last do
    assert_receive {:push, "api", response}
    if response.has_more, do: last(), else: response
  end

  test "Q14: ticks of a client that has gone", %{channel: channel} do
    request(channel, "ticks", "t")
    assert_receive {:push, "api", %Response{result: "tick"}}
    Process.exit(channel, :shutdown)
    Await.until(fn -> WorkerPool.status(:stream_pool).busy_workers == 0 end)
  end
end
