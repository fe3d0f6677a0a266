defmodule PhoenixGenApi.DoctorTest do
  # A healthy cluster, as its nodes would describe it, and one fault after the other in it. That nodes describe
  # themselves in this way is in doctor_cluster_test.exs.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Doctor
  alias PhoenixGenApi.Test.Endpoint

  defp facts(node, mode) do
    %{
      node: node,
      mode: mode,
      production: true,
      versions: %{library: "0.1.0", protocols: [1], native: "n", system: "x86_64"},
      settings: %{
        client_mode: mode == :service,
        distributed: true,
        tls: true,
        short_cookie: false,
        push_token: true,
        admin_actions: [:push_config],
        mfa_allowlist: true,
        service_guard: true,
        detail_error: false,
        limiter: true,
        fail_open: false,
        limits: true,
        accept: :any
      },
      secrets: %{push_token: "hash"},
      connected: [:g@a, :s@a, :s@b] -- [node],
      functions: [],
      undefined: [],
      differing: [],
      rejected: 0,
      empty_services: [],
      wanted: [],
      refused: [],
      sockets: [],
      hidden: []
    }
  end

  defp cluster, do: [facts(:g@a, :gateway), facts(:s@a, :service), facts(:s@b, :service)]

  # The first of the nodes is the gateway, the second a service.
  defp at(cluster, index, path, value),
    do:
      List.update_at(
        cluster,
        index,
        &put_in(&1, Enum.map(path, fn key -> Access.key!(key) end), value)
      )

  defp found(cluster), do: cluster |> Enum.map(&{:ok, &1}) |> Doctor.diagnose()

  test "there is nothing wrong with a healthy cluster" do
    assert found(cluster()) == []
  end

  @socket %{endpoint: ShopWeb.Endpoint, path: "/s", peer_data: true, max_frame_bytes: 1_000_000}

  # {what is planted, on which node, where, value, what is found}
  @planted [
    {"a stopped application", 1, [:mode], :stopped, [:not_running]},
    {"a node out of reach", 0, [:wanted], [:x@a], [:unreachable]},
    {"a gateway that a service cannot reach", 1, [:wanted], [:g@b], [:unreachable]},
    {"two nodes without a connection", 1, [:connected], [:s@b], [:not_connected]},
    {"a missing function", 0, [:undefined], [{:s@a, "Shop.find/1"}], [:undefined_functions]},
    {"differing definitions", 0, [:differing], ["shop find 0.0.0"], [:differing_definitions]},
    {"a refused offer", 1, [:refused], [{:g@a, "shop", ["no"]}], [:refused_offer]},
    {"a service without a node", 0, [:empty_services], ["shop"], [:no_node]},
    {"rejected configs", 0, [:rejected], 2, [:rejected_configs]},
    {"another version of the library", 1, [:versions, :library], "0.2.0", [:library_versions]},
    {"another protocol", 1, [:versions, :protocols], [2], [:protocols]},
    {"another native library", 1, [:versions, :native], "m", [:native_versions]},
    {"another push token", 1, [:secrets, :push_token], "other", [:push_token]},
    {"no allowlist", 0, [:settings, :mfa_allowlist], false, [:no_allowlist]},
    {"no admin actions", 0, [:settings, :admin_actions], nil, [:no_admin_actions]},
    {"neither token nor accept", 0, [:settings, :push_token], false,
     [:open_offers, :open_pushes]},
    {"details for clients in production", 0, [:settings, :detail_error], true, [:detail_error]},
    {"a disabled limiter", 0, [:settings, :limiter], false, [:limiter_off]},
    {"no limits", 0, [:settings, :limits], false, [:no_limits]},
    {"a limiter that lets pass", 0, [:settings, :fail_open], true, [:fail_open]},
    {"a service without guard", 1, [:settings, :service_guard], false, [:guard_off]},
    {"no TLS", 1, [:settings, :tls], false, [:no_tls]},
    {"a short cookie", 0, [:settings, :short_cookie], true, [:short_cookie]},
    {"a socket without peer data", 0, [:sockets], [%{@socket | peer_data: false}],
     [:no_peer_data]},
    {"frames of any size", 0, [:sockets], [%{@socket | max_frame_bytes: :infinity}],
     [:unlimited_frames]},
    {"a hidden clause", 0, [:hidden], [{ShopWeb.Channel, :handle_info}], [:hidden_clauses]}
  ]

  for {name, index, path, value, ids} <- @planted do
    test "#{name} is found, and nothing else" do
      ids = unquote(ids)

      findings =
        cluster() |> at(unquote(index), unquote(path), unquote(Macro.escape(value))) |> found()

      assert Enum.map(findings, & &1.id) == ids

      for finding <- findings do
        assert finding.level in [:error, :warning]
        # It says what, why and what to do.
        assert [first, "  why: " <> why, "  do:  " <> fix | _] =
                 finding |> Doctor.format() |> String.split("\n")

        assert first =~ "#{finding.level}: "
        assert why != "" and fix != ""
      end
    end
  end

  test "details for clients are fine in development" do
    assert cluster()
           |> at(0, [:settings, :detail_error], true)
           |> at(0, [:production], false)
           |> found() == []
  end

  test "an unset token is one that differs, and no value is shown" do
    assert [%{what: what}] = cluster() |> at(1, [:secrets, :push_token], nil) |> found()
    assert what =~ "s@a"
    refute what =~ "hash"
  end

  test "errors come first" do
    levels =
      cluster()
      |> at(0, [:settings, :limits], false)
      |> at(0, [:rejected], 1)
      |> at(1, [:mode], :stopped)
      |> found()
      |> Enum.map(& &1.level)

    assert levels == [:error, :warning, :warning]
  end

  @hiding """
  defmodule PhoenixGenApi.DoctorTest.Hiding do
    use PhoenixGenApi, event: "api"
    def handle_info(_message, socket), do: {:noreply, socket}
  end
  """

  test "sockets and hidden clauses are read from endpoints and channels" do
    channels = [Endpoint.Channel]
    assert [bare, good] = Doctor.Phoenix.sockets([Endpoint], channels)
    assert %{path: "/bare", peer_data: false, max_frame_bytes: :infinity} = bare
    assert %{path: "/good", peer_data: true, max_frame_bytes: 5} = good
    assert Doctor.Phoenix.hidden(channels) == []

    ExUnit.CaptureIO.capture_io(:stderr, fn -> Code.compile_string(@hiding) end)
    hiding = PhoenixGenApi.DoctorTest.Hiding
    assert Doctor.Phoenix.hidden([Endpoint.Channel, hiding]) == [{hiding, :handle_info}]
  end
end
