defmodule PhoenixGenApi.BootAudit do
  @moduledoc """
  Says at start, in production, which settings are less secure than they could be.

  One warning in the log for each, which names the setting to change:

      phoenix_gen_api boot audit: no :push_token is set, so any connected node may push function configs; set config :phoenix_gen_api, :push_token on the gateways and the services

  Nothing is changed or refused. `config :phoenix_gen_api, :boot_audit` says when:

  | | |
  |---|---|
  | `:auto` (default) | in a release: `RELEASE_NAME` is set or the code is loaded in embedded mode |
  | `true`, `false` | always, never |

  | On | Line when |
  |---|---|
  | a gateway of a cluster | pushes are possible and there is no `:push_token` |
  | a gateway of a cluster | any node may offer services: there is neither a `:push_token` nor `:service, accept` |
  | a gateway | there is no `:mfa_allowlist` |
  | a gateway | there are no `:admin_actions` |
  | a gateway | `detail_error` is true |
  | a gateway | the rate limiter is disabled, or lets requests pass when it cannot decide though there are limits |
  | a service node (`client_mode`) of a cluster | `:service_guard` is off |
  | any node of a cluster | distribution does not use TLS |
  | any node of a cluster | the cookie is one that could be guessed: shorter than 20 characters |

  A gateway whose `:admin_actions` lack `:push_config` takes no pushes and needs no token.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Log

  require Log

  # What the VM itself makes is as long; that of a release has 56.
  @short_cookie 20

  @typedoc "What the lines depend on. No secret is in it."
  @type facts :: %{
          client_mode: boolean(),
          distributed: boolean(),
          tls: boolean(),
          short_cookie: boolean(),
          push_token: boolean(),
          accept_any: boolean(),
          admin_actions: [atom()] | nil,
          mfa_allowlist: boolean(),
          service_guard: boolean(),
          detail_error: boolean(),
          limiter: boolean(),
          fail_open: boolean(),
          limits: boolean()
        }

  @doc "The lines for these facts, without the prefix that they have in the log."
  @spec lines(facts()) :: [String.t()]
  def lines(facts) do
    for {true, line} <- gateway(facts) ++ service(facts) ++ cluster(facts), do: line
  end

  @doc "The facts of this node."
  @spec facts() :: facts()
  def facts do
    limiter = Config.get(:rate_limiter)

    %{
      client_mode: Config.get(:client_mode),
      distributed: Node.alive?(),
      tls: :init.get_argument(:proto_dist) in [{:ok, [[~c"inet_tls"]]}, {:ok, [[~c"inet6_tls"]]}],
      short_cookie: Node.alive?() and short?(Node.get_cookie()),
      push_token: env(:push_token) != nil,
      accept_any: Config.get(:service, :accept) == :any,
      admin_actions: env(:admin_actions),
      mfa_allowlist: env(:mfa_allowlist) != nil,
      service_guard: Config.get(:service_guard, :enabled),
      detail_error: Config.get(:gen_api, :detail_error),
      limiter: limiter.enabled,
      fail_open: limiter.fail_open,
      limits: limiter.global_limits != [] or limiter.api_limits != []
    }
  end

  @doc false
  @spec run() :: :ok
  def run do
    if due?(Config.get(:boot_audit), System.get_env("RELEASE_NAME"), :code.get_mode()) do
      for line <- lines(facts()), do: Log.warning("phoenix_gen_api boot audit: " <> line)
    end

    :ok
  end

  @doc false
  @spec due?(:auto | boolean(), String.t() | nil, :interactive | :embedded) :: boolean()
  def due?(:auto, release, mode), do: release not in [nil, ""] or mode == :embedded
  def due?(audit?, _release, _mode), do: audit?

  defp gateway(%{client_mode: true}), do: []

  defp gateway(facts) do
    pushable? = facts.admin_actions == nil or :push_config in facts.admin_actions

    [
      {facts.distributed and pushable? and not facts.push_token,
       "no :push_token is set, so any connected node may push function configs; " <>
         "set config :phoenix_gen_api, :push_token on the gateways and the services"},
      {facts.distributed and pushable? and not facts.push_token and facts.accept_any,
       "any connected node may offer services; set config :phoenix_gen_api, :push_token, " <>
         "or config :phoenix_gen_api, :service, accept to the nodes that may"},
      {not facts.mfa_allowlist,
       "no :mfa_allowlist is set, so function configs may name any function that is not denied; " <>
         "set config :phoenix_gen_api, :mfa_allowlist to the modules of your services"},
      {facts.admin_actions == nil,
       "no :admin_actions are set, so pushes and changes of rate limits are open to all code of " <>
         "the cluster; set config :phoenix_gen_api, :admin_actions to those you use"},
      {facts.detail_error,
       "detail_error is true, so clients see the reasons of errors; " <>
         "set config :phoenix_gen_api, :gen_api, detail_error: false"},
      {not facts.limiter,
       "the rate limiter is disabled; set config :phoenix_gen_api, :rate_limiter, enabled: true"},
      {facts.limiter and facts.limits and facts.fail_open,
       "requests pass when the rate limiter cannot decide; set config :phoenix_gen_api, " <>
         ":rate_limiter, fail_open: false, if a limit protects something that must not be exceeded"}
    ]
  end

  defp service(facts) do
    [
      {facts.client_mode and facts.distributed and not facts.service_guard,
       "the service guard is off, so a forged config can name any function of this node; " <>
         "set config :phoenix_gen_api, :service_guard, true"}
    ]
  end

  defp cluster(facts) do
    [
      {facts.distributed and not facts.tls,
       "distribution does not use TLS, so the network between the nodes has to be trusted; " <>
         "start the nodes with -proto_dist inet_tls (see the guide Deployment)"},
      {facts.distributed and facts.short_cookie,
       "the cookie has fewer than #{@short_cookie} characters and may be guessed, and whoever " <>
         "has it owns every node; set a long random one (-setcookie or RELEASE_COOKIE)"}
    ]
  end

  defp short?(cookie),
    do: cookie |> Atom.to_string() |> String.length() |> Kernel.<(@short_cookie)

  defp env(key), do: Application.get_env(:phoenix_gen_api, key)
end
