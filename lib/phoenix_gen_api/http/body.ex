defmodule PhoenixGenApi.Http.Body do
  @moduledoc false
  # Decodes request bodies: the one place where JSON of a client is decoded. Their size has been checked.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Errors.DecodeError

  @type decoded :: {:ok, map()} | {:error, DecodeError.t()}

  @doc "The arguments in a body; none in an empty one."
  @spec decode(binary(), module()) :: decoded()
  def decode(body, json_library) do
    max = Config.get(:request, :max_digits)

    cond do
      body == "" -> {:ok, %{}}
      not String.valid?(body) -> invalid("the body must be UTF-8")
      long_number?(body, max) -> invalid("the body has a number of more than #{max} digits")
      true -> object(parse(body, json_library))
    end
  end

  @doc "The same for what a parser ahead of this library has made of a body."
  @spec decoded(term()) :: decoded()
  # Plug's parser has put something other than an object there.
  def decoded(%{"_json" => other} = body) when map_size(body) == 1 and not is_map(other),
    do: object({:ok, other})

  def decoded(body), do: object({:ok, body})

  defp object({:ok, object}) when is_non_struct_map(object), do: {:ok, object}
  defp object({:ok, _other}), do: invalid("the body must be a JSON object")
  defp object(_error), do: invalid("the body must be JSON")

  defp parse(body, json_library) do
    json_library.decode(body)
  catch
    # A number that no float can hold, for example.
    _kind, _reason -> :error
  end

  defp invalid(message), do: {:error, DecodeError.exception(:invalid_payload, message)}

  # A JSON library makes an integer of as many digits as there are, which takes it seconds for some
  # hundred thousand. So many digits in a row cover a byte at a multiple of their number, and only there
  # has one to look.
  defp long_number?(body, max), do: digits_at?(body, max, max) and run?(body, max, 0)

  defp digits_at?(body, at, _max) when at >= byte_size(body), do: false

  defp digits_at?(body, at, max) do
    if :binary.at(body, at) in ?0..?9 and around(body, at) > max,
      do: true,
      else: digits_at?(body, at + max, max)
  end

  defp around(body, at), do: backward(body, at - 1, 0) + forward(body, at, 0)

  defp backward(body, at, count) when at >= 0 do
    if :binary.at(body, at) in ?0..?9, do: backward(body, at - 1, count + 1), else: count
  end

  defp backward(_body, _before, count), do: count

  defp forward(body, at, count) when at < byte_size(body) do
    if :binary.at(body, at) in ?0..?9, do: forward(body, at + 1, count + 1), else: count
  end

  defp forward(_body, _beyond, count), do: count

  # They may stand in a string, which may be as long as it likes.
  defp run?(_rest, max, count) when count > max, do: true
  defp run?(<<?", rest::binary>>, max, _count), do: string(rest, max)

  defp run?(<<char, rest::binary>>, max, count),
    do: run?(rest, max, if(char in ?0..?9, do: count + 1, else: 0))

  defp run?(<<>>, _max, _count), do: false

  defp string(<<?\\, _escaped, rest::binary>>, max), do: string(rest, max)
  defp string(<<?", rest::binary>>, max), do: run?(rest, max, 0)
  defp string(<<_char, rest::binary>>, max), do: string(rest, max)
  defp string(<<>>, _max), do: false
end
