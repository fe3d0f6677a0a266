defmodule PhoenixGenApi.Doctor.Settings do
  @moduledoc false
  # What is wrong with the settings of one node.

  alias PhoenixGenApi.Doctor.{Facts, Finding}

  @config "config :phoenix_gen_api, "

  @spec findings(Facts.t()) :: [Finding.t()]
  def findings(%{mode: :stopped} = facts) do
    [
      Finding.new(
        :not_running,
        :error,
        facts.node,
        "the application :phoenix_gen_api does not run",
        "the node neither takes requests nor runs functions",
        "start it, and look in its log for the reason why it did not"
      )
    ]
  end

  def findings(%{settings: settings, node: node} = facts) do
    for {true, id, level, what, why, fix} <- rows(facts, settings),
        do: Finding.new(id, level, node, what, why, fix)
  end

  defp rows(facts, settings),
    do: gateway(facts, settings) ++ service(settings) ++ distribution(settings)

  defp gateway(%{mode: :service}, _settings), do: []

  defp gateway(facts, settings) do
    pushable? = settings.admin_actions == nil or :push_config in settings.admin_actions

    [
      {settings.detail_error and facts.production, :detail_error, :error,
       "detail_error is true in production",
       "clients see the reasons of errors, and with them how it works inside",
       "set #{@config}:gen_api, detail_error: false"},
      {not settings.mfa_allowlist, :no_allowlist, :warning, "no :mfa_allowlist is set",
       "function configs may name any function that is not denied",
       "set #{@config}:mfa_allowlist to the modules of your services"},
      {settings.distributed and settings.accept == :any and not settings.push_token, :open_offers,
       :warning, "neither :accept nor :push_token is set",
       "any connected node may offer functions, in any service",
       "set #{@config}:service, accept: [\"shop@*\"], or a :push_token on all nodes"},
      {settings.distributed and pushable? and not settings.push_token, :open_pushes, :warning,
       "pushes are possible and no :push_token is set",
       "any connected node may replace functions",
       "set #{@config}:push_token on gateways and services, or leave :push_config out of :admin_actions"},
      {settings.admin_actions == nil, :no_admin_actions, :warning, "no :admin_actions are set",
       "all code of the cluster may push and change rate limits",
       "set #{@config}:admin_actions to those you use"},
      {not settings.limiter, :limiter_off, :warning, "the rate limiter is disabled",
       "one client can take all of the gateway and its services",
       "set #{@config}:rate_limiter, enabled: true"},
      {settings.limiter and not settings.limits, :no_limits, :warning, "there are no rate limits",
       "one client can take all of the gateway and its services",
       "set #{@config}:rate_limiter, global_limits: [%{key: :user_id, max_requests: 100, window_ms: 1_000}]"},
      {settings.limiter and settings.limits and settings.fail_open, :fail_open, :warning,
       "requests pass when the rate limiter cannot decide",
       "a limit that protects something can be exceeded when the table of the limiter is full",
       "set #{@config}:rate_limiter, fail_open: false"},
      {facts.rejected > 0, :rejected_configs, :warning,
       "#{facts.rejected} function configs were rejected",
       "these functions are missing, or run with an older config",
       "read PhoenixGenApi.failed_configs_print/0 on the node"}
    ]
  end

  defp service(settings) do
    [
      {settings.client_mode and settings.distributed and not settings.service_guard, :guard_off,
       :warning, "the service guard is off", "a forged config can name any function of this node",
       "set #{@config}:service_guard, true"}
    ]
  end

  defp distribution(settings) do
    [
      {settings.distributed and not settings.tls, :no_tls, :warning,
       "distribution does not use TLS",
       "whoever reads or changes what the network carries between the nodes owns them",
       "start the nodes with -proto_dist inet_tls, see the guide Deployment"},
      {settings.distributed and settings.short_cookie, :short_cookie, :warning,
       "the cookie has fewer than 20 characters", "whoever guesses it owns every node",
       "set a long random one (-setcookie or RELEASE_COOKIE)"}
    ]
  end
end
