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
  `config` is resolved; `:own_push` is a push of code on this node; `registered_at` is in microseconds
  since 1970, 0 for what is configured; `shadowed` says that the functions of the service were pushed
  since, and are not pulled any more; `request_types` and `keys`, of what was stored, are nil before the first
  successful pull; `failures` are those since then; `notices` is a digest of what was last warned
  about.
  """
  @type entry :: %{
          config: ServiceConfig.t(),
          registered_by: :operator | :own_push | :push,
          registered_at: integer(),
          shadowed: boolean(),
          version: term(),
          request_types: [String.t()] | nil,
          keys: [{request_type :: String.t(), version :: String.t()}] | nil,
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
        entry.registered_by != :operator or entry.shadowed or entry.request_types != nil or
          entry.failures > 0
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

  @doc """
  Adds or replaces a service, due at that time. The same config as before keeps what is known.
  `configured?` says that it was so from the start.
  """
  @spec register(ServiceConfig.t(), :operator | :own_push | :push, time(), boolean()) :: :ok
  def register(%ServiceConfig{service: service} = config, by, due_at, configured? \\ false) do
    known =
      case fetch(service) do
        {:ok, %{config: ^config} = known} -> known
        _new_or_changed -> new_entry(config)
      end

    at = if configured?, do: 0, else: System.system_time(:microsecond)
    entry = %{known | registered_by: by, registered_at: at, shadowed: false}
    :ets.insert(@table, {service, make_ref(), due_at, entry})
    :ok
  end

  defp new_entry(config) do
    %{
      config: config,
      registered_by: :operator,
      registered_at: 0,
      shadowed: false,
      version: nil,
      request_types: nil,
      keys: nil,
      failures: 0,
      notices: nil
    }
  end

  @doc "As if it had just been registered by whoever has done so: nothing is known, and it is due at once."
  @spec start_over(String.t()) :: :ok
  def start_over(service) do
    with {:ok, %{registered_by: by, registered_at: at, config: config}} <- fetch(service) do
      entry = %{new_entry(config) | registered_by: by, registered_at: at}
      :ets.insert(@table, {service, make_ref(), System.monotonic_time(:millisecond), entry})
    end

    :ok
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
    change(service, &%{&1 | version: nil})
    :ok
  end

  @doc """
  The same for a push that is not pulled: whatever else is registered is pulled no more, until it is
  registered again. Whether that is new.
  """
  @spec shadow(String.t()) :: boolean()
  def shadow(service),
    do: match?(%{shadowed: false}, change(service, &%{&1 | version: nil, shadowed: true}))

  # Only the entry that was read: another one may have been registered meanwhile.
  defp change(service, fun) do
    with [{_service, ticket, due_at, entry}] <- :ets.lookup(@table, service) do
      if replace(service, ticket, {make_ref(), due_at, fun.(entry)}),
        do: entry,
        else: change(service, fun)
    else
      [] -> nil
    end
  end

  @doc """
  Whether an operator has had a service pulled after that time, in microseconds since 1970, and nothing
  was pushed since.
  """
  @spec pulled_since?(String.t(), integer()) :: boolean()
  def pulled_since?(service, time) do
    case fetch(service) do
      {:ok, %{registered_by: :operator, shadowed: false, registered_at: at}} -> at > time
      _not_pulled -> false
    end
  end

  @doc "Starts a pull: its ticket and what is known, unless the service was unregistered or is shadowed."
  @spec begin(String.t()) :: {:ok, ticket(), entry()} | :error
  def begin(service) do
    supersede(service)

    case :ets.lookup(@table, service) do
      [{_service, ticket, _due_at, %{shadowed: false} = entry}] -> {:ok, ticket, entry}
      _none_to_pull -> :error
    end
  end

  @doc "Ends a pull: true if its ticket was still good, and the entry is now this one."
  @spec commit(String.t(), ticket(), time(), entry()) :: boolean()
  def commit(service, ticket, due_at, entry) do
    replace(service, ticket, {ticket, due_at, entry})
  rescue
    # The application stopped while the pull ran.
    ArgumentError -> false
  end

  defp replace(service, ticket, {new_ticket, due_at, entry}) do
    row = {{service, {:const, new_ticket}, due_at, {:const, entry}}}
    :ets.select_replace(@table, [{{service, ticket, :_, :_}, [], [row]}]) == 1
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
  def due do
    :ets.select(@table, [{{:"$1", :_, :"$2", %{shadowed: false}}, [], [{{:"$1", :"$2"}}]}])
  end
end
