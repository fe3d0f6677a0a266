# The one place that asks whether Jason is there.
if Code.ensure_loaded?(Jason.Encoder) do
  defmodule PhoenixGenApi.JasonEncoding do
    @moduledoc false
    # PhoenixGenApi.JsonEncoding for Jason, which offers no way to take part in its descent into
    # lists and maps. So this descends by itself and leaves everything else to Jason.

    alias PhoenixGenApi.JsonEncoding

    @doc "The JSON of a term, as iodata. For use inside `Jason.Encoder` implementations."
    @spec encode(term(), Jason.Encode.opts()) :: iodata()
    def encode([], _opts), do: "[]"
    def encode([item | rest], opts), do: [?[, encode(item, opts) | items(rest, opts)]

    def encode(value, opts) when is_map(value) do
      case JsonEncoding.plain!(value, Jason.Encoder) do
        %_{} = struct -> Jason.Encode.value(struct, opts)
        map when is_map(map) -> pairs(:maps.next(:maps.iterator(map)), ?{, opts)
        plain -> encode(plain, opts)
      end
    end

    def encode(value, opts), do: Jason.Encode.value(value, opts)

    defp items([item | rest], opts), do: [?,, encode(item, opts) | items(rest, opts)]
    defp items([], _opts), do: [?]]
    # Jason has no clause for an improper list either, but only a protocol error is an `:error`
    # of Jason.encode/1.
    defp items(tail, _opts) do
      raise Protocol.UndefinedError,
        protocol: Jason.Encoder,
        value: tail,
        description: "an improper list cannot be encoded"
    end

    defp pairs({key, value, next}, separator, opts) do
      [
        separator,
        Jason.Encode.string(key(key), opts),
        ?:,
        encode(value, opts) | pairs(:maps.next(next), ?,, opts)
      ]
    end

    defp pairs(:none, ?{, _opts), do: "{}"
    defp pairs(:none, ?,, _opts), do: [?}]

    defp key(key) when is_atom(key), do: Atom.to_string(key)
    defp key(key), do: to_string(key)
  end

  defimpl Jason.Encoder, for: PhoenixGenApi.Structs.Response do
    alias PhoenixGenApi.JasonEncoding

    # Field by field, as with JSON.Encoder: a map would be walked and each key checked.
    def encode(response, opts) do
      response = PhoenixGenApi.Structs.Response.complete(response)

      [
        ~s({"request_id":),
        JasonEncoding.encode(response.request_id, opts),
        ~s(,"success":),
        JasonEncoding.encode(response.success, opts),
        ~s(,"result":),
        JasonEncoding.encode(response.result, opts),
        ~s(,"error":),
        JasonEncoding.encode(response.error, opts),
        ~s(,"async":),
        JasonEncoding.encode(response.async, opts),
        ~s(,"has_more":),
        JasonEncoding.encode(response.has_more, opts),
        ~s(,"can_retry":),
        JasonEncoding.encode(response.can_retry, opts),
        failure(response, opts)
      ]
    end

    # A successful response has no other keys.
    defp failure(%{success: false, details: nil} = response, opts),
      do: [~s(,"code":), JasonEncoding.encode(response.code, opts), ?}]

    defp failure(%{success: false} = response, opts) do
      [
        ~s(,"code":),
        JasonEncoding.encode(response.code, opts),
        ~s(,"details":),
        JasonEncoding.encode(response.details, opts),
        ?}
      ]
    end

    defp failure(_response, _opts), do: ?}
  end
end
