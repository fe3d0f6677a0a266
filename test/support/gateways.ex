defmodule PhoenixGenApi.Test.Gateways do
  @moduledoc false
  # Gateways on nodes that know only each other, not the node of the test: that is a gateway
  # itself, and would carry everything from one side of a split to the other.

  alias PhoenixGenApi.{Await, ConfigDb, ConfigReceiver}
  alias PhoenixGenApi.ConfigSync.PushStore
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig}
  alias PhoenixGenApi.Test.Cluster

  @type gateway :: {peer :: pid(), node()}

  @doc "Starts gateways that are connected with each other."
  @spec start(pos_integer(), keyword()) :: [gateway()]
  def start(count, env \\ []) do
    gateways =
      for(n <- 1..count, do: options(Cluster.node_name("gw#{n}"), env)) |> Cluster.start_peers()

    heal(gateways)
    gateways
  end

  @spec start_one(node(), keyword()) :: gateway()
  def start_one(name, env \\ []), do: Cluster.start_peer(options(name, env))

  # No probe of a node that is down may end a split.
  defp options(name, env) do
    app = [client_mode: false, node_selector: [probe_interval: 3_600_000]] ++ env
    [name: name, app: app, connect: false]
  end

  @doc "Connects all with each other, and waits until they see each other."
  @spec heal([gateway()]) :: :ok
  def heal(gateways) do
    cookie = Cluster.cookie()

    for {_, a} = one <- gateways, {_, b} <- gateways, a != b do
      call(one, :erlang, :set_cookie, [b, cookie])
    end

    for {_, a} = one <- gateways, {_, b} <- gateways, a < b, do: call(one, Node, :connect, [b])
    await_membership(gateways)
  end

  @doc "Cuts the gateways of one list off those of the other."
  @spec cut([gateway()], [gateway()]) :: :ok
  def cut(left, right) do
    for {_, a} = one <- left, {_, b} = other <- right do
      # Not the same: with that, whoever still has something to say would connect them again.
      call(one, :erlang, :set_cookie, [b, :left])
      call(other, :erlang, :set_cookie, [a, :right])
      call(one, Node, :disconnect, [b])
    end

    await_membership(left)
    await_membership(right)
  end

  @doc "Waits until each of them sees exactly the others."
  @spec await_membership([gateway()]) :: :ok
  def await_membership(gateways) do
    names = for {_, name} <- gateways, do: name

    for {_, name} = gateway <- gateways do
      others = Enum.sort(names -- [name])

      Await.until(fn ->
        Enum.sort(call(gateway, PhoenixGenApi.Cluster, :gateways, [])) == others
      end)
    end

    :ok
  end

  @spec call(gateway(), module(), atom(), [term()]) :: term()
  defdelegate call(gateway, module, function, args), to: Cluster

  @doc "A push of `service` with these functions."
  @spec push_config(String.t(), String.t(), [String.t()], keyword(), mfa :: tuple()) ::
          PushConfig.t()
  def push_config(service, version, types, fields \\ [], mfa \\ {String, :upcase, ["x"]}) do
    functions =
      for type <- types do
        %FunConfig{
          service: service,
          request_type: type,
          nodes: [:nowhere@nohost],
          mfa: mfa
        }
      end

    struct!(
      %PushConfig{
        service: service,
        nodes: [:nowhere@nohost],
        config_version: version,
        fun_configs: functions
      },
      fields
    )
  end

  @spec push(gateway(), PushConfig.t(), keyword()) :: ConfigReceiver.result()
  def push(gateway, push_config, opts \\ []),
    do: call(gateway, ConfigReceiver, :push, [push_config, opts])

  @doc "The versions of the pushed services, the functions, and what is known of all pushes."
  @spec knows(gateway()) :: {map(), map(), map()}
  def knows(gateway) do
    {call(gateway, ConfigReceiver, :get_all_pushed_services, []),
     call(gateway, ConfigDb, :get_all_functions, []), call(gateway, PushStore, :stamps, [])}
  end

  @doc "Waits until all know the same, and returns it."
  @spec await_agreement([gateway()]) :: {map(), map(), map()}
  def await_agreement(gateways) do
    Await.until(fn ->
      with [agreed] <- gateways |> Enum.map(&knows/1) |> Enum.uniq(),
           do: agreed,
           else: (_ -> nil)
    end)
  end

  @doc "The pushed services of a gateway with their versions."
  @spec versions(gateway()) :: %{String.t() => String.t()}
  def versions(gateway), do: call(gateway, ConfigReceiver, :get_all_pushed_services, [])

  @doc "The request types of a service on a gateway."
  @spec types(gateway(), String.t()) :: [String.t()]
  def types(gateway, service) do
    functions = call(gateway, ConfigDb, :get_functions_from_services, [service])
    functions |> Map.get(service, %{}) |> Map.keys() |> Enum.sort()
  end
end
