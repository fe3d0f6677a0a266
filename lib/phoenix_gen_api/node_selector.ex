defmodule PhoenixGenApi.NodeSelector do
  @moduledoc """
  Chooses the node that runs a call.

      %FunConfig{nodes: [:"shop@10.0.0.7", :"shop@10.0.0.8"], choose_node_mode: {:hash, "user_id"}, ...}

      NodeSelector.get_nodes(config, request)
      #=> {:ok, [:"shop@10.0.0.8", :"shop@10.0.0.7"]}

  | `choose_node_mode` | Order of the candidates |
  |---|---|
  | `:random` | uniform |
  | `:round_robin` | rotation, one cursor per function config, shared by all processes |
  | `:hash` | rendezvous hash of the request id |
  | `{:hash, key}` | rendezvous hash of `args[key]`, else of the request's field of that name |
  | `{:sticky, key}` | the same the first time, then the node remembered for the value |
  | `:least_busy` | fewest calls in flight from this gateway, ties at random; a failed call counts for as long as a good one takes |
  | `{:weighted, weights}` | at random in proportion to `weights` (node => 0..1_000_000) |
  | `{module, function, args}` | your function, called with `[nodes, request \\| args]` |

  Nodes that are down or draining are passed over in every mode, and so are those whose circuit
  is open for the function (`config :phoenix_gen_api, :circuit_breaker`, see `circuits/0`). A node is down after a
  `:nodedown`, a failed connection or one that took all the time of a request, and up again
  after a `:nodeup` or a successful probe; a node never contacted counts as up.

  The hash modes are rendezvous hashing (Thaler and Ravishankar, 1998) with a published, fixed
  hash (FNV-1a and the finaliser of splitmix64): all gateways that see the same nodes agree,
  adding a node moves only the keys that go to it, and a key whose node is out goes to the next
  in its own order and returns with the node.

  A sticky value is forgotten `sticky_ttl_ms` (1 h) after its last use; beyond
  `sticky_max_entries` (100,000) the least recently used goes.
  """

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Circuits
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.Decisions
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.NodeSelector.NodeList
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.{FieldMap, FunConfig, Request}
  alias PhoenixGenApi.Structs.FunConfig.Validation

  @type reason ::
          :no_nodes_available
          | {:all_nodes_unavailable, [{node(), :down | :draining | :circuit_open}]}
          | {:dynamic_node_resolution_failed, term()}
          | {:hash_key_not_found | :invalid_hash_key, term()}
          | {:invalid_choose_node_mode, term()}
          | {:invalid_nodes_configuration, term()}
          | :not_running

  @modes [:random, :hash, :round_robin, :least_busy]

  @doc "The best usable node."
  @spec get_node(FunConfig.t(), Request.t()) :: {:ok, node()} | {:error, reason()}
  def get_node(config, %Request{} = request) do
    with {:ok, [node | _]} <- get_nodes(config, request), do: {:ok, node}
  end

  @doc "Same as `get_node/2`, but returns the node or raises `RuntimeError`."
  @spec get_node!(FunConfig.t(), Request.t()) :: node()
  def get_node!(config, request) do
    case get_node(config, request) do
      {:ok, node} -> node
      {:error, :not_running} -> Gateway.not_running!()
      {:error, reason} -> raise "no node available: #{SafeInspect.inspect(reason)}"
    end
  end

  @doc "All usable nodes, best first. Takes one turn of a round robin."
  @spec get_nodes(FunConfig.t(), Request.t()) :: {:ok, [node()]} | {:error, reason()}
  def get_nodes(config, %Request{} = request),
    do: config |> complete() |> usable_nodes(Request.complete(request))

  # Another version of the library may have made it.
  defp complete(config) when is_struct(config), do: FieldMap.complete(config)
  defp complete(config), do: config

  defp usable_nodes(%{nodes: :local} = config, _request), do: local(config)

  defp usable_nodes(%{nodes: _} = config, request) do
    with {:ok, selector} <- Gateway.handle(:node_selector),
         :ok <- mode(config.choose_node_mode),
         {:ok, names} <- resolve_nodes_list(config) do
      ordered(selector, config, names, request)
    end
  end

  @doc "The config with a dynamic node list resolved."
  @spec resolve_nodes(FunConfig.t()) :: {:ok, FunConfig.t()} | {:error, reason()}
  def resolve_nodes(config) do
    case complete(config) do
      %{nodes: :local} = config ->
        {:ok, config}

      config ->
        with {:ok, nodes} <- resolve_nodes_list(config), do: {:ok, %{config | nodes: nodes}}
    end
  end

  @doc """
  The nodes of a config; a dynamic `{module, function, args}` is applied here and now, limited
  by the config's `hook_timeout`. Strings that it returns become atoms only if such atoms exist.
  """
  @spec resolve_nodes_list(FunConfig.t()) :: {:ok, [node() | String.t()]} | {:error, reason()}
  def resolve_nodes_list(config), do: NodeList.resolve(config)

  @doc "Whether the config's `choose_node_mode` is one that a config may have."
  @spec choose_node_valid?(FunConfig.t()) :: boolean()
  def choose_node_valid?(config), do: Validation.mode?(complete(config).choose_node_mode)

  @doc """
  Milliseconds to wait before a retry: `base` (100) × 2^(attempt − 1), times a random factor of
  0.5 to 1.5, at most `max` (5,000). The first attempt is 1.
  """
  @spec calculate_backoff(pos_integer(), base: pos_integer(), max: pos_integer()) ::
          non_neg_integer()
  def calculate_backoff(attempt, opts \\ []) when is_integer(attempt) and attempt >= 1 do
    base = Keyword.get(opts, :base, 100)
    max = Keyword.get(opts, :max, 5_000)
    # Beyond 2^32 every base is over every max.
    exponential = base * Integer.pow(2, min(attempt - 1, 32))
    min(max, round(exponential * (0.5 + :rand.uniform())))
  end

  @doc "Every round robin starts over with its first node."
  @spec reset_round_robin() :: :ok
  def reset_round_robin, do: Native.node_selector_reset_round_robin(selector!())

  @doc "Drops expired sticky entries now; it also happens by itself."
  @spec cleanup_sticky_table() :: :ok
  def cleanup_sticky_table, do: sweep(selector!())

  @doc """
  Takes a node out of every choice until `undrain/2`; calls in flight end as usual. A node that
  goes down and comes back is no longer draining.

  That holds on every connected gateway, and on those that join later. With the option
  `local: true` it holds on this gateway alone.
  """
  @spec drain(node(), keyword()) :: :ok | {:error, :not_running}
  def drain(node, opts \\ []), do: Decisions.decide({:node, node}, :drain, opts)

  @doc "Puts a draining node back. The option is that of `drain/2`."
  @spec undrain(node(), keyword()) :: :ok | {:error, :not_running}
  def undrain(node, opts \\ []), do: Decisions.decide({:node, node}, :undrain, opts)

  @doc "What is known of a node; one never heard of is `:up`."
  @spec node_status(node()) :: :up | :down | :draining
  def node_status(node), do: Native.node_selector_status(selector!(), Atom.to_string(node))

  @doc "The same for every node that function configs name."
  @spec node_statuses() :: %{node() => :up | :down | :draining}
  def node_statuses, do: Map.new(loads(), fn {node, status, _in_flight} -> {node, status} end)

  @doc false
  # The same with the calls in flight from this gateway.
  @spec loads() :: [{node(), :up | :down | :draining, non_neg_integer()}]
  def loads do
    for {name, status, in_flight} <- Native.node_selector_statuses(selector!()),
        # A config that was not stored may have named nodes by strings that are no atoms.
        node <- NodeList.existing(name),
        do: {node, status, in_flight}
  end

  @doc false
  @spec size() :: %{sticky_entries: non_neg_integer(), memory_bytes: non_neg_integer()}
  def size do
    {entries, bytes} = Native.node_selector_size(selector!())
    %{sticky_entries: entries, memory_bytes: bytes}
  end

  @doc """
  The circuits between functions and nodes that have had a failure lately.

  A circuit opens when at least `threshold` (5) calls timed out or lost their node and they are
  at least `failure_rate` (0.5) of all calls of the last 10 seconds; where there were fewer than 10
  calls, of the last 60. The node is then passed over for that function, until after `cooldown_ms`
  (30,000) one call is let through as a probe. Its success closes the circuit. A circuit for which
  nothing has happened in ten cool-downs is forgotten.

  `state` is `:closed` (with the `failures` that count now), `:open` (with `retry_in_ms` until the probe) or
  `:half_open` (the probe is under way).
  """
  @spec circuits() :: [
          %{
            required(:service | :request_type | :version | :node) => String.t(),
            required(:state) => :closed | :open | :half_open,
            optional(:failures | :retry_in_ms) => non_neg_integer()
          }
        ]
  def circuits do
    for {{service, type, version, node}, state, number} <- Native.circuits_list(selector!()) do
      circuit =
        %{service: service, request_type: type, version: version, node: node, state: state}

      case state do
        :closed -> Map.put(circuit, :failures, number)
        :open -> Map.put(circuit, :retry_in_ms, number)
        :half_open -> circuit
      end
    end
  end

  @doc false
  # The request path: the chosen node and what counts a call on it.
  @spec pick(Plan.t(), Request.t()) ::
          {:ok, node(), Circuits.counter()} | {:error, reason()}
  # Whether its circuit is open is found out when the call begins.
  def pick(plan(handle: handle) = plan, request) when has(plan, :local),
    do: {:ok, node(), {handle, 0, Circuits.caller(request)}}

  def pick(plan(handle: handle) = plan, request) when has(plan, :fixed_route) do
    case Native.node_selector_pick(handle, request) do
      {:convert, _value} = other -> pick_fallback(plan, request, other)
      {node, place} -> {:ok, node, {handle, place, Circuits.caller(request)}}
      other -> pick_fallback(plan, request, other)
    end
  end

  def pick(plan, request) do
    config = hurried(plan, request)

    with {:ok, selector} <- Gateway.handle(:node_selector),
         {:ok, names} <- listed(plan, config),
         {:ok, [node | _]} <- ordered(selector, config, names, request) do
      [counter] = counters(selector, config, names, [node], request)
      {:ok, node, counter}
    end
  end

  @doc false
  # The same for all usable nodes, best first.
  @spec candidates(Plan.t(), Request.t()) ::
          {:ok, [{node(), Circuits.counter()}, ...]} | {:error, reason()}
  def candidates(plan(handle: handle) = plan, request) when has(plan, :fixed_route) do
    caller = Circuits.caller(request)

    case order(handle, request) do
      [_ | _] = nodes ->
        {:ok, for({node, place} <- nodes, do: {node, {handle, place, caller}})}

      [] ->
        unavailable(handle)

      problem ->
        pick_fallback(plan, request, problem)
    end
  end

  def candidates(plan, request) do
    config = hurried(plan, request)

    with {:ok, selector} <- Gateway.handle(:node_selector),
         {:ok, names} <- listed(plan, config),
         {:ok, nodes} <- ordered(selector, config, names, request) do
      {:ok, Enum.zip(nodes, counters(selector, config, names, nodes, request))}
    end
  end

  # Its own members, which need not be those of the function that is stored by now.
  defp listed(plan(handle: handle), %{nodes: :service}),
    do: NodeList.members(Plan.candidate_set(handle))

  defp listed(_plan, config), do: resolve_nodes_list(config)

  # Functions of the config have what is left for the request, and no more than they ever have.
  defp hurried(plan, request) do
    config = Plan.config(plan)
    %{config | hook_timeout: Deadline.within(request, config.hook_timeout)}
  end

  # A route over all that are listed, to count calls on: how many of them are usable decides
  # whether circuits are heeded.
  defp counters(selector, config, names, nodes, request) do
    names = Enum.uniq_by(names, &to_string/1)
    route = route(selector, config, names)

    places =
      names |> Enum.with_index() |> Map.new(fn {name, place} -> {to_string(name), place} end)

    caller = Circuits.caller(request)
    for node <- nodes, do: {route, Map.fetch!(places, to_string(node)), caller}
  end

  defp pick_fallback(plan(handle: handle) = plan, request, {:convert, value}) do
    with {:ok, key} <- text(value),
         {node, place} <- Native.node_selector_pick_key(handle, key) do
      {:ok, node, {handle, place, Circuits.caller(request)}}
    else
      problem -> pick_fallback(plan, request, problem)
    end
  end

  defp pick_fallback(plan(handle: handle), _request, :none), do: unavailable(handle)

  defp pick_fallback(plan(handle: handle) = plan, _request, problem) do
    config = Plan.config(plan)

    # Without a node there is nothing to route, whatever the key.
    if config.nodes == :service and Native.node_selector_unavailable(handle) == :no_nodes,
      do: {:error, :no_nodes_available},
      else: {:error, key_error(problem, config.choose_node_mode)}
  end

  defp local(config) do
    with {:ok, selector} <- Gateway.handle(:node_selector),
         [{_name, :circuit_open}] <- obstacles(route(selector, config, [node()])) do
      {:error, {:all_nodes_unavailable, [{node(), :circuit_open}]}}
    else
      _usable_or_not_running -> {:ok, [node()]}
    end
  end

  defp ordered(selector, %{choose_node_mode: {m, f, a}} = config, names, request)
       when is_atom(m) and is_atom(f) do
    case RPC.Local.apply(m, f, [names, request | a], config.hook_timeout) do
      {:ok, node} when is_atom(node) or is_binary(node) -> usable(selector, config, [node], names)
      {:ok, nodes} when is_list(nodes) -> usable(selector, config, nodes, names)
      {:ok, other} -> {:error, {:dynamic_node_resolution_failed, {:not_a_node, other}}}
      {:error, reason} -> {:error, {:dynamic_node_resolution_failed, reason}}
    end
  end

  defp ordered(selector, config, names, request) do
    names = Enum.uniq_by(names, &to_string/1)
    route = route(selector, config, names, Plan.mode(config.choose_node_mode))

    case order(route, request) do
      [] -> unavailable(route, Map.new(names, &{to_string(&1), &1}))
      nodes when is_list(nodes) -> {:ok, at(names, nodes)}
      problem -> {:error, key_error(problem, config.choose_node_mode)}
    end
  end

  # The names as they were given, and not the native side's.
  defp at(names, nodes) do
    names = List.to_tuple(names)
    for {_name, place} <- nodes, do: elem(names, place)
  end

  defp order(route, request) do
    case Native.node_selector_order(route, request) do
      {:convert, value} ->
        with {:ok, key} <- text(value), do: Native.node_selector_order_key(route, key)

      result ->
        result
    end
  end

  # The text of a number to route by. Writing a long integer in decimal takes time quadratic
  # in its length; one of more than 1,000 bytes routes nothing.
  defp text(text) when is_binary(text), do: {:ok, text}

  defp text(number) do
    if :erlang.external_size(number) > 1_000, do: :invalid_key, else: {:ok, to_string(number)}
  end

  defp route(selector, config, names, mode \\ :random) do
    %{service: service, request_type: request_type, version: version} = config
    function = {to_string(service), to_string(request_type), to_string(version)}
    Native.node_selector_route(selector, function, Enum.map(names, &to_string/1), mode)
  end

  defp usable(selector, config, nodes, names) do
    listed = MapSet.new(names)

    cond do
      not NodeList.names?(nodes) or Enum.any?(nodes, &(&1 not in listed)) ->
        {:error, {:dynamic_node_resolution_failed, {:not_in_list, nodes}}}

      nodes == [] ->
        {:error, :no_nodes_available}

      true ->
        nodes = Enum.uniq_by(nodes, &to_string/1)
        names = Enum.uniq_by(names, &to_string/1)
        obstacles = Map.new(obstacles(route(selector, config, names)))

        case Enum.reject(nodes, &is_map_key(obstacles, to_string(&1))) do
          [] -> {:error, {:all_nodes_unavailable, Enum.map(nodes, &{&1, obstacles["#{&1}"]})}}
          usable -> {:ok, usable}
        end
    end
  end

  defp unavailable(routed, given \\ %{}) do
    case Native.node_selector_unavailable(routed) do
      :no_nodes ->
        {:error, :no_nodes_available}

      obstacles ->
        obstacles = for {node, obstacle} <- obstacles, do: {Map.get(given, node, node), obstacle}
        {:error, {:all_nodes_unavailable, obstacles}}
    end
  end

  # What is wrong with the nodes that are not usable, by their names.
  defp obstacles(route) do
    case Native.node_selector_unavailable(route) do
      :no_nodes -> []
      obstacles -> obstacles
    end
  end

  defp key_error(:key_not_found, {_mode, key}), do: {:hash_key_not_found, key}
  defp key_error(:invalid_key, {_mode, key}), do: {:invalid_hash_key, key}
  # `:hash` routes by the request id, which a hand-made request may lack.
  defp key_error(:key_not_found, mode), do: {:hash_key_not_found, field(mode)}
  defp key_error(:invalid_key, mode), do: {:invalid_hash_key, field(mode)}

  defp field(:hash), do: "request_id"

  defp mode(mode) when mode in @modes, do: :ok

  defp mode(mode) do
    if Validation.mode?(mode),
      do: :ok,
      else: {:error, {:invalid_choose_node_mode, mode}}
  end

  @doc false
  # Takes the limits of the sticky table and the circuits' from the config as it is now.
  @spec reload() :: :ok
  def reload do
    with {:ok, selector} <- Gateway.handle(:node_selector) do
      ttl = Config.get(:node_selector, :sticky_ttl_ms)
      Native.node_selector_limit(selector, ttl, Config.get(:node_selector, :sticky_max_entries))
    end

    Circuits.reload()
  end

  @doc false
  @spec sweep(reference()) :: :ok
  def sweep(selector) do
    slice = 1_000
    if Native.node_selector_sweep(selector, slice) == slice, do: sweep(selector), else: :ok
  end

  @doc false
  @spec mark(node(), :up | :down) :: :ok
  def mark(node, change) do
    Native.node_selector_mark(selector!(), Atom.to_string(node), change)
    :ok
  end

  defp selector!, do: Gateway.handle!(:node_selector)
end
