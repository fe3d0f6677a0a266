defmodule PhoenixGenApi.Http.Sender do
  @moduledoc false
  # Who sends a request over HTTP: what the application has found out, never what a client says.

  alias PhoenixGenApi.Http.Options
  alias PhoenixGenApi.Identity
  alias PhoenixGenApi.Log

  require Log

  @doc "Nobody, at the address that a request comes from."
  @spec nobody(map()) :: Identity.t()
  def nobody(%{remote_ip: address}) do
    case Identity.read(:ip_address, address) do
      {:ok, address} -> %Identity{ip_address: address}
      _none -> %Identity{}
    end
  end

  @doc "The identity behind a request; raises what the application's own function raises."
  @spec identity(map(), Options.t(), Identity.t()) :: Identity.t()
  def identity(%{assigns: assigns}, %{identity: nil}, nobody) do
    %Identity{
      user_id: read(:user_id, assigns),
      user_roles: read(:user_roles, assigns),
      device_id: read(:device_id, assigns),
      ip_address: read(:ip_address, assigns) || nobody.ip_address
    }
  end

  def identity(request, %{identity: {module, function}}, nobody) do
    # Of a plug, its conn.
    case apply(module, function, [Map.get(request, :conn, request)]) do
      nil -> nobody
      said -> Map.update!(Identity.new!(said), :ip_address, &(&1 || nobody.ip_address))
    end
  end

  defp read(field, assigns), do: Identity.assigned(field, assigns, &warn/2)

  # Once for each field: it would come with every request.
  defp warn(field, value) do
    unless :persistent_term.get({__MODULE__, field}, false) do
      :persistent_term.put({__MODULE__, field}, true)

      Log.warning(
        "phoenix_gen_api: assigns.#{field} of a conn must be #{Identity.expected(field)}, got " <>
          "#{Identity.kind(value)}; such requests have none"
      )
    end

    nil
  end
end
