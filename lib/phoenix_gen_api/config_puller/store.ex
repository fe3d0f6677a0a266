defmodule PhoenixGenApi.ConfigPuller.Store do
  @moduledoc false
  # What is known of the services to pull. The table belongs to the supervisor: neither the
  # puller nor a pull loses anything when it crashes.
  #
  # Rows: {service, ticket, due_at_ms, entry}. Every pull has a ticket, and only that of the
  # row may change anything: who registers, pushes or starts a new pull replaces the ticket,
  # and what a slower pull brings back no longer counts. {:puller, pid} is the process that pulls.

  alias PhoenixGenApi.OwnedTable
  alias PhoenixGenApi.Structs.ServiceConfig

  @table __MODULE__
  # Keys that no service has.
  @loaded :service_configs_loaded
  @puller :puller

  @typedoc "Monotonic milliseconds."
  @type time :: integer()

  @type ticket :: reference()

  @typedoc """
  `config` is resolved; `:own_push` is a push of code on this node; `request_types` is nil before the first successful pull; `failures`
  are those since then; `notices` is a digest of what was last warned about.
  """
  @type entry :: %{
          config: ServiceConfig.t(),
          registered_by: :operator | :own_push | :push,
          version: term(),
          request_types: [String.t()] | nil,
          failures: non_neg_integer(),
          notices: integer() | nil
        }

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new, do: OwnedTable.new(@table, [:set, read_concurrency: true])

  @doc "True for the first caller in the life of the table."
  @spec load_once?() :: boolean()
  def load_once?, do: :ets.insert_new(@table, {@loaded})

  @doc "Whether every service of the configuration and of operators was pulled, or could not be."
  @spec tried?() :: boolean()
  def tried? do
    :ets.member(@table, @loaded) and
      Enum.all?(entries(), fn {_service, entry} ->
        entry.registered_by != :operator or entry.request_types != nil or entry.failures > 0
      end)
  end

  @doc "Makes the calling process the one that pulls: it gets the casts of `request_pull/2`."
  @spec attach_puller() :: :ok
  def attach_puller do
    :ets.insert(@table, {@puller, self()})
    :ok
  end

  @doc """
  Has services pulled now. If the process is just being restarted it finds those due that were
  registered to be.
  """
  @spec request_pull([String.t()] | :all, :pull | :force) :: :ok
  def request_pull(services, reason) do
    case :ets.lookup(@table, @puller) do
      [{_puller, pid}] -> GenServer.cast(pid, {:start, services, reason})
      [] -> :ok
    end
  end

  @doc "As `register/3`, due at once, and has it pulled."
  @spec register_and_pull(ServiceConfig.t(), :operator | :own_push | :push) :: :ok
  def register_and_pull(%ServiceConfig{service: service} = config, registered_by) do
    register(config, registered_by, System.monotonic_time(:millisecond))
    request_pull([service], :pull)
  end

  @doc "Adds or replaces a service, due at that time. The same config as before keeps what is known."
  @spec register(ServiceConfig.t(), :operator | :own_push | :push, time()) :: :ok
  def register(%ServiceConfig{service: service} = config, registered_by, due_at) do
    entry =
      case fetch(service) do
        {:ok, %{config: ^config} = known} -> %{known | registered_by: registered_by}
        _new_or_changed -> new_entry(config, registered_by)
      end

    :ets.insert(@table, {service, make_ref(), due_at, entry})
    :ok
  end

  defp new_entry(config, registered_by) do
    %{
      config: config,
      registered_by: registered_by,
      version: nil,
      request_types: nil,
      failures: 0,
      notices: nil
    }
  end

  @spec unregister(String.t()) :: :ok
  def unregister(service) do
    :ets.delete(@table, service)
    :ok
  end

  @doc "Makes pulls that are under way come too late."
  @spec supersede(String.t()) :: :ok
  def supersede(service) do
    :ets.update_element(@table, service, {2, make_ref()})
    :ok
  end

  @doc """
  The same for who has stored other functions: that the version pulled last is still the same
  says nothing about them.
  """
  @spec forget_version(String.t()) :: :ok
  def forget_version(service) do
    with {:ok, entry} <- fetch(service),
         do: :ets.update_element(@table, service, [{2, make_ref()}, {4, %{entry | version: nil}}])

    :ok
  end

  @doc "Starts a pull: its ticket and what is known, unless the service was unregistered."
  @spec begin(String.t()) :: {:ok, ticket(), entry()} | :error
  def begin(service) do
    supersede(service)

    case :ets.lookup(@table, service) do
      [{_service, ticket, _due_at, entry}] -> {:ok, ticket, entry}
      [] -> :error
    end
  end

  @doc "Ends a pull: true if its ticket was still good, and the entry is now this one."
  @spec commit(String.t(), ticket(), time(), entry()) :: boolean()
  def commit(service, ticket, due_at, entry) do
    replaced =
      :ets.select_replace(@table, [
        {{service, ticket, :_, :_}, [], [{{service, {:const, ticket}, due_at, {:const, entry}}}]}
      ])

    replaced == 1
  rescue
    # The application stopped while the pull ran.
    ArgumentError -> false
  end

  @spec current?(String.t(), ticket()) :: boolean()
  def current?(service, ticket), do: :ets.match_object(@table, {service, ticket, :_, :_}) != []

  @spec fetch(String.t()) :: {:ok, entry()} | :error
  def fetch(service) do
    case :ets.lookup(@table, service) do
      [{_service, _ticket, _due_at, entry}] -> {:ok, entry}
      [] -> :error
    end
  end

  @spec entries() :: %{String.t() => entry()}
  def entries do
    Map.new(:ets.select(@table, [{{:"$1", :_, :_, :"$2"}, [], [{{:"$1", :"$2"}}]}]))
  end

  @doc "When each service is to be pulled next."
  @spec due() :: [{String.t(), time()}]
  def due, do: :ets.select(@table, [{{:"$1", :_, :"$2", :_}, [], [{{:"$1", :"$2"}}]}])
end
