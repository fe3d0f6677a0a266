defmodule PhoenixGenApi.Channel.OptionsTest do
  use ExUnit.Case, async: true
  alias PhoenixGenApi.Channel.Options

  defp compile(body) do
    name = "PhoenixGenApi.Compiled#{System.unique_integer([:positive])}"
    [{module, _} | _] = Code.compile_string("defmodule #{name} do\n#{body}\nend")

    ExUnit.Callbacks.on_exit(fn ->
      :code.purge(module)
      :code.delete(module)
    end)

    module
  end

  # Of this compilation alone.
  defp warnings(body) do
    {_module, said} = Code.with_diagnostics(fn -> compile(body) end)
    Enum.map_join(said, "\n", & &1.message)
  end

  test "the defaults are those of the documentation" do
    assert Options.new!([]) == %Options{
             event: "phoenix_gen_api",
             override_user_id: true,
             require_verified_user_id: false,
             trust_client_roles: false,
             deliver: :reply,
             concurrency: 1,
             max_pending: 100,
             max_running: 100
           }
  end

  test "an unknown option is a compile error that lists the known ones" do
    error = assert_raise CompileError, fn -> compile("use PhoenixGenApi, evnt: \"api\"") end
    assert error.line == 2

    assert Exception.message(error) =~
             "use PhoenixGenApi: unknown option :evnt, expected one of :event, :override_user_id"
  end

  test "a bad value is a compile error that says what was expected" do
    for {options, sentence} <- [
          {"event: :api", "event must be a non-empty string, got :api"},
          {"event: \"\"", "event must be a non-empty string"},
          {"override_user_id: nil", "override_user_id must be true or false, got nil"},
          {"require_verified_user_id: 1", "require_verified_user_id must be true or false"},
          {"trust_client_roles: \"yes\"", "trust_client_roles must be true or false"},
          {"deliver: :pull", "deliver must be :reply, :push or :both, got :pull"},
          {"concurrency: 0", "concurrency must be a positive integer, got 0"},
          {"concurrency: :infinity", "concurrency must be a positive integer"},
          {"max_pending: -1", "max_pending must be a non-negative integer, got -1"},
          {"relay_event: :message", "relay_event must be a non-empty string, got :message"},
          {"relay_request_id: nil", "relay_request_id must be true or false"},
          {"max_running: 1.5", "max_running must be a non-negative integer"},
          {"[:event]", "expected a keyword list of options, got [:event]"},
          {":api", "expected a keyword list of options, got :api"}
        ] do
      error = assert_raise CompileError, fn -> compile("use PhoenixGenApi, #{options}") end
      assert Exception.message(error) =~ "use PhoenixGenApi: " <> sentence
    end
  end

  test "ChannelHelpers knows the event and the way of relay messages only" do
    error =
      assert_raise CompileError, fn ->
        compile("use PhoenixGenApi.ChannelHelpers, concurrency: 2")
      end

    assert Exception.message(error) =~
             "use PhoenixGenApi.ChannelHelpers: unknown option :concurrency, expected one of :event, :relay"
  end

  test "options may be computed in the module" do
    module =
      compile("""
      @topic "shop"
      use PhoenixGenApi, event: @topic <> ":api"
      def own, do: @topic
      """)

    assert_raise FunctionClauseError, fn -> module.handle_in("api", %{}, %{}) end
    # It gets as far as asking the socket, which has not joined, for the address of a reply.
    assert_raise ArgumentError, fn ->
      module.handle_in("shop:api", %{}, %Phoenix.Socket{ref: "1"})
    end
  end

  test "a second use in one module is a compile error" do
    error =
      assert_raise CompileError, fn ->
        compile("use PhoenixGenApi\nuse PhoenixGenApi, event: \"b\"")
      end

    assert Exception.message(error) =~ "only once in a module"
  end

  test "a module that is not a channel compiles and has the clauses" do
    module = compile("use PhoenixGenApi")
    assert Enum.sort(module.__info__(:functions)) == [handle_in: 3, handle_info: 2]
    assert module.handle_info({:stream_started, "r", self()}, :state) == {:noreply, :state}
  end

  test "nothing is warned about, whatever clauses the module has" do
    channel = """
    use Phoenix.Channel
    @impl true
    def join(_, _, socket), do: {:ok, socket}
    """

    for body <- [
          "use PhoenixGenApi",
          "use PhoenixGenApi.ChannelHelpers",
          channel <> "use PhoenixGenApi",
          "use Phoenix.Channel\ndef join(_, _, socket), do: {:ok, socket}\nuse PhoenixGenApi",
          "use PhoenixGenApi\n" <> channel,
          channel <>
            """
            use PhoenixGenApi, event: "api"
            @impl true
            def handle_in("ping", _payload, socket), do: {:noreply, socket}
            @impl true
            def handle_info(message, socket) when message != :other, do: {:noreply, socket}
            def other, do: :ok
            """,
          channel <>
            """
            use PhoenixGenApi, event: "api"
            @impl true
            def handle_in(event, _payload, socket) when event != "x", do: {:noreply, socket}
            def other, do: :ok
            @impl true
            def handle_info(:tick, socket), do: {:noreply, socket}
            def another, do: :ok
            """,
          "use GenServer\ndef init(x), do: {:ok, x}\nuse PhoenixGenApi"
        ] do
      assert warnings(body) == ""
    end
  end

  test "no protocol is implemented for the module" do
    module = compile("use PhoenixGenApi")
    refute Code.ensure_loaded?(Module.concat(JSON.Encoder, module))
    refute Code.ensure_loaded?(Module.concat(Jason.Encoder, module))
  end
end
