defmodule PhoenixGenApi.TroubleshootingGuideTest do
  # The words of the guide are those of the log, of inspect_print and of the events. The log takes
  # few lines in a second, for all tests together.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, Diagnostics, ErrorResponse, Executor, NodeSelector}
  alias PhoenixGenApi.FailureLog.{Limit, Reason}
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Test.{Functions, LogLines}

  @moduletag :capture_log

  @guide File.read!("guides/troubleshooting.md")

  # One of each kind, with what the log says of it.
  @failures [
    {:no_node, {:all_nodes_unavailable, a@h: :down}},
    {:no_node, {:all_nodes_unavailable, a@h: :draining}},
    {:no_node, {:all_nodes_unavailable, a@h: :circuit_open}},
    {:no_node, :no_nodes_available},
    {:node_down, :noconnection},
    {:pool, :queue_full},
    {:pool, :circuit_open},
    {:pool, :user_share},
    {:channel, :max_pending},
    {:timeout, 5_000},
    {:expired, 5_000},
    {:not_found, "find", nil},
    {:disabled, "find", nil},
    {:not_encodable, "result.items[0].owner", "a pid"},
    {:not_encodable, "result too large", nil},
    {:unexpected, {:foo, 1}},
    :unauthenticated,
    :cancelled,
    :duplicate_request_id,
    {:rate_limited,
     %{max_requests: 3, window_ms: 60_000, rate_limit_key: :user_id, retry_after_ms: 1}},
    {:invalid_arguments, nil, [%{"path" => "order.qty", "rule" => "max", "limit" => 9}]},
    {:permission_unanswered, {A, :b, []}, {:timeout, 1_000}}
  ]

  for failure <- @failures do
    @failure failure
    test "the guide has what the log says of #{inspect(failure)}" do
      {_level, words, _stack} = Reason.of(@failure)
      words = String.replace(words, "A.b ", "… ")
      assert @guide =~ "`#{words}`", words
    end
  end

  test "the guide has every code that the library gives" do
    codes = for failure <- @failures, do: ErrorResponse.code(failure)

    for code <- Enum.uniq(codes) ++ ["invalid_request", "forbidden", "rejected", "internal"],
        do: assert(@guide =~ ~r/^\| `#{code}` \|/m, code)
  end

  test "inspect_request says the words of the log" do
    service = "words-#{System.unique_integer([:positive])}"

    for {type, fields} <- [
          role: [check_permission: {:role, ["clerk"]}],
          nowhere: [nodes: [:a@nowhere]],
          typed: [arg_types: %{"n" => :integer}]
        ] do
      fields = [service: service, request_type: "#{type}"] ++ fields
      :ok = ConfigDb.add(Functions.config(fn -> :never_called end, fields))
    end

    NodeSelector.drain(:a@nowhere, local: true)
    on_exit(fn -> NodeSelector.undrain(:a@nowhere, local: true) end)
    LogLines.forward()
    # Those of other tests may have used up the lines of this second.
    :ets.delete_all_objects(Limit)

    for {type, args} <- [{"nope", %{}}, {"role", %{}}, {"nowhere", %{}}, {"typed", %{"n" => "x"}}] do
      request = %Request{
        request_id: "#{service}-#{type}",
        user_id: "ann",
        service: service,
        request_type: type,
        args: args
      }

      assert %{success: false} = Executor.execute!(request)
      {_level, line, _meta} = LogLines.first(request.request_id)
      %{log_says: words} = Diagnostics.inspect_request(request)
      assert line =~ words
    end
  end
end
