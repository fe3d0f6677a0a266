defmodule PhoenixGenApi.JsonEncoding do
  @moduledoc false
  # What may go into JSON, for all JSON libraries alike: see PhoenixGenApi.Structs.Response.
  #
  # `plain/1` is that rule for one level. The encoders apply it while they descend, and check/2
  # applies it ahead of them, so that neither can accept what the other refuses.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Integers
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.Response

  # An optional dependency.
  @compile {:no_warn_undefined, Phoenix}

  @typedoc "A module, or `:configured` for that of `library/0`, asked for only where it makes a difference."
  @type json_library :: module() | :configured

  # A successful response but for its id, its result and three booleans.
  @success_bytes byte_size(
                   ~s({"async":,"can_retry":,"error":null,"has_more":,"request_id":,"result":,"success":true})
                 )

  defguardp is_key(key) when is_binary(key) or is_atom(key) or is_number(key)

  @doc "The library that Phoenix encodes with: the configured one, or Phoenix's own default."
  @spec library() :: module()
  def library do
    if function_exported?(Phoenix, :json_library, 0) or phoenix?(),
      do: Phoenix.json_library(),
      else: Application.get_env(:phoenix, :json_library, JSON)
  end

  # To look for a module that is not there takes long, and every request over HTTP asks.
  defp phoenix? do
    with nil <- :persistent_term.get({__MODULE__, :phoenix?}, nil) do
      phoenix? = Code.ensure_loaded?(Phoenix)
      unless phoenix?, do: :persistent_term.put({__MODULE__, :phoenix?}, false)
      phoenix?
    end
  end

  @doc """
  `encoder`, extended by the forms of `plain/1`.

  For use as the encoder of `JSON.encode!/2` and inside `JSON.Encoder` implementations.
  """
  @spec encoder(JSON.encoder()) :: JSON.encoder()
  def encoder(encoder \\ &JSON.protocol_encode/2) do
    fn
      value, self when is_map(value) -> encoder.(plain!(value, JSON.Encoder), self)
      value, self -> encoder.(value, self)
    end
  end

  @doc """
  A struct with a form of its own here as a list or string; any other term as it is.

  `:error` for a map with keys that no JSON object can have. Raises for a struct whose fields were
  tampered with.
  """
  @spec plain(term()) :: {:ok, term()} | :error
  def plain(%MapSet{} = set), do: {:ok, MapSet.to_list(set)}
  def plain(%URI{} = uri), do: {:ok, URI.to_string(uri)}
  def plain(%Version{} = version), do: {:ok, Version.to_string(version)}
  def plain(%Duration{} = duration), do: {:ok, Duration.to_iso8601(duration)}
  # Its default notation, which stays short for huge exponents: a client may have chosen them.
  def plain(%{__struct__: Decimal} = decimal), do: {:ok, String.Chars.to_string(decimal)}
  def plain(%_{} = struct), do: {:ok, struct}

  def plain(map) when is_map(map),
    do: if(keys?(:maps.next(:maps.iterator(map)), map), do: {:ok, map}, else: :error)

  def plain(term), do: {:ok, term}

  @doc "As `plain/1`, raising the protocol's own exception for an impossible map."
  @spec plain!(term(), module()) :: term()
  def plain!(term, protocol) do
    case plain(term) do
      {:ok, plain} ->
        plain

      :error ->
        raise Protocol.UndefinedError,
          protocol: protocol,
          value: term,
          description:
            "the keys of a map must be strings, atoms or numbers, each with another text"
    end
  end

  defp keys?({key, _value, _next} = next, map) when is_binary(key), do: texts?(next, map)
  defp keys?({key, _value, _next} = next, map) when is_atom(key), do: atoms?(next, map)
  defp keys?(:none, _empty), do: true
  defp keys?(other_key, map), do: mixed?(other_key, map)

  defp texts?({key, _value, next}, map) when is_binary(key), do: texts?(:maps.next(next), map)
  defp texts?(:none, _map), do: true
  defp texts?(other_key, map), do: mixed?(other_key, map)

  defp atoms?({key, _value, next}, map) when is_atom(key), do: atoms?(:maps.next(next), map)
  defp atoms?(:none, _map), do: true
  defp atoms?(other_key, map), do: mixed?(other_key, map)

  defp mixed?({key, _value, next}, map) when is_key(key), do: mixed?(:maps.next(next), map)
  defp mixed?(:none, map), do: distinct?(map)
  defp mixed?(_other_key, _map), do: false

  defp distinct?(map),
    do: map |> Map.keys() |> MapSet.new(&key_text/1) |> MapSet.size() == map_size(map)

  defp key_text(key) when is_atom(key), do: Atom.to_string(key)
  defp key_text(key), do: to_string(key)

  @doc """
  Whether `json_library` (a module with `encode_to_iodata!/1`, such as `JSON` or `Jason`) can
  encode the term, or the path of the first value that it cannot encode.

      iex> check(Response.sync_response("r1", %{items: [%{owner: self()}]}), JSON)
      {:error, "result.items[0].owner"}

  A path begins with the field of the response, or with `value` for any other term. It is
  `response` where only an unknown library knows what is wrong.
  """
  @spec check(term(), json_library()) :: :ok | {:error, String.t()}
  def check(term, json_library) do
    case measure(term, json_library, :infinity) do
      {:ok, _bytes} -> :ok
      {:error, path, _value} -> {:error, path}
    end
  end

  @doc """
  The same, also with the value, and with the bytes that the JSON takes: exactly as `JSON` writes it, but for numbers of
  more than 18 digits and structs that only another library can encode. `:too_large` if these are
  more than `max`.
  """
  @spec measure(term(), json_library(), pos_integer() | :infinity) ::
          {:ok, non_neg_integer()} | {:error, :too_large} | {:error, String.t(), value :: term()}
  def measure(term, json_library, max) do
    case walk(term, 0, {json_library, max, Config.get(:request, :max_digits)}) do
      bytes when is_integer(bytes) and bytes > max -> {:error, :too_large}
      bytes when is_integer(bytes) -> encoded(term, json_library, bytes)
      {:bad, segments} -> {:error, path(segments, term), at(term, segments)}
      :too_large -> {:error, :too_large}
    end
  end

  defp encoded(_term, library, bytes) when library in [JSON, Jason, :configured],
    do: {:ok, bytes}

  defp encoded(term, library, bytes),
    do: if(encode(term, library), do: {:ok, bytes}, else: {:error, path([], term), term})

  # Runs for every reply, hence allocates nothing until something is wrong: a path is put
  # together on the way back up. `size` is that of what was before.
  defp walk(text, size, _how) when is_binary(text) do
    case text_size(text) do
      nil -> {:bad, []}
      bytes -> size + bytes
    end
  end

  defp walk(value, size, {_library, _max, digits}) when is_integer(value),
    do: if(Integers.short?(value, digits), do: size + Integers.width(value), else: {:bad, []})

  defp walk(value, size, _how) when value in [nil, true], do: size + 4
  defp walk(false, size, _how), do: size + 5

  defp walk(atom, size, how) when is_atom(atom), do: atom |> Atom.to_string() |> walk(size, how)

  defp walk(value, size, _how) when is_float(value),
    do: size + byte_size(:erlang.float_to_binary(value, [:short]))

  defp walk([], size, _how), do: size + 2
  defp walk(list, size, how) when is_list(list), do: walk_items(list, size + 1, how, 0)
  defp walk(%_{} = struct, size, how), do: walk_struct(struct, size, how)

  defp walk(map, size, _how) when map == %{}, do: size + 2

  defp walk(map, size, how) when is_map(map) do
    case :maps.next(:maps.iterator(map)) do
      {key, _value, _next} = next when is_binary(key) -> walk_texts(next, size + 1, how, map)
      {key, _value, _next} = next when is_atom(key) -> walk_atoms(next, size + 1, how, map)
      next -> walk_mixed(next, size + 1, how, map)
    end
  end

  defp walk(_value, _size, _how), do: {:bad, []}

  defp walk_items(_list, size, {_library, max, _digits}, _index) when size > max, do: :too_large

  # With a comma behind each, or the bracket.
  defp walk_items([item | rest], size, how, index) do
    case walk(item, size + 1, how) do
      {:bad, segments} -> {:bad, [index | segments]}
      :too_large -> :too_large
      size -> walk_items(rest, size, how, index + 1)
    end
  end

  defp walk_items([], size, _how, _index), do: size
  defp walk_items(_improper_tail, _size, _how, _index), do: {:bad, []}

  # Of keys of one kind no two have the same text, as "a" and :a have.
  for {walk_pairs, kind?} <- [walk_texts: :is_binary, walk_atoms: :is_atom, walk_mixed: :is_key] do
    defp unquote(walk_pairs)({_key, _value, _next}, size, {_library, max, _digits}, _map)
         when size > max,
         do: :too_large

    defp unquote(walk_pairs)({key, value, next}, size, how, map) when unquote(kind?)(key) do
      with size when is_integer(size) <- walk_key(key, size + 2, how),
           size when is_integer(size) <- walk(value, size, how) do
        unquote(walk_pairs)(:maps.next(next), size, how, map)
      else
        {:bad, segments} -> {:bad, [{:key, key} | segments]}
        :too_large -> :too_large
      end
    end
  end

  defp walk_texts(:none, size, _how, _map), do: size
  defp walk_texts(other_key, size, how, map), do: walk_mixed(other_key, size, how, map)
  defp walk_atoms(:none, size, _how, _map), do: size
  defp walk_atoms(other_key, size, how, map), do: walk_mixed(other_key, size, how, map)
  defp walk_mixed(:none, size, _how, map), do: if(distinct?(map), do: size, else: {:bad, []})
  defp walk_mixed(_other_key, _size, _how, _map), do: {:bad, []}

  # In quotation marks, whatever it is.
  defp walk_key(key, size, how) when is_number(key), do: walk(key, size + 2, how)

  defp walk_key(key, size, how) when is_atom(key),
    do: key |> Atom.to_string() |> walk(size, how)

  defp walk_key(key, size, how), do: walk(key, size, how)

  # Most texts are short and plain, and a native call takes as long as some twenty characters.
  defp text_size(text) when byte_size(text) <= 24, do: plain_size(text, 2) || native_size(text)
  defp text_size(text), do: native_size(text)

  defp plain_size(<<char, rest::binary>>, size)
       when char >= 0x20 and char < 0x80 and char != ?" and char != ?\\,
       do: plain_size(rest, size + 1)

  defp plain_size(<<>>, size), do: size
  defp plain_size(_text, _size), do: nil

  defp native_size(text) do
    with :out_of_budget <- Native.json_encoding_text_size(text),
         do: Native.json_encoding_text_size_dirty(text)
  end

  # Of most responses only these two are not known ahead.
  defp walk_struct(
         %Response{
           success: true,
           error: nil,
           async: async,
           can_retry: retry,
           has_more: more,
           request_id: id,
           result: result
         },
         size,
         how
       )
       when is_boolean(async) and is_boolean(retry) and is_boolean(more) do
    known = size + @success_bytes + boolean(async) + boolean(retry) + boolean(more)
    known |> field(:request_id, id, how) |> field(:result, result, how)
  end

  # What is not written need not be encodable.
  defp walk_struct(%Response{} = response, size, how),
    do: response |> Response.encode!() |> walk(size, how)

  # Dates are by far the most frequent structs: recognised by their fields instead of by a trial.
  defp walk_struct(
         %module{calendar: Calendar.ISO, year: year, month: month, day: day} = date,
         size,
         how
       )
       when module in [Date, NaiveDateTime, DateTime] and year in -9999..9999 and month in 1..12 and
              day in 1..31 do
    sign = if year < 0, do: 1, else: 0

    cond do
      module == Date -> size + sign + 12
      time?(date) -> size + sign + 12 + time_size(date)
      true -> trial(date, size, how)
    end
  end

  defp walk_struct(struct, size, how) do
    case plain(struct) do
      {:ok, ^struct} -> trial(struct, size, how)
      {:ok, plain} -> walk(plain, size, how)
    end
  rescue
    _tampered -> {:bad, []}
  end

  defp boolean(true), do: 4
  defp boolean(false), do: 5

  defp field(size, name, value, how) when is_integer(size) do
    with {:bad, segments} <- walk(value, size, how), do: {:bad, [{:key, name} | segments]}
  end

  defp field(failed, _name, _value, _how), do: failed

  defp time?(%{hour: h, minute: m, second: s, microsecond: {us, digits}} = time)
       when h in 0..23 and m in 0..59 and s in 0..59 and us in 0..999_999 and digits in 0..6,
       do: time.__struct__ == NaiveDateTime or offset?(time)

  defp time?(_time), do: false

  defp offset?(%{utc_offset: utc, std_offset: std, time_zone: zone}),
    do: is_integer(utc) and is_integer(std) and is_binary(zone)

  defp offset?(_time), do: false

  defp time_size(%{microsecond: {_us, digits}} = time),
    do: 9 + if(digits == 0, do: 0, else: digits + 1) + offset_size(time)

  defp offset_size(%{utc_offset: 0, std_offset: 0, time_zone: "Etc/UTC"}), do: 1
  defp offset_size(%{utc_offset: _offset}), do: 6
  defp offset_size(_naive), do: 0

  # Only the encoder of a struct knows what it makes of it.
  defp trial(struct, size, {library, _max, _digits}) do
    case encode(struct, library) do
      nil -> {:bad, []}
      json -> size + IO.iodata_length(json)
    end
  end

  @doc "The JSON of a term; nil if it has none."
  @spec encode(term(), json_library()) :: iodata() | nil
  def encode(term, :configured), do: encode(term, library())
  def encode(term, JSON), do: attempt(fn -> JSON.encode_to_iodata!(term, encoder()) end)
  def encode(term, library), do: attempt(fn -> library.encode_to_iodata!(term) end)

  defp attempt(encode) do
    encode.()
  rescue
    _exception -> nil
  catch
    _kind, _value -> nil
  end

  # The value of a path. Plain forms of structs are not worth it.
  defp at(map, [{:key, key} | rest]) when is_map_key(map, key), do: at(Map.fetch!(map, key), rest)
  defp at(list, [index | rest]) when is_list(list), do: at(Enum.at(list, index), rest)
  defp at(value, _end), do: value

  defp path([], %Response{}), do: "response"

  defp path([{:key, field} | segments], %Response{}),
    do: SafeInspect.truncate(Atom.to_string(field) <> Enum.map_join(segments, &segment/1))

  defp path(segments, _term),
    do: SafeInspect.truncate("value" <> Enum.map_join(segments, &segment/1))

  defp segment({:key, key}) when is_atom(key), do: segment({:key, Atom.to_string(key)})

  defp segment({:key, key}) do
    if is_binary(key) and Regex.match?(~r/\A[A-Za-z_][A-Za-z0-9_-]*\z/, key),
      do: "." <> key,
      else: "[" <> SafeInspect.inspect(key, 60) <> "]"
  end

  defp segment(index), do: "[" <> Integer.to_string(index) <> "]"
end

defimpl JSON.Encoder, for: PhoenixGenApi.Structs.Response do
  alias PhoenixGenApi.JsonEncoding

  def encode(response, encoder) do
    encoder = JsonEncoding.encoder(encoder)
    response = PhoenixGenApi.Structs.Response.complete(response)

    [
      ~s({"request_id":),
      encoder.(response.request_id, encoder),
      ~s(,"success":),
      encoder.(response.success, encoder),
      ~s(,"result":),
      encoder.(response.result, encoder),
      ~s(,"error":),
      encoder.(response.error, encoder),
      ~s(,"async":),
      encoder.(response.async, encoder),
      ~s(,"has_more":),
      encoder.(response.has_more, encoder),
      ~s(,"can_retry":),
      encoder.(response.can_retry, encoder),
      failure(response, encoder)
    ]
  end

  # A successful response has no other keys.
  defp failure(%{success: false, details: nil} = response, encoder),
    do: [~s(,"code":), encoder.(response.code, encoder), ?}]

  defp failure(%{success: false} = response, encoder) do
    [
      ~s(,"code":),
      encoder.(response.code, encoder),
      ~s(,"details":),
      encoder.(response.details, encoder),
      ?}
    ]
  end

  defp failure(_response, _encoder), do: ?}
end
