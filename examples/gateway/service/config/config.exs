import Config

# A service node needs no table, no limiter and no pools: it only runs functions.
config :phoenix_gen_api, client_mode: true
