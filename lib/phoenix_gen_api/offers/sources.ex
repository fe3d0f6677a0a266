defmodule PhoenixGenApi.Offers.Sources do
  @moduledoc false
  # A service has one source at a time: while a node offers it, what is pushed or pulled of it does not count.

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Offers.Store
  alias PhoenixGenApi.SafeInspect

  require Log

  @doc "Whether a node offers the service now."
  @spec offered?(String.t()) :: boolean()
  defdelegate offered?(service), to: Store

  @doc "Whether a push or a pull of the service is ignored. The log says so once for each, per offer."
  @spec ignores?(String.t(), :push | :pull) :: boolean()
  def ignores?(service, kind) do
    offered? = Store.offered?(service)

    if offered? and Store.first?(service, kind) do
      Log.notice(
        "service #{SafeInspect.name(service)} is offered by its nodes: a #{kind} of it is ignored"
      )
    end

    offered?
  end

  @doc "A push or a pull has replaced a service that no node offers any more."
  @spec superseded(String.t()) :: :ok
  def superseded(service) do
    if Store.installed(service), do: GenServer.cast(Store.writer(), {:superseded, service})
    :ok
  end
end
