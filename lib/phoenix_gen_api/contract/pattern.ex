defmodule PhoenixGenApi.Contract.Pattern do
  @moduledoc false
  # The `format` of a string as a pattern of JSON Schema, that is, of ECMAScript with the flag `u`. The two
  # dialects differ in many places, and a pattern that means something else is worse than none: only what
  # certainly means the same is translated.
  #
  # Without the flag `u` a format sees bytes, and a pattern code points. They agree while nothing in the
  # format can match a part of a code point.

  # Perl's classes, in the tables of Unicode and in those of ASCII.
  @unicode %{
    ?d => "\\p{Nd}",
    ?w => "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}",
    ?s => "\\p{White_Space}"
  }
  @ascii %{?d => "0-9", ?w => "0-9A-Za-z_", ?s => "\\t-\\r "}

  @categories ~w(L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp)
  @syntax ~c"^$\\.*+?()[]{}|/"
  @controls ~c"nrtfv"

  @doc "The pattern of a format, or `:error` where there is none that certainly means the same."
  @spec ecma(String.t(), String.t()) :: {:ok, String.t()} | :error
  def ecma(source, flags) when flags in ["", "u"] do
    {:ok, source |> sequence(flags == "u", :none) |> IO.iodata_to_binary()}
  catch
    :no_counterpart -> :error
  end

  def ecma(_source, _other_flags), do: :error

  # `last` is what a quantifier would apply to.
  defp sequence("", _unicode?, _last), do: []
  defp sequence("(?:" <> rest, u, _last), do: ["(?:" | sequence(rest, u, :none)]
  defp sequence("(?" <> _rest, _u, _last), do: no_counterpart()
  defp sequence("(" <> rest, u, _last), do: ["(" | sequence(rest, u, :none)]
  defp sequence(")" <> rest, u, _last), do: [")" | sequence(rest, u, :atom)]

  defp sequence(<<char, rest::binary>>, u, _last) when char in ~c"^$|",
    do: [char | sequence(rest, u, :none)]

  # The other dialect leaves out more than the line feed.
  defp sequence("." <> rest, true, _last), do: ["[^\\n]" | sequence(rest, true, :atom)]

  defp sequence(<<char, rest::binary>>, u, :atom) when char in ~c"*+?",
    do: [char | lazy(rest, u)]

  defp sequence("{" <> _ = text, u, :atom) do
    case Regex.run(~r/\A\{[0-9]+(?:,[0-9]*)?\}/, text) do
      [times] -> [times | text |> after_prefix(times) |> lazy(u)]
      nil -> no_counterpart()
    end
  end

  defp sequence("[^" <> rest, true, _last), do: ["[^" | class(rest, true, :first)]
  defp sequence("[" <> rest, u, _last), do: ["[" | class(rest, u, :first)]

  defp sequence("\\" <> rest, u, _last) do
    case rest do
      <<char, rest::binary>> when char in ~c"dws" ->
        ["[", perl(char, u), "]" | sequence(rest, u, :atom)]

      <<char, rest::binary>> when char in ~c"DWS" and u ->
        ["[^", perl(char + 32, u), "]" | sequence(rest, u, :atom)]

      "b" <> rest when not u ->
        ["\\b" | sequence(rest, u, :none)]

      escape ->
        {text, rest} = escape(escape, u)
        [text | sequence(rest, u, :atom)]
    end
  end

  defp sequence(<<char, _rest::binary>>, _u, _last) when char in ~c".*+?{}]",
    do: no_counterpart()

  defp sequence(text, u, _last), do: literal(text, u, &sequence(&1, u, :atom))

  defp lazy("?" <> rest, u), do: ["?" | sequence(rest, u, :none)]
  defp lazy(rest, u), do: sequence(rest, u, :none)

  defp class("]" <> rest, u, :later), do: ["]" | sequence(rest, u, :atom)]

  defp class(<<two::2-bytes, _rest::binary>>, _u, _place) when two in ["&&", "--", "~~"],
    do: no_counterpart()

  defp class(<<char, _rest::binary>>, _u, _place) when char in ~c"[]^", do: no_counterpart()

  defp class(<<"\\", char, rest::binary>>, u, _place) when char in ~c"dws",
    do: [perl(char, u) | class(rest, u, :later)]

  defp class("\\-" <> rest, u, _place), do: ["\\-" | class(rest, u, :later)]

  defp class("\\" <> rest, u, _place) do
    {text, rest} = escape(rest, u)
    [text | class(rest, u, :later)]
  end

  defp class(text, u, _place), do: literal(text, u, &class(&1, u, :later))

  defp perl(char, true), do: Map.fetch!(@unicode, char)
  defp perl(char, false), do: Map.fetch!(@ascii, char)

  defp escape(<<char, rest::binary>>, _u) when char in @syntax or char in @controls,
    do: {["\\", char], rest}

  defp escape(<<p, "{", rest::binary>>, true) when p in ~c"pP" do
    with [name, rest] when name in @categories <- String.split(rest, "}", parts: 2) do
      {["\\", p, "{", name, "}"], rest}
    else
      _other_property -> no_counterpart()
    end
  end

  # Any other punctuation may be escaped for nothing in the one dialect, and must not in the other.
  defp escape(<<char, rest::binary>>, _u)
       when char in 0x20..0x7E and char not in ?0..?9 and char not in ?A..?Z and
              char not in ?a..?z and
              char not in ~c"<>",
       do: {[char], rest}

  defp escape(_other, _u), do: no_counterpart()

  defp literal(<<char, rest::binary>>, _u, go_on) when char < 0x80, do: [char | go_on.(rest)]
  defp literal(<<char::utf8, rest::binary>>, true, go_on), do: [<<char::utf8>> | go_on.(rest)]
  defp literal(_bytes, false, _go_on), do: no_counterpart()

  defp after_prefix(text, prefix),
    do: binary_part(text, byte_size(prefix), byte_size(text) - byte_size(prefix))

  @spec no_counterpart() :: no_return()
  defp no_counterpart, do: throw(:no_counterpart)
end
