import Config

config :phoenix, :json_library, JSON

config :gateway, GatewayWeb.Endpoint,
  adapter: Bandit.PhoenixAdapter,
  http: [ip: {127, 0, 0, 1}],
  url: [host: "localhost"],
  check_origin: ["//localhost", "//127.0.0.1"],
  render_errors: [formats: [json: GatewayWeb.ErrorJSON]],
  pubsub_server: Gateway.PubSub,
  server: config_env() != :test

# Three purchases of a user in ten seconds. The page shows when the next one is possible, so
# denials say it as a number too.
config :phoenix_gen_api, :rate_limiter,
  expose_limits: true,
  api_limits: [
    %{service: "shop", request_type: "buy", key: :user_id, max_requests: 3, window_ms: 10_000}
  ]

config :logger, level: if(config_env() == :test, do: :critical, else: :info)
