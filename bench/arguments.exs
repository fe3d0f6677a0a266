Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)
Code.require_file("support/baseline.ex", __DIR__)

defmodule Bench.Arguments do
  @moduledoc "Validation and conversion of arguments, from three scalars to 1,000 records."

  import Bench.Harness

  alias Bench.{Gateway, Baseline}
  alias PhoenixGenApi.ArgumentHandler
  alias PhoenixGenApi.Structs.Request

  def run do
    scalars =
      subject(
        "a string, an integer with a range and a boolean",
        Gateway.three_scalars(),
        Gateway.request().args,
        &Baseline.three_scalars/1
      )

    list = fn title, text ->
      tags = for n <- 1..1_000, do: text <> String.pad_leading("#{n}", 4, "0")

      subject(
        title,
        %{"tags" => {:list_string, 1_000}},
        %{"tags" => tags},
        &Baseline.strings/1,
        &Baseline.strings_in_c/1
      )
    end

    short = list.("1,000 strings of 12 ASCII characters", "product-")
    long = list.("1,000 strings of 40 ASCII characters", "a somewhat longer description, number ")
    accents = list.("1,000 strings of 12 characters, 4 of them accented", "éèêëabcd")

    text = fn title, text ->
      3_000 = String.length(text)

      subject(
        title,
        %{"text" => :string},
        %{"text" => text},
        &Baseline.text/1,
        &Baseline.text_in_c/1
      )
    end

    ascii =
      text.(
        "one string of 3,000 ASCII characters",
        String.duplicate("lorem ipsum dolor sit amet, co", 100)
      )

    mixed =
      text.(
        "one string of 3,000 characters, a tenth of two bytes",
        String.duplicate("Grüße vom Rhein: äöü Wein, Kä ", 100)
      )

    cyrillic =
      text.("one string of 3,000 characters of two bytes", String.duplicate("жизнь", 600))

    cjk =
      text.(
        "one string of 3,000 characters of three bytes",
        String.duplicate("漢字仮名交じり文章", 333) <> "漢字仮"
      )

    order = fn n ->
      %{
        "id" => n,
        "note" => "leave at the door",
        "qty" => rem(n, 9) + 1,
        "customer" => %{"name" => "Grace Hopper", "email" => "grace@example.com", "vip" => true}
      }
    end

    nested =
      subject(
        "a record within a record, 7 values",
        %{"order" => {:map, Gateway.order()}},
        %{"order" => order.(1)},
        &Baseline.order/1
      )

    records =
      subject(
        "1,000 such records",
        %{"orders" => {:list, {:map, Gateway.order()}, 1_000}},
        %{"orders" => Enum.map(1..1_000, order)},
        &Baseline.orders/1
      )

    date =
      subject(
        "an ISO 8601 date with an offset, to UTC",
        %{"at" => :datetime},
        %{"at" => "2026-01-01T00:00:00.123+02:00"},
        &Baseline.datetime/1
      )

    figures(
      [{"three scalars", {:times, ratio(scalars, "library", "BEAM only")}, {:at_most, 1.2}}] ++
        for {label, results} <- [
              {"1,000 strings of 12", short},
              {"1,000 strings of 40", long},
              {"1,000 strings of 12, accented", accents},
              {"3,000 ASCII characters", ascii},
              {"3,000 characters, a tenth of two bytes", mixed},
              {"3,000 characters of two bytes", cyrillic},
              {"3,000 characters of three bytes", cjk}
            ] do
          {"#{label}: times faster", {:times, ratio(results, "BEAM only", "library")},
           {:at_least, 3}}
        end ++
        for {label, results} <- [
              {"nested record", nested},
              {"1,000 nested records", records},
              {"date and time", date}
            ] do
          {"#{label}: times faster", {:times, ratio(results, "BEAM only", "library")}, nil}
        end
    )
  end

  defp subject(title, types, args, baseline, in_c \\ nil) do
    type = "bench_#{:erlang.phash2(title)}"
    orders = if map_size(types) == 3, do: ["name", "age", "active"], else: Map.keys(types)
    plan = Gateway.plan(Gateway.config(request_type: type, arg_types: types, arg_orders: orders))
    library = &ArgumentHandler.convert(plan, &1)
    own = fn %Request{args: args} -> baseline.(args) end
    request = Gateway.request(request_type: type, args: args)

    assert_same(title, library, own, [request])
    spoilt = spoil(request)
    {:error, _} = library.(spoilt)
    {:error, _} = own.(spoilt)

    others =
      if in_c do
        own_in_c = fn %Request{args: args} -> in_c.(args) end
        assert_same(title, library, own_in_c, [request])
        {:error, _} = own_in_c.(spoilt)
        [{"BEAM only, OTP's functions in C", own_in_c}]
      else
        []
      end

    results = compare([{"library", library}, {"BEAM only", own}] ++ others, [request])
    times(title, results)
    results
  end

  # The last value that the walk reaches becomes wrong.
  defp spoil(%Request{args: args} = request) do
    {name, value} = args |> Enum.sort() |> List.last()
    %{request | args: %{args | name => spoil_value(value)}}
  end

  defp spoil_value(text) when is_binary(text),
    do: binary_part(text, 0, byte_size(text) - 1) <> <<255>>

  defp spoil_value([_ | _] = list), do: List.update_at(list, -1, &spoil_value/1)
  defp spoil_value(%{"customer" => _} = order), do: put_in(order, ["customer", "vip"], "yes")
  defp spoil_value(_other), do: nil
end

Bench.Arguments.run()
