defmodule Demo.ApiChannel do
  # What an application has to write.
  @moduledoc false
  use Phoenix.Channel
  use PhoenixGenApi, event: "api", concurrency: 4

  def join("api:" <> _topic, _params, socket), do: {:ok, socket}
end
