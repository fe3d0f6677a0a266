defmodule PhoenixGenApi.NativeFuzz.Terms do
  @moduledoc false
  # Random terms, and random arguments of NIFs: right ones, right ones with something changed in them,
  # and any terms at all. All choices come from `:rand`, so that the same seed makes the same terms.

  alias PhoenixGenApi.Structs.Request

  @texts [
    "text",
    "",
    "s",
    "t",
    "a",
    "b",
    "k",
    "é",
    "0.0.0",
    "1.0.0",
    "10.2.3-rc.1",
    "user_id",
    "n1@native"
  ]
  @atoms [
           nil,
           true,
           false,
           :ok,
           :text,
           :sync,
           :async,
           :public,
           :private,
           :up,
           :down,
           :drain,
           :global
         ] ++
           [
             :user_id,
             :skip,
             :deny,
             :random,
             :hash,
             :sticky,
             :weighted,
             :custom,
             :direct,
             :pull,
             :push
           ] ++
           [
             :value,
             :default,
             :string,
             :list,
             :record,
             :integer,
             :success,
             :lost,
             :returned,
             :address
           ] ++
           [:accept, :kick, :strict_private, :__struct__, String, :"", :nonode@nohost, :undefined]

  @doc "Terms that take long to make, once for all calls."
  def large do
    deep = fn around, levels -> Enum.reduce(1..levels, [], fn _, term -> around.(term) end) end
    mib = :binary.copy("x", 1_000_000)

    [
      mib,
      <<mib::binary, 255>>,
      :binary.copy(<<255>>, 100_000),
      :binary.copy("é", 2_000),
      <<mib::binary, 1::3>>,
      binary_part(mib, 10, 70),
      Integer.pow(2, 800_000),
      -Integer.pow(10, 400),
      deep.(&[&1], 100_000),
      deep.(&{&1}, 10_000),
      deep.(&%{"a" => &1}, 10_000),
      deep.(&[:a | &1], 100_000),
      Enum.to_list(1..50_000),
      Enum.to_list(1..5_000) ++ :improper,
      List.duplicate("text", 5_000),
      List.duplicate({"text", "1.0.0"}, 5_000),
      List.to_tuple(Enum.to_list(1..5_000)),
      Map.new(1..5_000, &{&1, &1}),
      Map.new(1..2_000, &{"k#{&1}", "v"}),
      Map.new(1..200, &{{&1, [self()]}, make_ref()})
    ]
  end

  @doc "Any term. `context` has `:large`, `:handles` and `:sink`, a process that reads what it is sent."
  def any(context, depth \\ 3)

  def any(context, depth) do
    case :rand.uniform(20) do
      n when n <= 2 -> pick(context.large)
      n when n <= 4 -> context.handles |> Map.values() |> pick()
      n when n <= 6 -> integer()
      n when n <= 8 -> binary()
      n when n <= 10 -> pick(@atoms)
      11 -> pick([0.0, -0.0, 1.5, -1.0e308, 5.0e-324, 1.0e300])
      n when n <= 13 -> identifier(context)
      n when depth == 0 -> pick([[], {}, %{}, n])
      n when n <= 15 -> for _ <- below(5), do: any(context, depth - 1)
      16 -> [any(context, depth - 1) | any(context, depth - 1)]
      n when n <= 18 -> List.to_tuple(for _ <- below(6), do: any(context, depth - 1))
      19 -> Map.new(below(5), fn _ -> {any(context, depth - 1), any(context, depth - 1)} end)
      20 -> pick([%Request{}, ~D[2026-01-01], ~r/a/, 1..2, %{__struct__: 1}, MapSet.new([1])])
    end
  end

  defp integer do
    case :rand.uniform(4) do
      1 -> :rand.uniform(300) - 20
      2 -> pick([0, 1, -1, 32, 33, 63, 64, 255, 256])
      3 -> Bitwise.bsl(1, pick([7, 8, 31, 32, 53, 63, 64, 65])) - pick([0, 1])
      4 -> -Bitwise.bsl(1, pick([7, 31, 63, 64, 128])) - 1
    end
  end

  defp binary do
    case :rand.uniform(5) do
      n when n <= 2 ->
        pick(@texts)

      3 ->
        :rand.bytes(:rand.uniform(100) - 1)

      4 ->
        String.duplicate("x", :rand.uniform(5_000))

      5 ->
        pick([
          <<255>>,
          <<0>>,
          <<1::3>>,
          <<"é"::binary, 1::1>>,
          <<0xED, 0xA0, 0x80>>,
          "a\0b",
          "\n\e[31m"
        ])
    end
  end

  defp identifier(context) do
    case :rand.uniform(10) do
      1 -> context.sink
      2 -> self()
      3 -> make_ref()
      4 -> pid_of(pick(["elsewhere@host", ""]))
      # A reference and a port of another node.
      5 -> :erlang.binary_to_term(<<131, 90, 3::16, 119, 3, "a@b", 1::32, 1::32, 2::32, 3::32>>)
      6 -> :erlang.binary_to_term(<<131, 89, 119, 3, "a@b", 7::32, 1::32>>)
      7 -> context.dead
      8 -> hd(Port.list())
      9 -> Function.capture(pick([String, NoSuchModule]), :upcase, 1)
      10 -> holding(pick(context.large))
    end
  end

  defp holding(term), do: fn -> term end

  # Of nodes that nobody has heard of.
  defp pid_of(node) do
    size = byte_size(node)
    :erlang.binary_to_term(<<131, 88, 119, size, node::binary, 1::32, 2::32, 3::32>>)
  end

  @doc "A right term of a kind of `PhoenixGenApi.NativeArguments`."
  def right(kind, context)

  def right({:handle, kinds}, context), do: Map.fetch!(context.handles, pick(kinds))
  def right({:nilable, kind}, c), do: if(:rand.uniform(3) == 1, do: nil, else: right(kind, c))
  def right({:either, one, other}, context), do: right(pick([one, other]), context)
  def right({:one_of, atoms}, _context), do: pick(atoms)
  def right({:tuple, kinds}, c), do: kinds |> Enum.map(&right(&1, c)) |> List.to_tuple()

  def right({:fields, fields}, c),
    do: Map.new(fields, fn {key, kind} -> {key, right(kind, c)} end)

  def right({:list, kind}, context) do
    items = for _ <- below(4), do: right(kind, context)

    # A long one, now and then. Large items would be copied as often: by lists in lists, to gigabytes.
    if :rand.uniform(50) == 1 and :erts_debug.flat_size(items) < 500,
      do: Enum.concat(List.duplicate(items, 200)),
      else: items
  end

  def right({:map, key, value}, context),
    do: Map.new(below(3), fn _ -> {right(key, context), right(value, context)} end)

  def right(kind, _context) when kind in [:text, :scalar] do
    case :rand.uniform(100) do
      1 -> :binary.copy("x", 1_000_000)
      n when n <= 5 -> String.duplicate("é", :rand.uniform(700))
      n when n <= 20 -> "t#{:rand.uniform(50)}"
      n when n <= 30 and kind == :scalar -> pick([1, 2.5, :text, true])
      _n -> pick(@texts)
    end
  end

  def right(:binary, context), do: pick([right(:text, context), :rand.bytes(20), <<255>>])
  def right(:u8, _context), do: pick([0, 1, 7, 255])
  def right(:u32, _context), do: pick([0, 1, 2, 3, 10, 1_000, 2 ** 31, 2 ** 32 - 1])
  def right(:node_bit, _context), do: :rand.uniform(64) - 1
  def right(:depth, _context), do: :rand.uniform(33) - 1
  def right(:i64, _context), do: pick([0, 1, -1, 5, 10 ** 12, 2 ** 63 - 1, -(2 ** 63)])

  def right(kind, _context) when kind in [:u64, :usize],
    do: pick([0, 1, 2, 3, 10, 1_000, 2 ** 32, 2 ** 63, 2 ** 64 - 1])

  def right(:bound, context) do
    pick([right(:number, context), 2 ** 63, -(2 ** 64), 10 ** 400])
  end

  def right(:number, _context), do: pick([0, 1, -1, 0.0, 0.5, 1.0, -2.5, 1.0e300, 2 ** 63 - 1])
  def right(:boolean, _context), do: pick([true, false])
  def right(:atom, _context), do: pick(@atoms)
  def right(:default, context), do: pick([nil, {:value, any(context, 2)}])
  def right(:pid, context), do: pick([self(), context.sink])
  def right(:any_pid, context), do: pick([context.sink, pid_of("elsewhere@host")])
  def right(:term, context), do: any(context, 2)
  def right(:small, context), do: {:small, right(:text, context)}

  def right(:map, context) do
    case :rand.uniform(4) do
      1 ->
        Map.new(below(4), fn _ -> {right(:text, context), any(context, 2)} end)

      2 ->
        %Request{
          user_id: any(context, 1),
          request_id: any(context, 1),
          ip_address: any(context, 1)
        }

      3 ->
        %Request{args: %{"k" => any(context, 1)}, device_id: right(:text, context)}

      4 ->
        %{args: any(context, 1), user_id: right(:text, context)}
    end
  end

  @doc "The term with something changed somewhere in it."
  def mutated(term, context)

  def mutated([_ | _] = list, context) do
    if :rand.uniform(4) == 1 or length(list) > 100,
      do: mutated_whole(list, context),
      else: List.update_at(list, :rand.uniform(length(list)) - 1, &mutated(&1, context))
  rescue
    # It is improper itself.
    ArgumentError -> any(context)
  end

  def mutated(tuple, context) when is_tuple(tuple) and tuple_size(tuple) in 1..100 do
    at = :rand.uniform(tuple_size(tuple)) - 1

    case :rand.uniform(5) do
      1 -> Tuple.delete_at(tuple, at)
      2 -> Tuple.insert_at(tuple, at, any(context, 1))
      _ -> put_elem(tuple, at, mutated(elem(tuple, at), context))
    end
  end

  def mutated(%{} = map, context) when map_size(map) in 1..100 do
    key = map |> Map.keys() |> pick()

    case :rand.uniform(5) do
      1 -> Map.delete(map, key)
      2 -> Map.put(map, any(context, 1), any(context, 1))
      _ -> Map.put(map, key, mutated(Map.fetch!(map, key), context))
    end
  end

  def mutated(integer, context) when is_integer(integer) do
    case :rand.uniform(5) do
      1 -> -integer
      2 -> integer + 1
      3 -> integer - 1
      4 -> Bitwise.bsl(integer, 64)
      5 -> any(context, 1)
    end
  end

  def mutated(binary, context) when is_binary(binary) do
    case :rand.uniform(4) do
      1 -> binary <> <<255>>
      2 -> <<binary::binary, 1::3>>
      3 -> binary <> "x"
      4 -> any(context, 1)
    end
  end

  def mutated(_other, context), do: any(context, 2)

  defp mutated_whole(list, context) do
    case :rand.uniform(4) do
      1 -> list ++ :improper
      2 -> [list]
      3 -> tl(list)
      4 -> [any(context, 1) | list]
    end
  end

  @doc "One of them."
  def pick(list), do: Enum.at(list, :rand.uniform(length(list)) - 1)

  # As many steps as there are things less than `n`.
  defp below(n), do: 1..(:rand.uniform(n) - 1)//1
end
