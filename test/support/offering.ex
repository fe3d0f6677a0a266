defmodule PhoenixGenApi.Test.Offering do
  @moduledoc false
  # Services that are offered on nodes of a test.

  alias PhoenixGenApi.{Await, CandidateSet, ConfigDb, Executor, Service}
  alias PhoenixGenApi.Offers.{Sources, Store}
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.{Cluster, Functions}

  @doc "A function of a service that returns the name of its node, unless the fields say otherwise."
  @spec function(String.t(), String.t(), keyword()) :: FunConfig.t()
  def function(service, type, fields \\ []) do
    struct!(
      %FunConfig{
        service: service,
        request_type: type,
        nodes: :service,
        mfa: {Functions, :node_name, []}
      },
      fields
    )
  end

  @doc "Starts a node in client mode that offers nothing yet."
  @spec start_node(keyword()) :: {pid(), node()}
  def start_node(opts \\ []), do: opts |> options() |> Cluster.start_peer()

  @doc "The options of such a node, for `Cluster.start_peers/1`."
  @spec options(keyword()) :: keyword()
  def options(opts) do
    {env, opts} = Keyword.pop(opts, :env, [])
    [app: [client_mode: true] ++ env] ++ opts
  end

  @doc "Has a node offer functions."
  @spec offer({pid(), node()}, [FunConfig.t()], keyword()) :: {:ok, pid()} | {:error, term()}
  def offer(peer, functions, opts \\ []) do
    {id, opts} = Keyword.pop(opts, :id, :offer)
    spec = %{Service.child_spec([functions: functions] ++ opts) | id: id}

    with {:error, {reason, _child}} <- Cluster.call(peer, __MODULE__, :start_child, [spec]),
         do: {:error, reason}
  end

  # There.
  @doc false
  def start_child(spec) do
    supervisor = supervisor()

    with {:error, :already_present} <- Supervisor.start_child(supervisor, spec) do
      Supervisor.delete_child(supervisor, spec.id)
      Supervisor.start_child(supervisor, spec)
    end
  end

  # As that of an application which needs the library: it ends before that does.
  defp supervisor do
    unless Process.whereis(__MODULE__) do
      parent = self()

      spawn(fn ->
        Process.flag(:trap_exit, true)
        library = Process.monitor(PhoenixGenApi.Supervisor)
        {:ok, pid} = Supervisor.start_link([], strategy: :one_for_one, name: __MODULE__)
        send(parent, {:started, pid})

        receive do
          {:DOWN, ^library, :process, _pid, _reason} -> exit(:shutdown)
        end
      end)

      receive do
        {:started, _pid} -> :ok
      end
    end

    __MODULE__
  end

  @doc "Stops what a node offers, as a shutdown does. Returns when it has stopped."
  @spec stop({pid(), node()}, term()) :: :ok
  def stop(peer, id \\ :offer),
    do: Cluster.call(peer, Supervisor, :terminate_child, [__MODULE__, id])

  @doc "Waits until the gateways have what the node offers of the service."
  @spec await({pid(), node()}, String.t(), non_neg_integer()) :: term()
  def await(peer, service, timeout \\ 30_000),
    do: Cluster.call(peer, Service, :await, [service, timeout])

  @doc "Runs a request on this gateway."
  @spec run(String.t(), String.t(), keyword()) :: Response.t()
  def run(service, type, fields \\ []) do
    Executor.execute!(
      struct!(%Request{request_id: "r1", service: service, request_type: type}, fields)
    )
  end

  @doc "The nodes that a number of requests reach."
  @spec reached(String.t(), String.t(), pos_integer()) :: [node()]
  def reached(service, type, times \\ 40) do
    for(_ <- 1..times, do: run(service, type).result) |> Enum.uniq() |> Enum.sort()
  end

  @doc "Waits until nothing is left of the services that were offered, whose nodes are gone."
  @spec forget_all() :: :ok
  def forget_all do
    Await.until(fn -> Enum.all?(Store.services(), &(Store.up(&1) == [])) end)
    for service <- Store.services(), do: Sources.superseded(service)
    Await.until(fn -> Store.services() == [] end)
    ConfigDb.clear()
  end

  @doc "Waits until the candidates of a service are these nodes."
  @spec await_nodes(String.t(), [node()]) :: :ok
  def await_nodes(service, nodes) do
    Await.until(fn -> up(service) == Enum.sort(nodes) end)
    :ok
  end

  @doc "The candidates of each function of a service that has any, by type and version."
  @spec candidates(String.t()) :: %{{String.t(), String.t()} => [node()]}
  def candidates(service) do
    for {_service, types} <- ConfigDb.get_functions_from_services(service),
        {type, versions} <- types,
        version <- versions,
        # Gone since it was listed, or added with nodes of its own.
        set when set != nil <- [CandidateSet.of_function(service, type, version)],
        [_ | _] = nodes <- [CandidateSet.nodes(set)],
        into: %{},
        do: {{type, version}, Enum.sort(nodes)}
  end

  @doc "A function that is called with what its definition has accepted, and with which one that was."
  def take(value, generation), do: [node(), value, generation]

  @doc "The nodes of a service that are candidates here."
  @spec up(String.t()) :: [node()]
  def up(service) do
    for({node, %{state: :up}} <- Service.nodes(service), do: node) |> Enum.sort()
  end
end
