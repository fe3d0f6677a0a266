defmodule Shop.Releases do
  @moduledoc """
  A new release of the service while everything runs, at the push of a button. It does what a rolling deployment
  does: one node after the other stops offering the old functions, lets calls end, and offers the new ones.
  """
  use PhoenixGenApi.Service, service: "releases"

  alias PhoenixGenApi.Service

  @supervisor Shop.Supervisor
  @apis %{"1" => [Shop], "2" => [Shop, Shop.Discounts]}

  # Open to everybody for the sake of the page; elsewhere: check_permission: {:role, ["admin"]}.
  @doc "Has all nodes of the shop offer a release."
  @api arg_types: [release: {:enum, Map.keys(@apis)}], timeout: 30_000
  def publish(release) do
    {:ok, Map.new(Application.fetch_env!(:shop, :nodes), &{&1, offer_on(&1, release)})}
  end

  defp offer_on(node, release) do
    :erpc.call(node, __MODULE__, :offer, [release], 10_000)
  catch
    :error, {:erpc, _reason} -> "not there"
  end

  @doc false
  def offer(release) do
    :ok = Supervisor.terminate_child(@supervisor, :shop)
    :ok = Supervisor.delete_child(@supervisor, :shop)
    {:ok, _pid} = Supervisor.start_child(@supervisor, child(release))
    :ok = Service.await("shop")
    "offers release #{release}"
  end

  @doc "The child that offers a release."
  def child(release) do
    Supervisor.child_spec({Service, [apis: @apis[release]] ++ gateways()}, id: :shop)
  end

  @doc "In production there is no such list: the nodes of the cluster are connected by libcluster or DNSCluster."
  def gateways, do: [gateways: Application.fetch_env!(:shop, :gateways)]
end
