defmodule PhoenixGenApi.Executor.ResultCheckTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{ArgumentGenerator, ArgumentHandler, ConfigDb, Executor, JsonEncoding, Plan}
  alias PhoenixGenApi.ArgumentGenerator.{Chance, Type, Value}
  alias PhoenixGenApi.ArgumentHandler.Results
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response, StreamHelper}
  alias PhoenixGenApi.Test.{ConfigTable, Derived, Options}

  # Returns the term that is put down for the test.
  def give(key), do: :persistent_term.get({__MODULE__, key})

  def stream(key, stream) do
    case :persistent_term.get({__MODULE__, key}) do
      {:send, messages} ->
        for {fun, args} <- messages, do: apply(StreamHelper, fun, [stream | args])

      returned ->
        returned
    end
  end

  setup do
    ConfigTable.use_empty()
    key = "k#{System.unique_integer([:positive])}"
    on_exit(fn -> :persistent_term.erase({__MODULE__, key}) end)
    %{key: key}
  end

  defp ask(key, returned, type, fields \\ []) do
    :persistent_term.put({__MODULE__, key}, returned)

    config =
      struct!(
        %FunConfig{
          service: "checked",
          request_type: "give",
          version: "1.0.0",
          nodes: :local,
          mfa: {__MODULE__, :give, []},
          arg_types: %{"key" => :string},
          result: type
        },
        fields
      )

    ConfigDb.add!(config)

    Executor.execute!(%Request{
      request_id: "r1",
      user_id: "ann",
      service: "checked",
      request_type: "give",
      args: %{"key" => key}
    })
  end

  defp answer(:async), do: receive_message(:async_call)

  defp receive_message(kind) do
    assert_receive {^kind, %Response{} = response}
    response
  end

  defp frames do
    case receive_message(:stream_response) do
      %{has_more: true} = frame -> [frame | frames()]
      last -> [last]
    end
  end

  @total {:map, %{"total" => :integer}}
  @wrong %{total: "5"}
  @sentence "its result is not what it declares: result.total: type integer"

  describe ":off" do
    test "looks at nothing", %{key: key} do
      assert capture_log(fn ->
               assert %{success: true, result: @wrong} = ask(key, @wrong, @total)
             end) == ""
    end
  end

  describe ":log" do
    setup do
      Options.set(:check_results, :log)
    end

    test "warns with path and rule, never the value, and answers as ever", %{key: key} do
      log =
        capture_log(fn ->
          assert %{success: true, result: %{total: "secret"}} =
                   ask(key, %{total: "secret"}, @total)
        end)

      assert log =~ "[warning] request r1: checked give 1.0.0: "
      assert log =~ "ResultCheckTest.give/1 on #{node()}: #{@sentence}"
      refute log =~ "secret"
    end

    test "has nothing to say of a right result, an error, or a function that declares none", %{
      key: key
    } do
      log =
        capture_log(fn ->
          ask(key, %{total: 5}, @total)
          ask(key, @wrong, nil)
          ask(key, Response.error_response(nil, "Out of stock"), @total)
        end)

      refute log =~ "declares"
    end

    test "of a function whose log is off says nothing", %{key: key} do
      assert capture_log(fn -> ask(key, @wrong, @total, log: false) end) == ""
    end

    test "looks at the items of a stream, which goes on", %{key: key} do
      messages = [
        send_result: [%{total: 1}],
        send_result: [@wrong],
        send_last_result: [%{total: 3}]
      ]

      log =
        capture_log(fn ->
          ask(key, {:send, messages}, @total,
            response_type: :stream,
            request_info: true,
            mfa: {__MODULE__, :stream, []}
          )

          assert [%{total: 1}, @wrong, %{total: 3}] = Enum.map(frames(), & &1.result)
        end)

      assert log =~ @sentence
    end
  end

  describe ":error" do
    setup do
      Options.set(:check_results, :error)
    end

    @describetag :capture_log

    test "answers a wrong result as a failure of the function", %{key: key} do
      log =
        capture_log(fn ->
          assert %{
                   success: false,
                   code: "internal",
                   error: "Internal Server Error",
                   result: nil,
                   details: [%{"executed" => "yes"}]
                 } =
                   ask(key, {:ok, @wrong}, @total)
        end)

      assert log =~ "request r1 of ann failed: checked give 1.0.0: "
      assert log =~ @sentence
      assert %{success: true, result: %{total: 5}} = ask(key, {:ok, %{total: 5}}, @total)
    end

    test "looks at a response that the function has made", %{key: key} do
      assert %{code: "internal"} = ask(key, Response.sync_response(nil, @wrong), @total)
      assert %{success: true} = ask(key, Response.sync_response(nil, %{"total" => 1}), @total)

      assert %{code: "sold_out"} =
               ask(key, Response.error_response(nil, "No.", false, code: "sold_out"), @total)
    end

    test "looks at the answer of an async function", %{key: key} do
      ask(key, @wrong, @total, response_type: :async)
      assert %{success: false, code: "internal", async: false} = answer(:async)
      ask(key, %{total: 5}, @total, response_type: :async)
      assert %{success: true, result: %{total: 5}} = answer(:async)
    end

    test "ends a stream at its first wrong item, whatever is sent after it", %{key: key} do
      stream = [response_type: :stream, request_info: true, mfa: {__MODULE__, :stream, []}]

      for messages <- [
            [
              send_result: [%{total: 1}],
              send_result: [@wrong],
              send_result: [%{total: 3}],
              send_complete: []
            ],
            [send_result: [%{total: 1}], send_last_result: [@wrong]]
          ] do
        ask(key, {:send, messages}, @total, stream)
        assert [%{total: 1}, nil] = Enum.map(frames(), & &1.result)
      end

      # An enumerable, whose items come in batches.
      ask(
        key,
        Stream.map(1..1_000, &if(&1 == 500, do: @wrong, else: %{total: &1})),
        @total,
        stream
      )

      frames = frames()
      assert Enum.map(frames, & &1.result) == Enum.map(1..499, &%{total: &1}) ++ [nil]
      assert %{success: false, code: "internal", has_more: false} = List.last(frames)

      ask(key, {:ok, @wrong}, @total, response_type: :stream)
      assert [%{code: "internal"}] = frames()
      ask(key, Stream.map(1..3, &%{total: &1}), @total, stream)
      assert [1, 2, 3, nil] = Enum.map(frames(), & &1.result[:total])
    end

    test "counts what a struct becomes", %{key: key} do
      for {returned, type} <- [
            {~U[2026-01-01 00:00:00Z], :datetime},
            {~U[2026-01-01 00:00:00Z], :string},
            {~N[2026-01-01 00:00:00], :naive_datetime},
            {~D[2026-01-01], :date},
            {~D[2026-01-01], :any},
            {~T[01:02:03], :time},
            {MapSet.new([1, 2]), {:list, :integer}},
            {URI.parse("http://localhost/"), {:string, format: "^http:"}},
            {Duration.new!(hour: 1), :string},
            {%Derived{shown: "a"}, {:map, %{"shown" => :string}}},
            {[%{at: ~D[2026-01-01], by: %Derived{shown: "a"}}],
             {:list, {:map, %{"at" => :date, "by" => {:map, %{"shown" => :string}}}}}},
            {%{1 => 2}, :map},
            {:asc, {:enum, [:asc, :desc]}},
            {[:a, "b", nil], {:list, {:string, allow_nil?: true}}}
          ] do
        assert %{success: true} = ask(key, returned, type), inspect({returned, type})
      end

      for {returned, type} <- [
            {~N[2026-01-01 00:00:00], :datetime},
            {~D[2026-01-01], :datetime},
            {%Derived{shown: 1}, {:map, %{"shown" => :string}}},
            {%Derived{shown: "a"}, :string},
            {:other, {:enum, [:asc, :desc]}},
            {true, :string},
            {5.0, :integer}
          ] do
        assert %{success: false, code: "internal"} = ask(key, returned, type),
               inspect({returned, type})
      end
    end

    test "leaves what JSON cannot hold to those who say that", %{key: key} do
      assert %{success: true} = ask(key, %{total: self()}, @total)
    end

    test "has no limits of its own", %{key: key} do
      deep = Enum.reduce(1..40, 1, fn _level, inner -> [inner] end)
      assert %{success: true} = ask(key, deep, :any)
      assert %{success: true} = ask(key, Enum.to_list(1..150_000), {:list, :integer, 200_000})

      assert %{code: "internal"} =
               ask(key, Enum.to_list(1..150_000) ++ ["x"], {:list, :integer, 200_000})
    end
  end

  test "the verdict on a term is that on what is left of it in JSON" do
    for seed <- 1..400, reduce: %{right: 0, wrong: 0} do
      counts ->
        ArgumentGenerator.seed(seed)
        type = Type.random(3)
        spelling = Type.write(type)

        base = %FunConfig{
          service: "s",
          request_type: "t",
          nodes: :local,
          mfa: {String, :length, []}
        }

        {:ok, plan, _config} = Plan.compile(%{base | result: spelling})
        {:ok, arguments, _config} = Plan.compile(%{base | arg_types: %{"result" => spelling}})

        for _ <- 1..50, reduce: counts do
          counts ->
            value =
              if Chance.chance(3),
                do: type |> Value.fitting() |> Value.spoil(),
                else: Value.fitting(type)

            value = loosened(value)

            with json when json != nil <- JsonEncoding.encode(value, JSON) do
              request = %Request{
                request_type: "t",
                args: %{"result" => json |> IO.iodata_to_binary() |> JSON.decode!()}
              }

              expected =
                case ArgumentHandler.convert(arguments, request) do
                  {:ok, _arguments} -> :ok
                  {:error, _exception} -> {:error, ArgumentHandler.problems(arguments, request)}
                end

              expected = if limit?(expected), do: Results.check(plan, value), else: expected

              assert Results.check(plan, value) == expected,
                     "seed #{seed}: #{inspect(value)} of #{inspect(spelling)}"

              Map.update!(counts, if(expected == :ok, do: :right, else: :wrong), &(&1 + 1))
            else
              nil -> counts
            end
        end
    end
    |> then(fn counts -> assert counts.right > 5_000 and counts.wrong > 1_000 end)
  end

  # Only arguments have these.
  defp limit?({:error, problems}),
    do: Enum.any?(problems, &(&1["rule"] in ["max_depth", "max_nodes"]))

  defp limit?(:ok), do: false

  # As functions return it: with atoms for keys and here and there for texts.
  defp loosened(map) when is_non_struct_map(map),
    do: Map.new(map, fn {key, value} -> {atom(key), loosened(value)} end)

  defp loosened([head | tail]), do: [loosened(head) | loosened(tail)]
  defp loosened(text) when is_binary(text), do: if(Chance.chance(4), do: atom(text), else: text)
  defp loosened(other), do: other

  @atoms ~w(k0 k1 k2 k3 age b tags order x.y naïve user_id é🙂 a z asc desc up)a
  @names Map.new(@atoms, &{Atom.to_string(&1), &1})
  defp atom(text), do: Map.get(@names, text, text)
end
