defmodule PhoenixGenApi.Service.Scope do
  @moduledoc false
  # The `:pg` scope in which services and gateways find each other. Every node with a service has it, and
  # every gateway.
  #
  #   {service, hash}   the processes that offer this content of the service
  #   :gateways         one process of each gateway, which looks at the offers
  #
  # On a gateway it starts with the application; in client mode with the first service, so that a node
  # without one keeps an empty supervision tree.

  alias PhoenixGenApi.ProcessNames

  @scope __MODULE__
  @gateways :gateways
  # As a name that something may be stored under.
  @max_name_bytes 8_192
  @hash_bytes 32

  @type group :: {service :: String.t(), hash :: binary()}

  @doc "The scope, for a supervisor."
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(_opts), do: %{id: @scope, start: {__MODULE__, :start_link, []}}

  @doc false
  @spec start_link() :: {:ok, pid()} | {:error, term()}
  def start_link do
    ProcessNames.await_free([@scope])
    :pg.start_link(@scope)
  end

  @doc "Starts the scope under that supervisor unless it is there; the process of the scope."
  @spec ensure(Supervisor.supervisor()) :: {:ok, pid()} | {:error, term()}
  def ensure(supervisor) do
    case Process.whereis(@scope) do
      nil -> start(supervisor)
      pid -> {:ok, pid}
    end
  end

  defp start(supervisor) do
    case Supervisor.start_child(supervisor, child_spec([])) do
      {:ok, pid} -> {:ok, pid}
      {:error, {:already_started, pid}} -> {:ok, pid}
      # It is being restarted.
      {:error, :already_present} -> {:error, :not_running}
      {:error, reason} -> {:error, reason}
    end
  catch
    :exit, _reason -> {:error, :not_running}
  end

  @doc "Joins a group until the calling process leaves it or ends."
  @spec join(group() | :gateways) :: :ok
  def join(group), do: :pg.join(@scope, group, self())

  @doc "Leaves it."
  @spec leave(group()) :: :ok
  def leave(group) do
    :pg.leave(@scope, group, self())
    :ok
  catch
    # The scope is gone, and the groups with it.
    :exit, _reason -> :ok
  end

  @doc "Whether that is the name of a group of offers: any process of the cluster may join a group of any name."
  @spec group?(term()) :: boolean()
  def group?({service, hash}) do
    is_binary(service) and byte_size(service) in 1..@max_name_bytes and String.valid?(service) and
      is_binary(hash) and byte_size(hash) == @hash_bytes
  end

  def group?(_other), do: false

  @doc "Has every change of a group of offers sent to the calling process; the groups as they are now."
  @spec watch() :: {reference(), [{group(), [pid()]}]}
  def watch do
    {ref, groups} = :pg.monitor_scope(@scope)
    {ref, for({group, pids} <- groups, group?(group), do: {group, pids})}
  end

  @doc "Has every change of the group of gateways sent to the calling process; its members now."
  @spec watch_gateways() :: {reference(), [pid()]}
  def watch_gateways, do: :pg.monitor(@scope, @gateways)

  @doc "Each process with what it offers."
  @spec offers() :: [{pid(), String.t(), binary()}]
  def offers do
    for {service, hash} = group <- :pg.which_groups(@scope),
        group?(group),
        pid <- :pg.get_members(@scope, group),
        do: {pid, service, hash}
  end

  @doc "The name of the group of gateways."
  @spec gateways_group() :: :gateways
  def gateways_group, do: @gateways

  @doc "The processes of this node that offer the service."
  @spec local(String.t()) :: [pid()]
  def local(service) do
    for {^service, _hash} = group <- :pg.which_local_groups(@scope),
        pid <- :pg.get_local_members(@scope, group),
        uniq: true,
        do: pid
  rescue
    ArgumentError -> []
  end
end
