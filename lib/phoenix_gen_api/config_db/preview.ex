defmodule PhoenixGenApi.ConfigDb.Preview do
  @moduledoc false
  # What a lookup would find, and where it came from.

  alias PhoenixGenApi.{ConfigDb, Explanation, Format, Plan, SafeInspect}

  @doc "Looks up a function as `ConfigDb.fetch/3` does, and explains the result."
  @spec explain(term(), term(), term()) ::
          {{:ok, Plan.t()} | {:error, :not_found | :disabled | :not_running}, Explanation.t()}
  def explain(service, request_type, version) do
    case ConfigDb.fetch(service, request_type, version) do
      {:ok, plan} = found ->
        config = Plan.config(plan)
        key = Format.names([config.service, config.request_type, config.version], " ")
        origin = ConfigDb.origin(config.service, config.request_type, config.version)
        {found, Explanation.passes(key <> describe(origin))}

      {:error, reason} = error ->
        key = Format.names([service, request_type], " ")
        asked = if version, do: SafeInspect.name(version), else: "without a version"
        failure = if reason == :not_running, do: reason, else: {reason, request_type, version}
        {error, Explanation.refuses("#{key} #{asked}: #{describe(reason)}", failure, nil)}
    end
  end

  defp describe(:pull), do: ", pulled"
  defp describe(:push), do: ", pushed"
  defp describe(:offer), do: ", offered"
  defp describe(:direct), do: ", added here"
  # Deleted since the lookup.
  defp describe(nil), do: ""
  defp describe(:not_found), do: "no such function is registered"
  defp describe(:disabled), do: "disabled"
  defp describe(:not_running), do: "no gateway runs on this node"
end
