defmodule GatewayWeb.PageController do
  use Phoenix.Controller, formats: []

  def index(conn, _params) do
    conn
    |> put_resp_content_type("text/html")
    |> send_file(200, Application.app_dir(:gateway, "priv/static/index.html"))
  end
end
