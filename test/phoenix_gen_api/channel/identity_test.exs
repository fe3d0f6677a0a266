defmodule PhoenixGenApi.Channel.IdentityTest do
  # Counts lines of the log, which is everybody's.
  use PhoenixGenApi.ChannelCase, async: false
  import ExUnit.CaptureLog

  defmodule Api do
    use PhoenixGenApi, event: "api"
  end

  defmodule Verified do
    use PhoenixGenApi, event: "api", require_verified_user_id: true
  end

  defmodule VerifiedClient do
    use PhoenixGenApi, event: "api", require_verified_user_id: true, override_user_id: false
  end

  defmodule Client do
    use PhoenixGenApi, event: "api", override_user_id: false
  end

  defmodule TrustingClient do
    use PhoenixGenApi, event: "api", override_user_id: false, trust_client_roles: true
  end

  defmodule Trusting do
    use PhoenixGenApi, event: "api", trust_client_roles: true
  end

  @claims %{
    "user_id" => "mallory",
    "user_roles" => ["admin"],
    "device_id" => "phone",
    "ip_address" => "6.6.6.6"
  }

  setup %{service: service} do
    register(service, "whoami", request_info: true)
  end

  defp seen(service, module, assigns, claims \\ @claims) do
    channel = join(module, assigns)
    ref = push_in(channel, payload(service, "whoami", "r1", claims))
    assert_receive {:reply, ^ref, status, response}
    if status == :ok, do: response.result, else: response
  end

  test "the user is the socket's and what the client claims is dropped", %{service: service} do
    assert %{user_id: "ann"} = seen(service, Api, %{user_id: "ann"})
    assert %{user_id: nil} = seen(service, Api, %{})
  end

  test "a claim that is dropped need not be valid", %{service: service} do
    claims = %{"user_id" => 5, "ip_address" => [], "device_id" => %{}, "user_roles" => 1}
    assigns = %{user_id: "ann", device_id: "desk"}
    assert %{user_id: "ann", device_id: "desk"} = seen(service, Api, assigns, claims)
  end

  test "claims under atom keys are dropped as well", %{service: service} do
    claims = %{user_id: "mallory", user_roles: ["admin"], ip_address: "6.6.6.6"}
    assert %{user_id: nil, user_roles: nil, ip_address: nil} = seen(service, Api, %{}, claims)
  end

  test "without override_user_id the user is the client's", %{service: service} do
    assert %{user_id: "mallory"} = seen(service, Client, %{user_id: "ann"})
    assert %{user_id: nil} = seen(service, Client, %{user_id: "ann"}, %{})
  end

  test "roles are the socket's, atoms as strings", %{service: service} do
    assigns = %{user_roles: [:admin, "staff", nil, "", 5, true]}
    assert %{user_roles: ["admin", "staff"]} = seen(service, Api, assigns)
    assert %{user_roles: ["admin", "staff"]} = seen(service, TrustingClient, assigns)
    assert %{user_roles: []} = seen(service, TrustingClient, %{user_roles: []})
  end

  test "roles of the client count only with trust_client_roles and without override_user_id",
       %{service: service} do
    assert %{user_roles: nil} = seen(service, Api, %{})
    assert %{user_roles: nil} = seen(service, Client, %{})
    assert %{user_roles: nil} = seen(service, Trusting, %{})
    assert %{user_roles: ["admin"]} = seen(service, TrustingClient, %{})
  end

  test "roles of the socket are a list, a set, an atom or a string", %{service: service} do
    for roles <- ["admin", :admin, ["admin"], MapSet.new(["admin"]), MapSet.new([:admin])] do
      assert %{user_roles: ["admin"]} = seen(service, Api, %{user_roles: roles})
    end

    assert %{user_roles: ["a"]} = seen(service, Api, %{user_roles: ["a" | "b"]})
  end

  test "roles of the socket that cannot be read are none, and never the client's", %{
    service: service
  } do
    for roles <- [%{admin: true}, 5, "", true, {"admin"}, <<255>>] do
      capture_log(fn ->
        assert %{user_roles: nil} = seen(service, Api, %{user_roles: roles})
        assert %{user_roles: nil} = seen(service, TrustingClient, %{user_roles: roles})
      end)
    end
  end

  test "the device is the socket's if it has one, else the client's", %{service: service} do
    for module <- [Api, Client] do
      assert %{device_id: "desk"} = seen(service, module, %{device_id: "desk"})
      assert %{device_id: "7"} = seen(service, module, %{device_id: 7})
      assert %{device_id: "phone"} = seen(service, module, %{})
    end
  end

  test "a device of the socket that cannot be read is none, and never the client's", %{
    service: service
  } do
    for module <- [Api, Client, TrustingClient], device <- ["", :desk, %{}, <<255>>, 2 ** 300] do
      capture_log(fn ->
        assert %{device_id: nil} = seen(service, module, %{device_id: device})
      end)
    end
  end

  test "the address comes from the socket only", %{service: service} do
    for module <- [Api, Client, TrustingClient] do
      assert %{ip_address: nil} = seen(service, module, %{})
      assert %{ip_address: "1.2.3.4"} = seen(service, module, %{ip_address: "1.2.3.4"})
    end
  end

  test "an address is a string or a tuple, of assigns, peer data or connect info, in this order",
       %{service: service} do
    peer = &%{address: &1, port: 1, ssl_cert: nil}

    for {assigns, expected} <- [
          {%{ip_address: {10, 0, 0, 1}}, "10.0.0.1"},
          {%{ip_address: ~c"10.0.0.1"}, "10.0.0.1"},
          {%{ip_address: ~c"2001:DB8::FF"}, "2001:db8::ff"},
          {%{ip_address: ~c"nowhere"}, nil},
          {%{ip_address: [:a | :b]}, nil},
          {%{ip_address: {0x2001, 0xDB8, 0, 0, 0, 0, 0, 0xFF}}, "2001:db8::ff"},
          {%{peer_data: peer.({10, 0, 0, 2})}, "10.0.0.2"},
          {%{connect_info: %{peer_data: peer.({0, 0, 0, 0, 0, 0, 0, 1})}}, "::1"},
          {%{ip_address: "a", peer_data: peer.({10, 0, 0, 2})}, "a"},
          {%{
             peer_data: peer.({10, 0, 0, 2}),
             connect_info: %{peer_data: peer.({10, 0, 0, 3})}
           }, "10.0.0.2"},
          {%{ip_address: 5, peer_data: peer.({10, 0, 0, 2})}, "10.0.0.2"},
          {%{ip_address: {256, 0, 0, 1}}, nil},
          {%{ip_address: {1, 2, 3}}, nil},
          {%{ip_address: {}}, nil},
          {%{peer_data: peer.({:local, "/tmp/socket"})}, nil},
          {%{peer_data: :none, connect_info: []}, nil}
        ] do
      assert %{ip_address: ^expected} = seen(service, Api, assigns)
    end
  end

  test "require_verified_user_id refuses every request of a socket without a user",
       %{service: service} do
    for module <- [Verified, VerifiedClient], assigns <- [%{}, %{user_id: ""}] do
      capture_log(fn ->
        assert %Response{error: "Authentication required", request_id: "r1", can_retry: false} =
                 seen(service, module, assigns)
      end)
    end

    assert %{user_id: "ann"} = seen(service, Verified, %{user_id: "ann"})
    assert %{user_id: "mallory"} = seen(service, VerifiedClient, %{user_id: "ann"})
  end

  test "require_verified_user_id comes before decoding" do
    channel = join(Verified)

    for payload <- [[], %{}, "x"] do
      ref = push_in(channel, payload)
      assert_receive {:reply, ^ref, :error, %Response{error: "Authentication required"}}
    end
  end

  test "an integer user id is its decimal text", %{service: service} do
    for {user_id, text} <- [{42, "42"}, {0, "0"}, {-7, "-7"}, {2 ** 128, "#{2 ** 128}"}] do
      assert %{user_id: ^text} = seen(service, Api, %{user_id: user_id})
    end
  end

  test "what cannot be read in assigns counts as none and is logged once per channel and field",
       %{service: service} do
    for {field, value, words} <- [
          {:user_id, "", "a non-empty string or an integer, got an empty string"},
          {:user_id, :ann, "a non-empty string or an integer, got an atom"},
          {:user_id, <<255>>, "got a binary that is not UTF-8"},
          {:user_id, ~D[2026-01-01], "got a %Date{}"},
          {:user_id, 2 ** 300, "got an integer"},
          {:device_id, 1.5, "a non-empty string or an integer, got another term"},
          {:user_roles, true, "a list, a MapSet, an atom or a string, got a boolean"},
          {:ip_address, :localhost, "a string, a charlist or an address tuple, got an atom"}
        ] do
      channel = join(Api, %{field => value})

      log =
        capture_log(fn ->
          for id <- ["r1", "r2"] do
            ref = push_in(channel, payload(service, "whoami", id, @claims))
            assert_receive {:reply, ^ref, :ok, %Response{result: %{^field => nil}}}
          end
        end)

      assert [before, rest] = String.split(log, words)
      assert before =~ "assigns.#{field} must be "
      refute rest =~ "assigns.#{field}"
    end
  end

  test "what is no request counts against the limits of who sends it", %{service: service} do
    user = "user of #{service}"
    limit = %{key: :user_id, max_requests: 3, window_ms: 600_000}
    before = PhoenixGenApi.RateLimiter.get_global_limits()
    :ok = PhoenixGenApi.RateLimiter.set_global_limits([limit])
    on_exit(fn -> :ok = PhoenixGenApi.RateLimiter.set_global_limits(before) end)
    channel = join(Api, %{user_id: user})

    errors =
      for payload <- [%{}, "x", [], %{"service" => 5}] do
        ref = push_in(channel, payload)
        assert_receive {:reply, ^ref, :error, %Response{error: error}}
        error
      end

    assert [first, _second, _third, fourth] = errors
    assert first =~ "Invalid request"
    assert fourth =~ "Rate limit exceeded"
  end

  test "put_client_ip warns once when the endpoint gives no peer data" do
    :persistent_term.erase({PhoenixGenApi.Channel.Identity, :no_peer_data})
    socket = %Phoenix.Socket{}

    log =
      capture_log(fn ->
        for info <- [%{}, %{peer_data: nil}, %{x_headers: []}] do
          assert PhoenixGenApi.put_client_ip(socket, info) == socket
        end
      end)

    assert [_before, _after] = String.split(log, "connect_info: [:peer_data]")

    assert %{assigns: %{ip_address: "10.0.0.1"}} =
             PhoenixGenApi.put_client_ip(socket, %{peer_data: %{address: {10, 0, 0, 1}}})
  end
end
