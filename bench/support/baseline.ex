defmodule Bench.Baseline do
  @moduledoc """
  The request path without native code, for comparison: as quick as it could be made on the
  BEAM, for the functions of the benchmarks only.

  * Table: one persistent term per function, so a lookup is one hash of the name and no copy.
    The quickest table there is to read; to change it costs a scan of every process, and it
    never shows a batch at once.
  * Arguments: one hand-written function per schema, what a code generator would write at best.
  * Nodes: rendezvous hashing with the nodes' hashes worked out beforehand and arithmetic that
    stays within small integers; liveness in one `:atomics`.
  """

  import Bitwise

  @compile {:inline, score: 2, below: 1, text?: 2, text_in_c?: 2, utf8_in_c?: 1}

  @doc "The plan of a function: what `fetch/3` returns."
  def plan(validate, nodes) do
    alive = :atomics.new(length(nodes), [])
    for index <- 1..length(nodes), do: :atomics.put(alive, index, 1)

    candidates =
      for {node, index} <- Enum.with_index(nodes, 1),
          do: {:erlang.phash2(node, 1 <<< 32), node, index}

    {:plan, validate, candidates, List.to_tuple(nodes), alive}
  end

  # Table

  def store(service, request_type, version, plan),
    do: :persistent_term.put({__MODULE__, service, request_type, version}, plan)

  def fetch(service, request_type, version) do
    case :persistent_term.get({__MODULE__, service, request_type, version}, :not_found) do
      plan when is_tuple(plan) -> {:ok, plan}
      reason -> {:error, reason}
    end
  end

  # Permission

  def permitted?(%{user_id: <<_, _::binary>>}), do: true
  def permitted?(_request), do: false

  # Arguments

  def convert({:plan, validate, _, _, _}, %{args: args}), do: validate.(args)

  @doc "A string, an integer with a range, a boolean."
  def three_scalars(%{"name" => name, "age" => age, "active" => active} = args)
      when map_size(args) == 3 and is_integer(age) and age >= 0 and age <= 150 and
             is_boolean(active) do
    if text?(name, 255), do: {:ok, [name, age, active]}, else: {:error, :invalid}
  end

  def three_scalars(_args), do: {:error, :invalid}

  @doc "A list of at most 1,000 strings of at most 3,000 characters."
  def strings(%{"tags" => tags} = args) when map_size(args) == 1 and is_list(tags) do
    if strings?(tags, 1_000), do: {:ok, [tags]}, else: {:error, :invalid}
  end

  def strings(_args), do: {:error, :invalid}

  @doc "A string of at most 3,000 characters."
  def text(%{"text" => text} = args) when map_size(args) == 1 do
    if text?(text, 3_000), do: {:ok, [text]}, else: {:error, :invalid}
  end

  def text(_args), do: {:error, :invalid}

  @doc "The same as `text/1` and `strings/1` with the quickest means that OTP has in C."
  def text_in_c(%{"text" => text} = args) when map_size(args) == 1 and is_binary(text) do
    if text_in_c?(text, 3_000), do: {:ok, [text]}, else: {:error, :invalid}
  end

  def text_in_c(_args), do: {:error, :invalid}

  def strings_in_c(%{"tags" => tags} = args) when map_size(args) == 1 and is_list(tags) do
    if strings_in_c?(tags, 1_000), do: {:ok, [tags]}, else: {:error, :invalid}
  end

  def strings_in_c(_args), do: {:error, :invalid}

  @doc "A record within a record."
  def order(%{"order" => order} = args) when map_size(args) == 1 do
    if order?(order), do: {:ok, [order]}, else: {:error, :invalid}
  end

  def order(_args), do: {:error, :invalid}

  @doc "At most 1,000 such records."
  def orders(%{"orders" => orders} = args) when map_size(args) == 1 and is_list(orders) do
    if orders?(orders, 1_000), do: {:ok, [orders]}, else: {:error, :invalid}
  end

  def orders(_args), do: {:error, :invalid}

  @doc "An ISO 8601 date and time with an offset."
  def datetime(%{"at" => at} = args) when map_size(args) == 1 and is_binary(at) do
    case DateTime.from_iso8601(at) do
      {:ok, datetime, _offset} -> {:ok, [datetime]}
      {:error, _reason} -> {:error, :invalid}
    end
  end

  def datetime(_args), do: {:error, :invalid}

  # A character takes one to four bytes, so counting is needed only between the two.
  defp text?(text, max) when is_binary(text) and byte_size(text) <= max, do: String.valid?(text)

  defp text?(text, max) when is_binary(text) and byte_size(text) <= 4 * max,
    do: characters?(text, max)

  defp text?(_text, _max), do: false

  # Valid and no longer than that, in one walk.
  defp characters?(<<_::utf8, rest::binary>>, left) when left > 0,
    do: characters?(rest, left - 1)

  defp characters?(rest, _left), do: rest == <<>>

  defp strings?([text | rest], left) when left > 0 and is_binary(text) do
    if text?(text, 3_000), do: strings?(rest, left - 1), else: false
  end

  defp strings?(rest, _left), do: rest == []

  defp text_in_c?(text, max) when byte_size(text) <= max, do: utf8_in_c?(text)

  defp text_in_c?(text, max) when byte_size(text) <= 4 * max,
    do: utf8_in_c?(text) and starts(text, 0) <= max

  defp text_in_c?(_text, _max), do: false

  # Undocumented but exported, and what `:unicode.characters_to_binary/1` asks first.
  defp utf8_in_c?(text),
    do: :unicode.bin_is_7bit(text) or is_binary(:unicode.characters_to_binary(text))

  # Bytes that start a character, seven at a time: those that are not 10xxxxxx.
  defp starts(<<word::56, rest::binary>>, count) do
    bits = word >>> 7 &&& ~~~(word >>> 6) &&& 0x01010101010101
    starts(rest, count + 7 - rem(bits, 255))
  end

  defp starts(<<byte, rest::binary>>, count) when (byte &&& 0xC0) == 0x80,
    do: starts(rest, count)

  defp starts(<<_byte, rest::binary>>, count), do: starts(rest, count + 1)
  defp starts(<<>>, count), do: count

  defp strings_in_c?([text | rest], left) when left > 0 and is_binary(text) do
    if text_in_c?(text, 3_000), do: strings_in_c?(rest, left - 1), else: false
  end

  defp strings_in_c?(rest, _left), do: rest == []

  defp order?(%{"id" => id, "note" => note, "qty" => qty, "customer" => customer} = order)
       when map_size(order) == 4 and is_integer(id) and is_integer(qty) and qty >= 1 and
              qty <= 999 do
    text?(note, 200) and customer?(customer)
  end

  defp order?(_other), do: false

  defp customer?(%{"name" => name, "email" => email, "vip" => vip} = customer)
       when map_size(customer) == 3 and is_boolean(vip),
       do: text?(name, 100) and text?(email, 100)

  defp customer?(_other), do: false

  defp orders?([order | rest], left) when left > 0 do
    if order?(order), do: orders?(rest, left - 1), else: false
  end

  defp orders?(rest, _left), do: rest == []

  # Nodes

  @doc "Rendezvous: `{:ok, node, index}` of the live node with the highest score for the key."
  def pick_by_hash({:plan, _, [first | rest], _, alive}, %{request_id: key})
      when is_binary(key) and key != "" do
    key = :erlang.phash2(key, 1 <<< 32)
    {hash, node, index} = first
    {node, index} = best(rest, key, score(key, hash), node, index)

    case :atomics.get(alive, index) do
      1 -> {:ok, node, index}
      _ -> best_alive([first | rest], key, alive)
    end
  end

  def pick_at_random({:plan, _, candidates, nodes, alive}, _request) do
    index = below(tuple_size(nodes))

    case :atomics.get(alive, index + 1) do
      1 -> {:ok, elem(nodes, index), index + 1}
      _ -> random_alive(candidates, alive)
    end
  end

  def pick_in_turn({:plan, _, candidates, nodes, alive}, cursor) do
    index = rem(:atomics.add_get(cursor, 1, 1), tuple_size(nodes))

    case :atomics.get(alive, index + 1) do
      1 -> {:ok, elem(nodes, index), index + 1}
      _ -> random_alive(candidates, alive)
    end
  end

  @doc "Fewest calls in flight by `busy`, an `:atomics`; the first of several."
  def pick_least_busy({:plan, _, candidates, _, alive}, busy),
    do: least_busy(candidates, alive, busy, nil, nil, 1 <<< 58)

  @doc "In proportion to weights: `bounds` are their running totals as a tuple."
  def pick_weighted({:plan, _, candidates, nodes, alive}, bounds) do
    drawn = below(elem(bounds, tuple_size(bounds) - 1))
    index = bound(bounds, drawn, 0)

    case :atomics.get(alive, index + 1) do
      1 -> {:ok, elem(nodes, index), index + 1}
      _ -> random_alive(candidates, alive)
    end
  end

  defp bound(bounds, drawn, index) when drawn < :erlang.element(index + 1, bounds), do: index
  defp bound(bounds, drawn, index), do: bound(bounds, drawn, index + 1)

  @doc "Remembered in `table`, an ETS table of `{key, node, index}`; at first by rendezvous."
  def pick_sticky({:plan, _, _, _, alive} = plan, %{args: %{"key" => key}}, table) do
    case :ets.lookup(table, key) do
      [{_, node, index}] ->
        case :atomics.get(alive, index) do
          1 -> {:ok, node, index}
          _ -> remember(plan, key, table)
        end

      [] ->
        remember(plan, key, table)
    end
  end

  defp remember(plan, key, table) do
    {:ok, node, index} = pick_by_hash(plan, %{request_id: key})
    :ets.insert(table, {key, node, index})
    {:ok, node, index}
  end

  defp least_busy([{_, node, index} | rest], alive, busy, best, place, lowest) do
    load = :atomics.get(busy, index)

    if load < lowest and :atomics.get(alive, index) == 1,
      do: least_busy(rest, alive, busy, node, index, load),
      else: least_busy(rest, alive, busy, best, place, lowest)
  end

  defp least_busy([], _alive, _busy, nil, _place, _lowest), do: :none
  defp least_busy([], _alive, _busy, node, index, _lowest), do: {:ok, node, index}

  defp best([{hash, node, index} | rest], key, top, best, place) when is_integer(top) do
    case score(key, hash) do
      score when score > top -> best(rest, key, score, node, index)
      _ -> best(rest, key, top, best, place)
    end
  end

  defp best([], _key, _top, node, index), do: {node, index}

  # Two rounds of xorshift and multiply; a 32-bit number times 27 bits is still no bignum.
  defp score(key, hash) do
    # The mask tells the compiler the range, and spares every later check for a bignum.
    x = bxor(key, hash) &&& 0xFFFFFFFF
    x = bxor(x, x >>> 16) * 0x45D9F3B &&& 0xFFFFFFFF
    bxor(x, x >>> 15) * 0x45D9F3B &&& 0xFFFFFFFF
  end

  defp best_alive(candidates, key, alive) do
    case alive(candidates, alive) do
      [] ->
        :none

      usable ->
        {_, node, index} = Enum.max_by(usable, fn {hash, _, _} -> score(key, hash) end)
        {:ok, node, index}
    end
  end

  defp random_alive(candidates, alive) do
    case alive(candidates, alive) do
      [] ->
        :none

      usable ->
        {_, node, index} = Enum.at(usable, below(length(usable)))
        {:ok, node, index}
    end
  end

  defp alive(candidates, alive),
    do: Enum.filter(candidates, fn {_, _, index} -> :atomics.get(alive, index) == 1 end)

  # The quickest even draw: needs no seed, which a process made for one request has not got.
  defp below(n), do: :erlang.phash2(make_ref(), n)
end
