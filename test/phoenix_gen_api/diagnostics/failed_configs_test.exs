defmodule PhoenixGenApi.Diagnostics.FailedConfigsTest do
  # The one log of failures, and standard output.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.Structs.FunConfig

  setup do
    ConfigFailed.clear()
    on_exit(&ConfigFailed.clear/0)
  end

  defp fail(service, type, source \\ :pull, node \\ nil) do
    config = %FunConfig{service: service, request_type: type, version: "1.0.0"}
    ConfigFailed.record(config, ["timeout must be 5", "mfa must be there"], source, node)
  end

  defp printed(fun) do
    {:ok, text} = with_io(fun)
    text
  end

  test "failed_configs returns the entries, with the options of the log" do
    fail("books", "find")
    fail("books", "buy")
    fail("users", "get", :push)

    types = fn options -> Enum.map(PhoenixGenApi.failed_configs(options), & &1.request_type) end
    assert Enum.map(PhoenixGenApi.failed_configs(), & &1.request_type) == ["get", "buy", "find"]
    assert types.(service: :books, order: :oldest_first) == ["find", "buy"]
    assert types.(source: :push) == ["get"]
    assert types.(limit: 1) == ["get"]
  end

  test "failed_configs_print shows each failure with every reason" do
    fail("books", "find", :pull, :books@h1)
    fail("books", "find", :pull, :books@h1)
    text = printed(fn -> PhoenixGenApi.failed_configs_print() end)

    assert text =~ "failed configs (1 of 1)"
    assert text =~ ~r/\d{4}-\d\d-\d\dT[\d:.]+Z books find 1.0.0 \(pull from books@h1, 2 times\)\n/
    assert text =~ "    timeout must be 5\n    mfa must be there"
  end

  test "failed_configs_print takes the options of the list, and says when there is nothing" do
    assert printed(fn -> PhoenixGenApi.failed_configs_print() end) =~ "(0 of 0)\n  none"
    fail("books", "find")
    fail("users", "get", :push)
    text = printed(fn -> PhoenixGenApi.failed_configs_print(service: "users") end)
    assert text =~ "(1 of 2)"
    assert text =~ "users get 1.0.0 (push)"
    refute text =~ "books"
  end

  test "failed_configs_print shows names as the terminal can take them" do
    fail("a\e[31m", "find")
    text = printed(fn -> PhoenixGenApi.failed_configs_print() end)
    refute text =~ "\e"
    assert text =~ ~S("a\e[31m")
  end

  test "failed_configs_summary counts by source and service" do
    fail("books", "find")
    fail("books", "buy", :push)
    fail(nil, "get", :direct)
    text = printed(fn -> PhoenixGenApi.failed_configs_summary() end)
    assert text =~ "failed configs: 3\n  pull: 1, push: 1, offer: 0, direct: 1"
    assert text =~ "books: 2"
    assert text =~ "(no service): 1"
    assert text =~ ~r/oldest: \S+Z\n  newest: \S+Z/
  end

  test "failed_configs_summary of nothing says so" do
    assert printed(fn -> PhoenixGenApi.failed_configs_summary() end) ==
             "failed configs: 0\n  none\n"
  end

  test "clear_failed_configs forgets all of them, cleanup_failed_configs those that expired" do
    fail("books", "find")
    assert PhoenixGenApi.cleanup_failed_configs() == 0
    assert length(PhoenixGenApi.failed_configs()) == 1
    assert PhoenixGenApi.clear_failed_configs() == :ok
    assert PhoenixGenApi.failed_configs() == []
  end
end
