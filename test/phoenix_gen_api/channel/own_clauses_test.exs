defmodule PhoenixGenApi.Channel.OwnClausesTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Relay.Fastlane

  # A channel with those clauses, and what its compilation says.
  defp compile(clauses, options \\ []) do
    name = "OwnClausesTest.Channel#{System.unique_integer([:positive])}"

    code = """
    defmodule #{name} do
      use Phoenix.Channel
      use PhoenixGenApi, #{inspect([event: "chat"] ++ options)}
      def join(_topic, _params, socket),
        do: {:ok, PhoenixGenApi.Relay.Fastlane.joining(self()), socket}
      #{clauses}
    end
    """

    {[{module, _beam} | _], said} = Code.with_diagnostics(fn -> Code.compile_string(code) end)
    {module, Enum.map_join(said, "\n", &"#{&1.message}, line #{line(&1.position)}")}
  end

  defp line({line, _column}), do: line
  defp line(line), do: line

  # Whether groups that are joined in `join/3` send past the channel.
  defp fastlane?({module, _said}) do
    socket = %Phoenix.Socket{serializer: __MODULE__, topic: "t", transport_pid: self()}

    Task.async(fn ->
      {:ok, {_pid, _to, lane}, _socket} = module.join("t", %{}, socket)
      # Only for what join/3 itself calls.
      assert {_pid, _to, ""} = Fastlane.joining(self())
      lane != ""
    end)
    |> Task.await(:infinity)
  end

  describe "relay: :auto" do
    test "is the default, and means the fastlane where no clause could take a relay message" do
      for clauses <- [
            "",
            "def handle_info(:tick, socket), do: {:noreply, socket}",
            "def handle_info({:tick, _n}, socket), do: {:noreply, socket}",
            "def handle_info({:relay_message, _n, _m}, socket), do: {:noreply, socket}",
            "def handle_info({1, _n}, socket), do: {:noreply, socket}",
            ~s|def handle_info("x" <> _rest, socket), do: {:noreply, socket}|,
            "def handle_info(%{} = _map, socket), do: {:noreply, socket}",
            "def handle_info(%Date{}, socket), do: {:noreply, socket}",
            "def handle_info([_one], socket), do: {:noreply, socket}",
            "def handle_info({:DOWN, _, :process, _, _}, socket), do: {:noreply, socket}",
            "def handle_info({:tick, _} = m, socket) when m != nil, do: {:noreply, socket}",
            "def handle_info({{:relay_message, _}, _}, socket), do: {:noreply, socket}"
          ] do
        assert fastlane?(compile(clauses)), clauses
      end
    end

    test "leaves messages to a clause that could take them, whatever its guards" do
      for clauses <- [
            "def handle_info({:relay_message, r}, socket), do: push(socket, \"c\", r)",
            "def handle_info({:relay_message, %{success: true}}, s), do: {:noreply, s}",
            "def handle_info({tag, _r}, s) when tag == :tick, do: {:noreply, s}",
            "def handle_info({_, _} = m, s) when m == 1, do: {:noreply, s}",
            "def handle_info(m, s) when is_pid(m), do: {:noreply, s}",
            "def handle_info(m, s), do: PhoenixGenApi.Channel.handle_info(m, s, event: \"chat\")",
            "def handle_info(:a, s), do: {:noreply, s}\ndef handle_info({_, %{}}, s), do: {:noreply, s}"
          ] do
        refute fastlane?(compile(clauses)), clauses
      end
    end

    test "gives way to what is written, and to request ids of their own" do
      own = "def handle_info({:relay_message, r}, socket), do: push(socket, \"c\", r)"
      assert fastlane?(compile(own, relay: :fastlane))
      refute fastlane?(compile("", relay: :channel))
      refute fastlane?(compile("", relay: :auto, relay_request_id: false))
    end
  end

  describe "a clause that takes everything" do
    test "is a warning, unless it asks the library" do
      {_module, said} = compile("def handle_info(_message, socket), do: {:noreply, socket}")
      assert said =~ "this clause of handle_info/2 matches everything"
      assert said =~ "Call PhoenixGenApi.Channel.handle_info/3 in it"
      assert said =~ "line 6"

      {_module, said} = compile("def handle_in(_event, _p, socket), do: {:noreply, socket}")
      assert said =~ "this clause of handle_in/3 matches everything"
      assert said =~ "Call PhoenixGenApi.Channel.handle_in/3 in it"

      for clauses <- [
            "def handle_info(m, s), do: PhoenixGenApi.Channel.handle_info(m, s, event: \"chat\")",
            """
            alias PhoenixGenApi.Channel, as: Api
            def handle_info(m, s) do
              with :unhandled <- Api.handle_info(m, s, event: "chat"), do: {:noreply, s}
            end
            """,
            "def handle_in(_e, p, s), do: PhoenixGenApi.Channel.handle_in(p, s, event: \"x\")",
            "def handle_in(_event, %{\"x\" => _}, s), do: {:noreply, s}",
            "def handle_info(m, s) when is_atom(m), do: {:noreply, s}",
            "def handle_info(:tick, s), do: {:noreply, s}"
          ] do
        assert {_module, ""} = compile(clauses)
      end
    end
  end
end
