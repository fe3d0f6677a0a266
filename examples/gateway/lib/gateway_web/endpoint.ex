defmodule GatewayWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :gateway

  # The library refuses payloads above a million bytes; here they are not even read.
  socket "/socket", GatewayWeb.UserSocket,
    websocket: [connect_info: [:peer_data], max_frame_size: 1_000_000],
    longpoll: false

  plug Plug.Static, at: "/", from: :gateway, only: ~w(app.css app.js)
  # The client of the Phoenix that runs here: no build step, no copy.
  plug Plug.Static, at: "/phoenix", from: :phoenix, only: ~w(phoenix.mjs)
  # That of the library, built by `run`. An application with a build step takes both from npm.
  plug Plug.Static,
    at: "/phoenix-gen-api",
    from: Path.expand("../../../../clients/javascript/dist", __DIR__)

  plug Plug.RequestId
  plug Plug.Telemetry, event_prefix: [:phoenix, :endpoint]
  plug GatewayWeb.Router
end
