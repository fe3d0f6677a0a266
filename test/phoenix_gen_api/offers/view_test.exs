defmodule PhoenixGenApi.Offers.ViewTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Offers.View
  alias PhoenixGenApi.Structs.FunConfig

  # Contents by name: functions by key, each with the name of its definition.
  defp contents(contents) do
    Map.new(contents, fn {hash, functions} ->
      {hash,
       Map.new(functions, fn {type, version, id} ->
         {{type, version}, {id, %FunConfig{request_type: type, version: version, doc: id}}}
       end)}
    end)
  end

  defp up(hashes), do: %{hashes: hashes, left_at: nil}
  defp left(hashes), do: %{hashes: hashes, left_at: 1}

  # What it says of each function.
  defp build(records, named) do
    # Those that nobody names are dropped by then.
    offered = for {_node, record} <- records, hash <- record.hashes, do: hash
    contents = contents(Map.take(named, offered))
    structure = View.structure(contents)
    {by_hash, left} = View.by_hash(records)
    up = for {node, %{left_at: nil}} <- records, do: node

    functions =
      for {classes, keys} <- structure.patterns, key <- keys, into: %{} do
        view = View.pattern(classes, by_hash, left)
        config = fn class -> View.function(class, key, contents) |> elem(1) end

        definitions =
          for {class, nodes} <- view.definitions, do: %{id: config.(class).doc, nodes: nodes}

        {key, %{config: config.(view.main), definitions: definitions}}
      end

    ineligible =
      for {classes, keys} <- structure.versioned,
          View.rare?(View.pattern(classes, by_hash, left), length(up)),
          key <- keys,
          do: key

    %{up: Enum.sort(up), functions: functions, ineligible: ineligible}
  end

  test "a function has the nodes that offer it" do
    view =
      build(%{a: up(["1"]), b: up(["2"]), c: up(["1", "2"])}, %{
        "1" => [{"find", "0.0.0", "f"}],
        "2" => [{"find", "0.0.0", "f"}, {"price", "0.0.0", "p"}]
      })

    assert view.up == [:a, :b, :c]
    assert [%{nodes: [:a, :b, :c]}] = view.functions[{"find", "0.0.0"}].definitions
    assert [%{nodes: [:b, :c]}] = view.functions[{"price", "0.0.0"}].definitions
  end

  test "of several definitions the most common comes first, then the one with the smaller hash" do
    contents = %{"1" => [{"find", "0.0.0", "old"}], "2" => [{"find", "0.0.0", "new"}]}

    ids = fn view ->
      for d <- view.functions[{"find", "0.0.0"}].definitions, do: {d.id, d.nodes}
    end

    one_each = build(%{a: up(["2"]), b: up(["1"])}, contents)
    assert ids.(one_each) == [{"old", [:b]}, {"new", [:a]}]
    assert one_each.functions[{"find", "0.0.0"}].config.doc == "old"

    two_new = build(%{a: up(["2"]), b: up(["1"]), c: up(["2"])}, contents)
    assert ids.(two_new) == [{"new", [:a, :c]}, {"old", [:b]}]
  end

  test "a function whose nodes have all left stays without candidates, as the most of them had it" do
    contents = %{"1" => [{"find", "0.0.0", "old"}], "2" => [{"find", "0.0.0", "new"}]}
    view = build(%{a: left(["1"]), b: left(["2"]), c: left(["2"])}, contents)
    assert %{config: %{doc: "new"}, definitions: []} = view.functions[{"find", "0.0.0"}]
    assert view.up == []

    # What is offered counts, whatever others had.
    view = build(%{a: up(["1"]), b: left(["2"]), c: left(["2"])}, contents)

    assert %{config: %{doc: "old"}, definitions: [%{nodes: [:a]}]} =
             view.functions[{"find", "0.0.0"}]
  end

  test "a version that fewer than half of the nodes offer is not the default" do
    contents = %{
      "1" => [{"find", "1.0.0", "1"}],
      "2" => [{"find", "1.0.0", "1"}, {"find", "2.0.0", "2"}]
    }

    nodes = fn old, new ->
      Map.merge(
        Map.new(1..old//1, &{:"old#{&1}", up(["1"])}),
        Map.new(1..new//1, &{:"new#{&1}", up(["2"])})
      )
    end

    assert build(nodes.(2, 1), contents).ineligible == [{"find", "2.0.0"}]
    # Half is enough.
    assert build(nodes.(2, 2), contents).ineligible == []
    assert build(nodes.(1, 2), contents).ineligible == []
    # There is nothing to choose from.
    assert build(%{a: up(["1"]), b: up(["3"]), c: up(["3"])}, %{
             "1" => [{"find", "1.0.0", "1"}],
             "3" => [{"price", "1.0.0", "p"}]
           }).ineligible == []
  end

  test "nothing is left of a service without nodes" do
    assert %{functions: functions, up: [], ineligible: []} = build(%{}, %{})
    assert functions == %{}
  end

  test "it depends on nothing but what is offered" do
    hashes = for n <- 1..6, do: "#{n}"

    contents =
      Map.new(hashes, fn hash ->
        {hash, for(t <- ~w(a b c), do: {t, Enum.random(~w(0.0.0 1.0.0)), Enum.random(~w(x y))})}
      end)

    for _ <- 1..100 do
      records =
        Map.new(1..Enum.random(1..8), fn n ->
          {:"n#{n}", Enum.random([&up/1, &left/1]).(Enum.take_random(hashes, Enum.random(1..2)))}
        end)

      view = build(records, contents)
      assert view == build(records |> Enum.shuffle() |> Map.new(), contents)

      for {key, %{definitions: definitions}} <- view.functions do
        offering =
          for {node, %{left_at: nil, hashes: hashes}} <- records,
              Enum.any?(hashes, fn hash ->
                Enum.any?(contents[hash], &({elem(&1, 0), elem(&1, 1)} == key))
              end),
              do: node

        assert definitions |> Enum.flat_map(& &1.nodes) |> Enum.uniq() |> Enum.sort() ==
                 Enum.sort(offering)
      end
    end
  end
end
