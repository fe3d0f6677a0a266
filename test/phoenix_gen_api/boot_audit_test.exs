defmodule PhoenixGenApi.BootAuditTest do
  # One test reads the settings of the application.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PhoenixGenApi.{BootAudit, Config}

  # A gateway of which nothing is to be said.
  @secure %{
    client_mode: false,
    distributed: true,
    tls: true,
    short_cookie: false,
    push_token: true,
    accept_any: false,
    admin_actions: [:push_config],
    mfa_allowlist: true,
    service_guard: false,
    detail_error: false,
    limiter: true,
    fail_open: false,
    limits: true
  }

  @service %{@secure | client_mode: true, service_guard: true}

  # What is changed, and the setting that the one line names.
  @insecure [
    {[push_token: false], ":push_token on"},
    {[mfa_allowlist: false], ":mfa_allowlist to"},
    {[admin_actions: nil], ":admin_actions to"},
    {[detail_error: true], "detail_error: false"},
    {[limiter: false], "enabled: true"},
    {[fail_open: true], "fail_open: false"},
    {[tls: false], "-proto_dist inet_tls"},
    {[short_cookie: true], "RELEASE_COOKIE"}
  ]

  test "a gateway where any node may offer a service says so" do
    open = %{@secure | push_token: false, accept_any: true}
    assert [_push, line] = BootAudit.lines(open)
    assert line =~ ":service, accept"
    assert BootAudit.lines(%{@secure | accept_any: true}) == []
    assert BootAudit.lines(%{open | distributed: false, tls: true}) == []
  end

  test "a secure gateway and a secure service node have no lines" do
    assert BootAudit.lines(@secure) == []
    assert BootAudit.lines(@service) == []
  end

  for {changes, setting} <- @insecure do
    test "a gateway with #{inspect(changes)} has one line that says what to set" do
      assert [line] = BootAudit.lines(Map.merge(@secure, Map.new(unquote(changes))))
      assert line =~ unquote(setting)
    end
  end

  test "a service node has lines for the guard and for the cluster only" do
    insecure =
      Enum.reduce(@insecure, @service, fn {changes, _}, facts ->
        Map.merge(facts, Map.new(changes))
      end)

    assert [tls, cookie] = BootAudit.lines(insecure)
    assert tls =~ "inet_tls"
    assert cookie =~ "RELEASE_COOKIE"
    assert [guard] = BootAudit.lines(%{@service | service_guard: false})
    assert guard =~ ":service_guard, true"
  end

  test "a node of no cluster has no lines about one" do
    alone = %{@secure | distributed: false, tls: false, short_cookie: true, push_token: false}
    assert BootAudit.lines(alone) == []

    assert BootAudit.lines(%{@service | distributed: false, service_guard: false, tls: false}) ==
             []
  end

  test "a gateway whose admin actions keep pushes out needs no token" do
    assert BootAudit.lines(%{@secure | push_token: false, admin_actions: [:enable_tracing]}) == []
    assert [_] = BootAudit.lines(%{@secure | push_token: false, admin_actions: [:push_config]})
  end

  test "failing open is no matter while there is nothing to limit" do
    assert BootAudit.lines(%{@secure | fail_open: true, limits: false}) == []
  end

  test "it is due in a release, or when the setting says so" do
    assert BootAudit.due?(:auto, "shop", :interactive)
    assert BootAudit.due?(:auto, nil, :embedded)
    refute BootAudit.due?(:auto, nil, :interactive)
    refute BootAudit.due?(:auto, "", :interactive)
    assert BootAudit.due?(true, nil, :interactive)
    refute BootAudit.due?(false, "shop", :embedded)
  end

  describe "this node" do
    defp put_env(key, value) do
      Application.put_env(:phoenix_gen_api, key, value)

      on_exit(fn ->
        Application.delete_env(:phoenix_gen_api, key)
        :ok = Config.load()
      end)

      :ok = Config.load()
    end

    test "has its facts from the settings, and no secret in them" do
      assert %{
               client_mode: false,
               push_token: false,
               mfa_allowlist: false,
               limits: false,
               tls: false
             } = BootAudit.facts()

      put_env(:push_token, "s3cret-token")
      put_env(:mfa_allowlist, [])
      put_env(:gen_api, detail_error: true)
      put_env(:service_guard, true)

      put_env(:rate_limiter,
        fail_open: false,
        global_limits: [%{key: :user_id, max_requests: 1, window_ms: 1}]
      )

      assert %{
               push_token: true,
               mfa_allowlist: true,
               detail_error: true,
               service_guard: true,
               fail_open: false,
               limits: true,
               limiter: true
             } =
               facts = BootAudit.facts()

      refute inspect(facts) =~ "s3cret"
    end

    test "logs one warning per line when it is due, and nothing otherwise" do
      put_env(:gen_api, detail_error: true)
      refute capture_log(&BootAudit.run/0) =~ "boot audit"
      put_env(:boot_audit, true)
      log = capture_log(&BootAudit.run/0)
      assert log =~ "[warning] phoenix_gen_api boot audit: detail_error is true"

      assert length(String.split(log, "boot audit: ")) - 1 ==
               length(BootAudit.lines(BootAudit.facts()))
    end
  end
end
