defmodule PhoenixGenApi.ConfigSync.Rejections do
  @moduledoc false
  # Pushes that are refused before anybody looks into them. Of what nobody is known to have the
  # right to push only the name is kept.

  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Log

  require Log

  @type reason :: :admin_action_denied | :invalid_push_token | :invalid_push_config_data

  @doc "Records and logs it. `node` is where it came from."
  @spec record(term(), reason(), node() | nil) :: :ok
  def record(push_config, reason, node) do
    entry = ConfigFailed.record(named(push_config), words(reason), :push, node)

    Log.warning(
      "push of service #{SafeInspect.inspect(entry.service)} from #{node || "this node"} " <>
        "turned away: #{words(reason)}"
    )
  end

  defp named(push_config) when is_map(push_config),
    do: Map.take(push_config, [:service, :config_version, "service", "config_version"])

  defp named(other), do: other

  defp words(:admin_action_denied), do: "admin_actions is set without :push_config"
  defp words(:invalid_push_token), do: "the push token is not that of the gateway"
  defp words(:invalid_push_config_data), do: "it is no push config"
end
