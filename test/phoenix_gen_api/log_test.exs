defmodule PhoenixGenApi.LogTest do
  # Captures the log, which is everybody's.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.Log

  require Log

  @forged "r1\n12:00:00 [error] forged\e[31m\r\u2028\u202E\0" <> <<255>>

  defp lines(fun), do: fun |> capture_log() |> String.split("\n", trim: true)

  test "a message from outside is one line without control characters" do
    assert [line] =
             lines(fn -> Log.warning(["request ", @forged]) end) |> Enum.filter(&(&1 =~ "r1"))

    assert line =~ ~S(r1\n12:00:00 [error] forged\e[31m\r\x{2028}\x{202E}\x00\xFF)
  end

  test "a stacktrace shows the number of arguments, and nothing of a frame leaves its line" do
    stack = [
      {String, :to_integer, ["hunter2"], [file: ~c"lib/a.ex", line: 3]},
      {:"mod\nule", :"f\e", 1, [file: ~c"b\n[error] forged.ex", line: 4]},
      {fn -> 1 end, ["hunter2"], []}
    ]

    text = Log.text({"raised", stack})
    assert [_raised, first, second, third] = String.split(text, "\n")
    assert first =~ "lib/a.ex:3: String.to_integer/1"
    assert second =~ ~S(b\n[error] forged.ex:4)
    assert third =~ ~s(in PhoenixGenApi.LogTest) and String.ends_with?(third, "/1")
    refute text =~ "hunter2"
    refute text =~ "\e"
  end

  test "a message is put together only where its level is on" do
    test = self()

    Logger.put_module_level([__MODULE__, Log], :error)
    on_exit(fn -> Logger.delete_module_level([__MODULE__, Log]) end)
    Log.info(send(test, :built) && "x")
    Log.at(:debug, fn -> send(test, :built) && "x" end)
    refute_received :built
  end

  test "nothing else in the library writes to the log" do
    sources =
      for path <- Path.wildcard("lib/**/*.ex"), path != "lib/phoenix_gen_api/log.ex", do: path

    assert length(sources) > 100

    found =
      for path <- sources,
          {line, number} <- path |> File.read!() |> String.split("\n") |> Enum.with_index(1),
          line =~ ~r/Logger\.(error|warning|warn|notice|info|debug|log|bare_log)\b/,
          not (line =~ ~r/^\s*(Logger\.info\("unknown message"\))$/),
          do: "#{path}:#{number}"

    assert found == []
  end
end
