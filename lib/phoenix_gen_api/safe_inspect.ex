defmodule PhoenixGenApi.SafeInspect do
  @moduledoc false
  # Terms and texts in messages, cut to a size that does not depend on what a client sent:
  # the work is bounded as well as the text.

  import Bitwise, only: [&&&: 2, |||: 2]
  import Inspect.Algebra, only: [string: 1]

  @max_bytes 500
  @max_name_bytes 100
  # Writing an integer in decimal takes time quadratic in its length: eight seconds for the
  # million digits that fit into one payload. Integers beyond this are named by their size.
  @max_integer Integer.pow(10, 100)

  @doc "`inspect/2` of any term on one line, cut at `max_bytes`; always valid UTF-8."
  @spec inspect(term(), pos_integer()) :: String.t()
  def inspect(term, max_bytes \\ @max_bytes) do
    text = inspect_limited(term, max_bytes, [])

    # A struct that is not what its module takes it for prints as an error of several lines.
    text = if text =~ "\n", do: inspect_limited(term, max_bytes, structs: false), else: text
    truncate(text, max_bytes)
  end

  defp inspect_limited(term, max_bytes, opts) do
    # An item prints at least one byte, so no more items than bytes can matter. Lists of
    # numbers stay such: a long one that begins like text makes `inspect/2` raise.
    Kernel.inspect(
      term,
      [
        limit: max_bytes,
        printable_limit: max_bytes,
        width: :infinity,
        charlists: :as_lists,
        inspect_fun: &inspect_small/2
      ] ++ opts
    )
  end

  @doc "What a caught `kind` and `reason` say: an exception's message, else the inspected term."
  @spec reason(:error | :exit | :throw, term()) :: String.t()
  def reason(:error, reason), do: :error |> Exception.normalize(reason) |> message()
  def reason(_kind, reason) when is_exception(reason), do: message(reason)
  def reason(_kind, reason), do: __MODULE__.inspect(reason)

  @doc """
  The same with the stacktrace, which names the function that is undefined or has no clause.

  Nothing else is read of it: it may come from another node, and some errors of the VM name in theirs a
  function that words them.
  """
  @spec reason(:error | :exit | :throw, term(), Exception.stacktrace()) :: String.t()
  def reason(:error, :undef, [{module, function, arguments, _location} | _])
      when is_atom(module) and is_atom(function),
      do: "function #{mfa(module, function, arguments)} is undefined"

  def reason(:error, :function_clause, [{module, function, arguments, _location} | _])
      when is_atom(module) and is_atom(function),
      do: "no function clause matching in #{mfa(module, function, arguments)}"

  def reason(kind, reason, _stack), do: reason(kind, reason)

  @doc "A function of a stacktrace by its name and arity, whatever stands there for its arguments."
  @spec mfa(module(), atom(), term()) :: String.t()
  def mfa(module, function, arguments) when is_list(arguments),
    do: mfa(module, function, if(List.improper?(arguments), do: 0, else: length(arguments)))

  def mfa(module, function, arity) when is_integer(arity) and arity in 0..255,
    do: module |> Exception.format_mfa(function, arity) |> truncate()

  def mfa(module, function, _malformed), do: mfa(module, function, 0)

  @doc "The text, cut at `max_bytes` and never inside a character."
  @spec truncate(String.t(), pos_integer()) :: String.t()
  def truncate(text, max_bytes \\ @max_bytes)
  def truncate(text, max_bytes) when byte_size(text) <= max_bytes, do: text
  def truncate(text, max_bytes), do: text |> binary_part(0, max_bytes) |> whole_characters()

  @doc "A text from outside: cut where it is UTF-8, else inspected."
  @spec text(binary(), pos_integer()) :: String.t()
  def text(text, max_bytes \\ @max_bytes),
    do:
      if(String.valid?(text),
        do: truncate(text, max_bytes),
        else: __MODULE__.inspect(text, max_bytes)
      )

  @doc "The first sentences, joined, and how many there are besides."
  @spec list([String.t()], pos_integer()) :: String.t()
  def list(sentences, max_sentences) do
    {shown, more} = Enum.split(sentences, max_sentences)
    more = if more == [], do: [], else: ["and #{length(more)} more"]
    Enum.join(shown ++ more, "; ")
  end

  @doc "Text that is safe for a terminal: inspected if it has control characters or line breaks."
  @spec printable(binary()) :: String.t()
  def printable(text) do
    if plain?(text), do: text, else: __MODULE__.inspect(text)
  end

  @doc "A short name that is safe for a terminal, whoever chose it."
  @spec name(term()) :: String.t()
  def name(name) when is_binary(name), do: name |> printable() |> truncate(@max_name_bytes)
  def name(name), do: __MODULE__.inspect(name, @max_name_bytes)

  @doc """
  A text on one line that is safe in a log and on a terminal: control and format characters, line
  separators and whatever is not UTF-8 are written as escapes. Not cut.

      iex> PhoenixGenApi.SafeInspect.one_line("r1\\n12:00 [error] forged\\e[31m")
      "r1\\\\n12:00 [error] forged\\\\e[31m"
  """
  @spec one_line(binary()) :: String.t()
  def one_line(text) do
    if ascii?(text) or plain?(text), do: text, else: escape(text, [])
  end

  # Ids are, in all requests. Seven characters at a time, which is what fits a small integer: whether
  # one of them is beyond ASCII, below the space or a delete shows in its highest bit.
  defp ascii?(<<chars::56, rest::binary>>)
       when ((chars ||| chars - 0x20202020202020 ||| chars + 0x01010101010101) &&&
               0x80808080808080) == 0,
       do: ascii?(rest)

  defp ascii?(<<_chars::56, _rest::binary>>), do: false
  defp ascii?(rest), do: ascii_char?(rest)

  defp ascii_char?(<<char, rest::binary>>) when char in 0x20..0x7E, do: ascii_char?(rest)
  defp ascii_char?(rest), do: rest == ""

  # Nearly every text is: no look at each character then.
  defp plain?(text),
    do: String.valid?(text) and not Regex.match?(~r/[\p{C}\p{Zl}\p{Zp}]/u, text)

  defp escape(<<char::utf8, rest::binary>>, done), do: escape(rest, [done, escaped(char)])
  defp escape(<<byte, rest::binary>>, done), do: escape(rest, [done, hex("\\x", byte, 2)])
  defp escape(<<>>, done), do: IO.iodata_to_binary(done)

  defp escaped(?\n), do: "\\n"
  defp escaped(?\r), do: "\\r"
  defp escaped(?\t), do: "\\t"
  defp escaped(?\e), do: "\\e"

  defp escaped(char) do
    text = <<char::utf8>>

    cond do
      plain?(text) -> text
      char < 0x100 -> hex("\\x", char, 2)
      true -> [hex("\\x{", char, 4), ?}]
    end
  end

  defp hex(prefix, number, digits),
    do: prefix <> (number |> Integer.to_string(16) |> String.pad_leading(digits, "0"))

  defp message(exception), do: exception |> Exception.message() |> text()

  # The cut may fall inside a character, whose first bytes must not stay behind.
  defp whole_characters(text) do
    case :unicode.characters_to_binary(text) do
      valid when is_binary(valid) -> valid
      {_incomplete_or_error, valid, _rest} -> valid
    end
  end

  defp inspect_small(integer, _opts)
       when is_integer(integer) and (integer > @max_integer or integer < -@max_integer) do
    string("#Integer<#{:erlang.external_size(integer)} bytes>")
  end

  defp inspect_small(term, opts), do: Inspect.inspect(term, opts)
end
