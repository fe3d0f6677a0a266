defmodule PhoenixGenApi.JsonEncoding do
  @moduledoc false
  # What may go into JSON, for all JSON libraries alike: see PhoenixGenApi.Structs.Response.
  #
  # `plain/1` is that rule for one level. The encoders apply it while they descend, and check/2
  # applies it ahead of them, so that neither can accept what the other refuses.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Integers
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.Response

  @type json_library :: module()

  defguardp is_key(key) when is_binary(key) or is_atom(key) or is_number(key)

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
    do: if(keys?(:maps.next(:maps.iterator(map))), do: {:ok, map}, else: :error)

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
          description: "the keys of a map must be strings, atoms or numbers"
    end
  end

  defp keys?({key, _value, next}) when is_key(key), do: keys?(:maps.next(next))
  defp keys?(:none), do: true
  defp keys?(_other_key), do: false

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
    case bad(term, json_library) do
      :ok when json_library in [JSON, Jason] -> :ok
      :ok -> if encodes?(term, json_library), do: :ok, else: {:error, path([], term)}
      {:bad, segments} -> {:error, path(segments, term)}
    end
  end

  # Runs for every reply, hence allocates nothing until something is wrong: a path is put
  # together on the way back up.
  defp bad(text, _library) when is_binary(text),
    do: if(String.valid?(text, :fast_ascii), do: :ok, else: {:bad, []})

  defp bad(value, _library) when is_float(value) or is_atom(value), do: :ok

  defp bad(value, _library) when is_integer(value) do
    if Integers.short?(value, Config.get(:request, :max_digits)), do: :ok, else: {:bad, []}
  end

  defp bad(list, library) when is_list(list), do: bad_item(list, library, 0)
  defp bad(%_{} = struct, library), do: bad_struct(struct, library)
  defp bad(map, library) when is_map(map), do: bad_pair(:maps.next(:maps.iterator(map)), library)
  defp bad(_value, _library), do: {:bad, []}

  defp bad_item([item | rest], library, index) do
    case bad(item, library) do
      :ok -> bad_item(rest, library, index + 1)
      {:bad, segments} -> {:bad, [index | segments]}
    end
  end

  defp bad_item([], _library, _index), do: :ok
  defp bad_item(_improper_tail, _library, _index), do: {:bad, []}

  defp bad_pair({key, value, next}, library) when is_key(key) do
    with :ok <- bad(key, library), :ok <- bad(value, library) do
      bad_pair(:maps.next(next), library)
    else
      {:bad, segments} -> {:bad, [{:key, key} | segments]}
    end
  end

  defp bad_pair(:none, _library), do: :ok
  defp bad_pair(_other_key, _library), do: {:bad, []}

  defp bad_struct(%Response{success: false} = response, library),
    do: response |> Response.encode!() |> bad(library)

  # What is not written need not be encodable.
  defp bad_struct(%Response{} = response, library),
    do: %{response | code: nil, details: nil} |> Map.from_struct() |> bad(library)

  # Dates are by far the most frequent structs: recognised by their fields instead of by a trial.
  defp bad_struct(
         %module{calendar: Calendar.ISO, year: year, month: month, day: day} = date,
         library
       )
       when module in [Date, NaiveDateTime, DateTime] and year in -9999..9999 and month in 1..12 and
              day in 1..31 do
    if module == Date or time?(date), do: :ok, else: bad_trial(date, library)
  end

  defp bad_struct(struct, library) do
    case plain(struct) do
      {:ok, ^struct} -> bad_trial(struct, library)
      {:ok, plain} -> bad(plain, library)
    end
  rescue
    _tampered -> {:bad, []}
  end

  defp time?(%{hour: h, minute: m, second: s, microsecond: {us, digits}} = time)
       when h in 0..23 and m in 0..59 and s in 0..59 and us in 0..999_999 and digits in 0..6,
       do: time.__struct__ == NaiveDateTime or offset?(time)

  defp time?(_time), do: false

  defp offset?(%{utc_offset: utc, std_offset: std, time_zone: zone}),
    do: is_integer(utc) and is_integer(std) and is_binary(zone)

  defp offset?(_time), do: false

  # Only the encoder of a struct knows what it makes of it.
  defp bad_trial(struct, library), do: if(encodes?(struct, library), do: :ok, else: {:bad, []})

  defp encodes?(term, library) do
    case library do
      JSON -> JSON.encode_to_iodata!(term, encoder())
      library -> library.encode_to_iodata!(term)
    end

    true
  rescue
    _exception -> false
  catch
    _kind, _value -> false
  end

  @doc "The response, or an error in its place when it cannot be written as JSON."
  @spec encodable(term(), module()) :: term()
  def encodable(payload, json_library) do
    case check(payload, json_library) do
      :ok -> payload
      {:error, path} -> not_encodable(payload, path)
    end
  end

  @doc "What is sent in the place of something that cannot be encoded, because of that path."
  @spec not_encodable(term(), String.t() | nil) :: Response.t()
  def not_encodable(payload, path \\ nil) do
    ErrorResponse.build(request_id(payload), {:not_encodable, path})
  end

  defp request_id(%{request_id: id}) when is_binary(id), do: if(String.valid?(id), do: id)
  defp request_id(_payload), do: nil

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
