defmodule PhoenixGenApi.ConfigPuller do
  @moduledoc """
  Pulls the function configs of services from their nodes.

      config :phoenix_gen_api, :gen_api,
        pull_interval: 30_000,
        service_configs: [
          %{service: "books", nodes: ["books@127.0.0.1"], module: "Books.Directory", function: "functions"}
        ]

  The function named there returns `{:ok, [%PhoenixGenApi.Structs.FunConfig{}]}`. Services can
  also be added at run time:

      PhoenixGenApi.ConfigPuller.add([
        %PhoenixGenApi.Structs.ServiceConfig{
          service: "books", nodes: [:"books@127.0.0.1"], module: Books.Directory, function: :functions
        }
      ])

  ## When

  Each service is pulled for the first time one second after the start, or at once when it is
  added, then `pull_interval` (30,000 ms) after the last pull has ended, and whenever one of its
  nodes comes up. Services are independent: each is pulled by a process of its own, and one that
  hangs delays no other, as long as fewer than 100 do: that is how many are pulled at a time.
  Nothing here is on the path of a request.

  ## What

    1. With `version_module` and `version_function` set the node is asked for its version. Where
       it equals the one seen last the pull ends, unless it is forced. `nil`, `:error`,
       `{:error, _}` and a failure are no version: then everything is pulled, and so it is where a
       function that was pulled last is no longer in the table.
    2. `module.function(args...)` is called on the nodes in their order, each for at most
       `pull_timeout` (5,000 ms), until one returns `{:ok, list}`. A node that has no such function
       is asked for the same one with the name of the gateway's node as one more argument, then
       with no arguments. The version function is found in the same way.
    3. In one visible step the functions are stored, and functions of the service that were pulled
       or pushed before and are no longer listed are removed. `{:ok, []}` removes all of them.

  A function that is invalid, not allowed (`PhoenixGenApi.Security`), added by code on the gateway, or
  whose module that node cannot load, is recorded in `PhoenixGenApi.ConfigFailed` with a warning, and
  keeps the config it had before. One that names another service is
  taken over under this service's name; of a function listed twice the last one counts. Both are
  warned about.

  A service has one source. One that is pushed after it was registered here is not pulled any more, not
  by `force_pull/0` either, until `add/1` registers it again or the push is deleted; see
  `PhoenixGenApi.ConfigReceiver`.

  ## Failures

  A pull that fails changes nothing. The next one waits `pull_interval × 2^failures`, at most
  300,000 ms. A node of the service that comes up ends the wait, and the count starts over.

  The process can crash without losing anything: what it knows belongs to the supervisor.

  Every function raises `RuntimeError` where no gateway runs.
  """

  use GenServer

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigPuller.{Pull, StaticServices, Store}
  alias PhoenixGenApi.ConfigReceiver
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.ServiceConfig

  @type service :: String.t() | atom()

  # Why a pull starts, the weakest reason first.
  @reasons [:time, :nodeup, :pull, :force]

  @max_pulls 100

  @doc """
  Registers services and pulls them at once.

  One that is registered already is replaced; unless its config is the same, its version is
  forgotten. What was pushed of the service before is replaced by what is pulled. A config that `PhoenixGenApi.Structs.ServiceConfig.resolve/1` rejects is logged,
  recorded in `PhoenixGenApi.ConfigFailed` and skipped; anything but a `ServiceConfig` raises
  `ArgumentError`, and then nothing is registered.
  """
  @spec add([ServiceConfig.t()]) :: :ok
  def add(configs) when is_list(configs) do
    for other <- configs, not is_struct(other, ServiceConfig) do
      raise ArgumentError,
            "expected a list of ServiceConfig structs, got #{SafeInspect.inspect(other)}"
    end

    running!()

    configs
    |> Enum.flat_map(&StaticServices.resolve/1)
    |> Enum.each(&Store.register_and_pull(&1, :operator))
  end

  @doc """
  Unregisters services, and removes their pulled and pushed functions.

  Takes names or `ServiceConfig` structs. A push of the service is forgotten too, on every gateway,
  so that the same push brings the functions back. Functions that were added directly stay.
  """
  @spec delete([ServiceConfig.t() | service()]) :: :ok
  def delete(services) when is_list(services) do
    names = Enum.map(services, &name/1)
    running!()
    Enum.each(names, &remove/1)
  end

  @doc """
  Pulls all services now, in the background.

  A service whose pull is under way is pulled once more when that has ended.
  """
  @spec pull() :: :ok
  def pull, do: start_all(:pull)

  @doc "The same without asking for versions first."
  @spec force_pull() :: :ok
  def force_pull, do: start_all(:force)

  @doc "The registered services, with their names resolved to atoms."
  @spec get_services() :: %{String.t() => ServiceConfig.t()}
  def get_services, do: Map.new(entries!(), fn {service, entry} -> {service, entry.config} end)

  @doc """
  The request types that the last successful pull of a service found, ascending.

  `nil` for a service that is not registered or was not pulled yet.
  """
  @spec get_api_list(service()) :: [String.t()] | nil
  def get_api_list(service), do: field(service, :request_types)

  @doc "The version that came with the last functions pulled; `nil` if there is none."
  @spec get_service_version(service()) :: term()
  def get_service_version(service), do: field(service, :version)

  @doc "The same for every service that has a version."
  @spec get_all_versions() :: %{String.t() => term()}
  def get_all_versions, do: known(entries!(), :version)

  @doc """
  What is pulled: the names of the services, their request types and versions, and how many pulls
  have failed in a row, all services together.
  """
  @spec status() :: %{
          status: :ok,
          services: [String.t()],
          api_list: %{String.t() => [String.t()]},
          service_versions: %{String.t() => term()},
          failure_count: non_neg_integer()
        }
  def status do
    entries = entries!()

    %{
      status: :ok,
      services: entries |> Map.keys() |> Enum.sort(),
      api_list: known(entries, :request_types),
      service_versions: known(entries, :version),
      failure_count: Enum.sum_by(entries, fn {_service, entry} -> entry.failures end)
    }
  end

  @doc false
  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc false
  # Called by the supervisor of the application, which thereby owns the table.
  @spec new() :: :ok
  defdelegate new, to: Store

  @doc false
  @spec reload([term()]) :: :ok
  defdelegate reload(before), to: StaticServices

  defp name(%ServiceConfig{service: service}), do: name(service)
  defp name(service) when is_binary(service), do: service
  defp name(service) when is_atom(service) and service != nil, do: Atom.to_string(service)

  defp name(other) do
    raise ArgumentError,
          "expected a service name or ServiceConfig, got #{SafeInspect.inspect(other)}"
  end

  defp remove(service) do
    ConfigReceiver.forget(service, fn ->
      Store.unregister(service)
      ConfigDb.remove_service(service)
    end)
  end

  defp start_all(reason) do
    running!()
    Store.request_pull(:all, reason)
  end

  defp field(service, key) do
    running!()

    case Store.fetch(to_string(service)) do
      {:ok, entry} -> Map.fetch!(entry, key)
      :error -> nil
    end
  end

  defp known(entries, key) do
    for {service, %{^key => value}} <- entries, value != nil, into: %{}, do: {service, value}
  end

  defp entries! do
    running!()
    Store.entries()
  end

  defp running!, do: Gateway.handle!(:config_db)

  defp now, do: System.monotonic_time(:millisecond)

  # The process: starts a pull for whatever is due, and for what it is told to. `pulls` are
  # the processes at work by monitor, `latest` the newest of each service with the reason to
  # pull once more, if there is one. When there are too many the others wait in `queue`, each
  # with its reason in `queued`. There is one timer, for the service that is due next.

  @impl true
  def init(_opts) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :all)
    Store.attach_puller()
    if Store.load_once?(), do: StaticServices.load()
    {:ok, schedule(%{pulls: %{}, latest: %{}, queue: :queue.new(), queued: %{}, timer: nil})}
  end

  @impl true
  def handle_cast({:start, services, reason}, state) do
    services = if services == :all, do: Map.keys(Store.entries()), else: services
    {:noreply, services |> Enum.reduce(state, &start(&1, reason, &2)) |> schedule()}
  end

  @impl true
  def handle_info(:due, state) do
    now = now()
    due = for {service, at} <- waiting(state), at <= now, do: service
    {:noreply, due |> Enum.reduce(state, &start(&1, :time, &2)) |> schedule()}
  end

  def handle_info({:nodeup, node, _info}, state) do
    concerned = for {service, entry} <- Store.entries(), concerns?(entry, node), do: service
    {:noreply, concerned |> Enum.reduce(state, &start(&1, :nodeup, &2)) |> schedule()}
  end

  def handle_info({:DOWN, monitor, :process, _pid, exit_reason}, %{pulls: pulls} = state)
      when is_map_key(pulls, monitor) do
    {pull, pulls} = Map.pop!(pulls, monitor)

    if exit_reason != :normal,
      do: Pull.killed(pull.service, pull.ticket, pull.entry, pull.started_at, exit_reason)

    {:noreply, ended(pull, monitor, %{state | pulls: pulls}) |> start_queued() |> schedule()}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # Which nodes a function would name is not known without calling it: any node may be the one
  # that a service in trouble waits for.
  defp concerns?(%{config: %{nodes: nodes}}, node) when is_list(nodes), do: node in nodes
  defp concerns?(entry, _node), do: entry.failures > 0 or entry.request_types == nil

  defp start(service, reason, state) do
    case state.latest do
      %{^service => {monitor, again}} ->
        # One that was superseded may take its time.
        if Store.current?(service, state.pulls[monitor].ticket),
          do: put_in(state.latest[service], {monitor, stronger(reason, again)}),
          else: begin_or_wait(service, reason, state)

      _none_under_way ->
        begin_or_wait(service, reason, state)
    end
  end

  defp begin_or_wait(service, reason, state) do
    case state.queued do
      %{^service => earlier} ->
        put_in(state.queued[service], stronger(reason, earlier))

      _not_queued when map_size(state.pulls) < @max_pulls ->
        begin(service, reason, state)

      queued ->
        %{
          state
          | queue: :queue.in(service, state.queue),
            queued: Map.put(queued, service, reason)
        }
    end
  end

  # A service that was unregistered meanwhile begins nothing, and leaves its place to the next.
  defp start_queued(state) when map_size(state.pulls) >= @max_pulls, do: state

  defp start_queued(state) do
    case :queue.out(state.queue) do
      {{:value, service}, queue} ->
        {reason, queued} = Map.pop!(state.queued, service)
        start_queued(begin(service, reason, %{state | queue: queue, queued: queued}))

      {:empty, _queue} ->
        state
    end
  end

  defp begin(service, reason, state) do
    case Store.begin(service) do
      {:ok, ticket, entry} ->
        entry = if reason == :nodeup, do: %{entry | failures: 0}, else: entry
        force? = reason == :force
        {_pid, monitor} = spawn_monitor(Pull, :run, [service, ticket, entry, force?])

        pull = %{
          service: service,
          ticket: ticket,
          entry: entry,
          started_at: System.monotonic_time()
        }

        %{
          state
          | pulls: Map.put(state.pulls, monitor, pull),
            latest: Map.put(state.latest, service, {monitor, nil})
        }

      :error ->
        %{state | latest: Map.delete(state.latest, service)}
    end
  end

  defp ended(%{service: service, ticket: ticket}, monitor, state) do
    case state.latest do
      %{^service => {^monitor, again}} ->
        state = %{state | latest: Map.delete(state.latest, service)}

        cond do
          again?(again, service) -> begin(service, again, state)
          # A push came in between: what was pulled did not count.
          Store.current?(service, ticket) -> state
          true -> begin(service, :pull, state)
        end

      _not_the_latest ->
        state
    end
  end

  # The node came up because this very pull connected to it.
  defp again?(:nodeup, service), do: not match?({:ok, %{failures: 0}}, Store.fetch(service))
  defp again?(again, _service), do: again != nil

  defp stronger(reason, nil), do: reason

  defp stronger(a, b),
    do: Enum.max_by([a, b], fn reason -> Enum.find_index(@reasons, &(&1 == reason)) end)

  defp schedule(state) do
    if state.timer, do: Process.cancel_timer(state.timer)

    timer =
      case waiting(state) do
        [] ->
          nil

        services ->
          next = services |> Enum.map(&elem(&1, 1)) |> Enum.min()
          Process.send_after(self(), :due, max(next - now(), 0))
      end

    %{state | timer: timer}
  end

  defp waiting(state),
    do:
      Enum.reject(Store.due(), fn {service, _at} ->
        is_map_key(state.latest, service) or is_map_key(state.queued, service)
      end)
end
