defmodule GatewayWeb.Router do
  use Phoenix.Router

  import Phoenix.Controller, only: [put_secure_browser_headers: 2]

  pipeline :browser do
    plug :put_secure_browser_headers, %{
      "content-security-policy" => "default-src 'self'; img-src data:"
    }
  end

  scope "/", GatewayWeb do
    pipe_through :browser
    get "/", PageController, :index
  end
end
