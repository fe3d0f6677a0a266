Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.Contract do
  @moduledoc "The description of 1,000 functions, and results checked against their types."

  import Bench.Harness

  alias Bench.Gateway
  alias PhoenixGenApi.{ArgumentHandler, ConfigDb, Contract}
  alias PhoenixGenApi.ArgumentHandler.Results
  alias PhoenixGenApi.Executor.{Context, ResultCheck}
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Structs.Request

  def run do
    described = describe()

    texts = checked("a record within a record, 7 values", {:map, Gateway.order()}, order(1))

    atoms =
      checked("the same with atoms for keys", {:map, Gateway.order()}, order(1), atoms(order(1)))

    orders = Enum.map(1..1_000, &order/1)
    many = checked("1,000 such records", {:list, {:map, Gateway.order()}}, orders)

    many_atoms =
      checked(
        "1,000 such records with atoms for keys",
        {:list, {:map, Gateway.order()}},
        orders,
        atoms(orders)
      )

    tags = checked("1,000 strings", :list_string, for(n <- 1..1_000, do: "product-#{n}"))
    date = checked("a date", :datetime, "2026-01-01T00:00:00Z", ~U[2026-01-01 00:00:00Z])
    off = off()

    figures(
      described ++
        for {label, results} <- [
              {"record", texts},
              {"record with atoms for keys", atoms},
              {"1,000 records", many},
              {"1,000 records with atoms for keys", many_atoms},
              {"1,000 strings", tags},
              {"date", date}
            ] do
          {"#{label}: result against argument", {:times, ratio(results, "result", "argument")},
           {:at_most, 1.0}}
        end ++
        [{"with `:off`", {:ns, off}, {:at_most, 100}}]
    )
  end

  defp describe do
    configs =
      for n <- 1..1_000 do
        Gateway.config(
          service: "service #{rem(n, 20)}",
          request_type: "function #{n}",
          version: "1.0.0",
          arg_types: [
            {"item", {:string, 40}},
            {"at", :datetime},
            {"quantity", [type: :integer, min: 1, default_value: 1]}
          ],
          arg_orders: nil,
          result: {:map, Gateway.person()},
          check_permission: {:role, ["buyer"]},
          choose_node_mode: :random,
          doc: "The price of a number of items."
        )
      end

    own = Gateway.use_table(Native.config_db_new())
    {:ok, 1_000} = ConfigDb.batch_add(configs)
    [first | _] = configs
    request = %Request{user_id: "ann", user_roles: ["buyer"]}

    # Each time after a change.
    cold =
      quantile(
        for _ <- 1..25 do
          ConfigDb.add(first)
          Task.async(fn -> elem(:timer.tc(fn -> Contract.describe() end), 0) end) |> Task.await()
        end,
        0.5
      )

    results =
      compare(
        [
          {"kept", fn _ -> Contract.describe() end},
          {"for a caller", fn _ -> Contract.describe(as: request) end}
        ],
        [nil]
      )

    times("the description of 1,000 functions", results)
    Gateway.use_table(own)

    [
      {"made, after a change", {:ns, 1_000 * cold}, {:at_most, 20_000_000}},
      {"kept", {:ns, result(results, "kept").median}, {:at_most, 1_000_000}},
      {"for a caller", {:ns, result(results, "for a caller").median}, {:at_most, 1_000_000}}
    ]
  end

  # As the argument of a request, and as what a function returns.
  defp checked(title, type, argument, returned \\ nil) do
    returned = if returned == nil, do: argument, else: returned

    config =
      Gateway.config(
        request_type: "checked",
        arg_types: %{"value" => type},
        arg_orders: ["value"],
        result: type,
        choose_node_mode: :random
      )

    plan = Gateway.plan(config)
    request = Gateway.request(request_type: "checked", args: %{"value" => argument})
    {:ok, _arguments} = ArgumentHandler.convert(plan, request)
    :ok = Results.check(plan, returned)
    {:error, _} = ArgumentHandler.convert(plan, %{request | args: %{"value" => {:wrong}}})
    {:error, _} = Results.check(plan, %{wrong: 1})

    results =
      compare(
        [
          {"argument", fn _ -> ArgumentHandler.convert(plan, request) end},
          {"result", fn _ -> Results.check(plan, returned) end}
        ],
        [nil]
      )

    times(title, results)
    results
  end

  # What a request of a function with a result type pays while results are not checked.
  defp off do
    plan =
      Gateway.plan(Gateway.config(request_type: "off", result: :any, choose_node_mode: :random))

    context = Context.new(Gateway.request(), plan, self(), 0)

    results =
      compare([{"not checked", fn result -> :ok = ResultCheck.check(context, result) end}], [
        %{total: 5}
      ])

    times("a result that is not checked", results)
    result(results, "not checked").median
  end

  defp order(n) do
    %{
      "id" => n,
      "note" => "leave at the door",
      "qty" => rem(n, 9) + 1,
      "customer" => %{"name" => "Grace Hopper", "email" => "grace@example.com", "vip" => true}
    }
  end

  defp atoms(list) when is_list(list), do: Enum.map(list, &atoms/1)

  defp atoms(map) when is_map(map),
    do: Map.new(map, fn {key, value} -> {String.to_atom(key), atoms(value)} end)

  defp atoms(value), do: value
end

Bench.Contract.run()
