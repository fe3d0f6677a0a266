defmodule PhoenixGenApi.ChannelHelpers do
  @moduledoc """
  Only the `handle_info` clauses of `use PhoenixGenApi`: for channels that push results and
  relay messages but take no requests on an event.

      defmodule MyAppWeb.FeedChannel do
        use Phoenix.Channel
        use PhoenixGenApi.ChannelHelpers, event: "feed"

        def join("feed:" <> group, _params, socket) do
          {:ok, _status} = PhoenixGenApi.Relay.join_group(group, socket.assigns.user_id, self())
          {:ok, socket}
        end
      end

  `{:push, response}`, `{:async_call, response}`, `{:stream_response, response}` and
  `{:relay_message, response}` are pushed on `event` (default `"phoenix_gen_api"`). The
  clauses come after those of the module, see `PhoenixGenApi.Channel`.
  """

  @doc "Adds the clauses. The options are `event`, `relay`, `relay_event` and `relay_request_id`."
  defmacro __using__(options),
    do: PhoenixGenApi.Channel.Clauses.expand(options, __MODULE__, :info)
end
