defmodule PhoenixGenApi.Native do
  @moduledoc false
  # Stubs of the NIFs, grouped by the module that owns them; only that module calls them.
  # A loaded NIF module cannot be replaced at run time, so nothing but stubs lives here.

  alias PhoenixGenApi.Log

  require Log

  @on_load :load

  @doc false
  def load do
    case :erlang.load_nif(String.to_charlist(Path.rootname(file())), 0) do
      :ok ->
        :persistent_term.put({__MODULE__, :load_error}, nil)

      # The code that runs has the library, with all that it holds. Whoever fails here leaves that
      # code in place.
      {:error, {kind, _text}} when kind in [:upgrade, :reload, :old_code] ->
        Log.warning(
          "phoenix_gen_api: #{inspect(__MODULE__)} was loaded again, which has no effect: its " <>
            "native code is replaced by a restart of the node"
        )

        {:error, :loaded}

      {:error, reason} ->
        :persistent_term.put({__MODULE__, :load_error}, reason)
        :ok
    end
  end

  @doc "The path of the native library."
  @spec file() :: String.t()
  def file do
    extension = if match?({:win32, _}, :os.type()), do: ".dll", else: ".so"
    Application.app_dir(:phoenix_gen_api, ["priv", "native", "gen_api_nif" <> extension])
  end

  @doc "`:ok`, or a sentence that names the file and says why it could not be loaded."
  @spec status() :: :ok | {:error, String.t()}
  def status do
    case :persistent_term.get({__MODULE__, :load_error}, nil) do
      nil -> :ok
      {kind, text} -> {:error, "cannot load the native library #{file()}: #{kind}: #{text}"}
    end
  end

  @type handle :: reference()
  @type problem :: {atom(), [String.t() | non_neg_integer()], term(), term()}

  # PhoenixGenApi.ArgumentHandler

  @spec argument_handler_compile(
          [{[{String.t(), tuple()}], as_map? :: boolean()}],
          pos_integer(),
          pos_integer()
        ) :: [{:ok, handle()} | {:error, {atom(), [String.t()], String.t() | nil}}]
  def argument_handler_compile(_schemas, _max_depth, _max_nodes), do: not_loaded()

  @spec argument_handler_convert(handle(), map()) ::
          [term()] | {:error, problem()} | :out_of_budget
  def argument_handler_convert(_plan, _arguments), do: not_loaded()

  @spec argument_handler_convert_dirty(handle(), map()) :: [term()] | {:error, problem()}
  def argument_handler_convert_dirty(_plan, _arguments), do: not_loaded()

  @spec argument_handler_problems(handle(), map()) :: [problem()] | :out_of_budget
  def argument_handler_problems(_plan, _arguments), do: not_loaded()

  @spec argument_handler_check_result(handle(), map()) :: boolean() | :out_of_budget
  def argument_handler_check_result(_plan, _result), do: not_loaded()

  @spec argument_handler_check_result_dirty(handle(), map()) :: boolean()
  def argument_handler_check_result_dirty(_plan, _result), do: not_loaded()

  @spec argument_handler_result_problems(handle(), map()) :: [problem()]
  def argument_handler_result_problems(_plan, _result), do: not_loaded()

  @spec argument_handler_problems_dirty(handle(), map()) :: [problem()]
  def argument_handler_problems_dirty(_plan, _arguments), do: not_loaded()

  # PhoenixGenApi.Plan

  @spec plan_new(handle() | nil, handle() | nil, [map()]) :: [PhoenixGenApi.Plan.t()]
  def plan_new(_selector, _limiter, _specs), do: not_loaded()

  @spec plan_config(handle()) :: PhoenixGenApi.Structs.FunConfig.t() | :out_of_budget
  def plan_config(_plan), do: not_loaded()

  @spec plan_config_dirty(handle()) :: PhoenixGenApi.Structs.FunConfig.t()
  def plan_config_dirty(_plan), do: not_loaded()

  @spec plan_candidate_set(handle()) :: handle() | nil
  def plan_candidate_set(_plan), do: not_loaded()

  # PhoenixGenApi.CandidateSet

  @spec candidate_set_new(handle()) :: handle()
  def candidate_set_new(_selector), do: not_loaded()

  @spec candidate_set_of_function(handle(), String.t(), String.t(), String.t()) :: handle() | nil
  def candidate_set_of_function(_table, _service, _request_type, _version), do: not_loaded()

  @spec candidate_set_put(handle(), [node()]) :: :ok
  def candidate_set_put(_set, _nodes), do: not_loaded()

  @spec candidate_set_nodes(handle()) :: [node()]
  def candidate_set_nodes(_set), do: not_loaded()

  # PhoenixGenApi.ConfigDb

  @type config_origin :: :direct | :pull | :push | :offer

  @spec config_db_new() :: handle()
  def config_db_new, do: not_loaded()

  @spec config_db_fetch(handle(), String.t(), String.t(), String.t() | nil) ::
          PhoenixGenApi.Plan.t() | :not_found | :disabled | :out_of_budget
  def config_db_fetch(_table, _service, _request_type, _version), do: not_loaded()

  @spec config_db_fetch_dirty(handle(), String.t(), String.t(), String.t() | nil) ::
          PhoenixGenApi.Plan.t() | :not_found | :disabled
  def config_db_fetch_dirty(_table, _service, _request_type, _version), do: not_loaded()

  @spec config_db_get(handle(), String.t(), String.t(), String.t()) ::
          handle() | :not_found | :disabled
  def config_db_get(_table, _service, _request_type, _version), do: not_loaded()

  @spec config_db_latest(handle(), String.t(), String.t()) :: handle() | :not_found
  def config_db_latest(_table, _service, _request_type), do: not_loaded()

  @spec config_db_store(handle(), [handle()], config_origin()) :: :ok
  def config_db_store(_table, _plans, _origin), do: not_loaded()

  @type config_key :: {request_type :: String.t(), version :: String.t()}

  @spec config_db_replace(
          handle(),
          String.t(),
          [handle()],
          config_origin(),
          [config_key()],
          boolean(),
          [config_key()]
        ) :: {removed :: non_neg_integer(), [config_key()]}
  def config_db_replace(_table, _service, _plans, _origin, _keep, _strict?, _ineligible),
    do: not_loaded()

  @spec config_db_set_ineligible(handle(), String.t(), [config_key()]) :: boolean()
  def config_db_set_ineligible(_table, _service, _keys), do: not_loaded()

  @spec config_db_delete(handle(), String.t(), String.t(), String.t()) :: boolean()
  def config_db_delete(_table, _service, _request_type, _version), do: not_loaded()

  @spec config_db_switch(handle(), String.t(), String.t(), String.t(), boolean(), boolean()) ::
          :changed | :unchanged | :not_found
  def config_db_switch(_table, _service, _request_type, _version, _enabled?, _ahead?),
    do: not_loaded()

  @spec config_db_clear(handle()) :: non_neg_integer()
  def config_db_clear(_table), do: not_loaded()

  @spec config_db_count(handle()) :: non_neg_integer()
  def config_db_count(_table), do: not_loaded()

  @spec config_db_state(handle()) :: non_neg_integer()
  def config_db_state(_table), do: not_loaded()

  @spec config_db_bytes(handle()) :: non_neg_integer()
  def config_db_bytes(_table), do: not_loaded()

  @spec config_db_list(handle()) :: [{String.t(), String.t(), [{String.t(), boolean()}]}]
  def config_db_list(_table), do: not_loaded()

  @spec config_db_origin(handle(), String.t(), String.t(), String.t()) :: config_origin() | nil
  def config_db_origin(_table, _service, _request_type, _version), do: not_loaded()

  @spec config_db_compare(String.t(), String.t()) :: :lt | :eq | :gt
  def config_db_compare(_a, _b), do: not_loaded()

  # PhoenixGenApi.Channel.Requests

  @typedoc "Of a connection: unfinished requests, bytes; of a channel: concurrency, pending, running."
  @type request_limits ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(),
           non_neg_integer()}
  @typedoc "Whether it holds its id, goes on after its acknowledgement, and runs in order."
  @type request_traits :: {boolean(), boolean(), boolean()}
  @type admission ::
          {:start, pos_integer(), follows? :: boolean()}
          | {:wait, pos_integer(), pid() | nil}
          | :duplicate
          | :max_connection_requests
          | :max_pending
          | :max_running
  @type turn ::
          :nobody
          | :reading
          | {:start, pos_integer(), follows? :: boolean()}
          | {:refused | :other, pos_integer()}
  @type cancelled ::
          {:waiting, pos_integer(), pid() | nil, info :: term()}
          | {:executing, pid() | nil, info :: term()}
          | {:running, pid() | nil}

  @spec channel_requests_new(
          handle() | nil,
          handle() | nil,
          handle() | nil,
          pid(),
          pid(),
          term()
        ) :: handle()
  def channel_requests_new(_sibling, _share, _waits, _channel, _transport, _delivery),
    do: not_loaded()

  @spec channel_requests_admit(
          handle(),
          request_limits(),
          String.t(),
          request_traits(),
          integer()
        ) :: admission()
  def channel_requests_admit(_requests, _limits, _id, _traits, _until), do: not_loaded()

  @spec channel_requests_waits(handle(), pos_integer(), term()) :: boolean()
  def channel_requests_waits(_requests, _number, _info), do: not_loaded()

  @spec channel_requests_admit_other(handle(), request_limits(), integer(), boolean()) ::
          admission()
  def channel_requests_admit_other(_requests, _limits, _until, _wait?), do: not_loaded()

  @spec channel_requests_started(handle(), pos_integer(), pid(), term()) :: boolean()
  def channel_requests_started(_requests, _number, _pid, _info), do: not_loaded()

  @spec channel_requests_follow(handle(), pos_integer()) :: boolean()
  def channel_requests_follow(_requests, _number), do: not_loaded()

  @spec channel_requests_called(handle(), pos_integer()) :: :ok
  def channel_requests_called(_requests, _number), do: not_loaded()

  @spec channel_requests_finish(handle(), pos_integer(), [{pid(), term()}]) :: boolean()
  def channel_requests_finish(_requests, _number, _messages), do: not_loaded()

  @spec channel_requests_claim(handle(), pos_integer()) :: {term(), term()} | nil
  def channel_requests_claim(_requests, _number), do: not_loaded()

  @spec channel_requests_acknowledge(
          handle(),
          pos_integer(),
          :async_call | :stream_response,
          non_neg_integer(),
          [{pid(), term()}]
        ) :: :granted | :refused | :ended
  def channel_requests_acknowledge(_requests, _number, _kind, _max_running, _messages),
    do: not_loaded()

  @spec channel_requests_acknowledged(handle(), pos_integer()) :: boolean()
  def channel_requests_acknowledged(_requests, _number), do: not_loaded()

  @spec channel_requests_finish_running(handle(), pos_integer(), boolean(), [{pid(), term()}]) ::
          boolean()
  def channel_requests_finish_running(_requests, _number, _cancelled?, _messages),
    do: not_loaded()

  @spec channel_requests_cancel(handle(), String.t(), boolean()) :: [cancelled()]
  def channel_requests_cancel(_requests, _id, _streams_only?), do: not_loaded()

  @spec channel_requests_long(handle(), String.t()) :: [pid()]
  def channel_requests_long(_requests, _id), do: not_loaded()

  @spec channel_requests_set_queue(handle(), pid()) :: :ok
  def channel_requests_set_queue(_requests, _queue), do: not_loaded()

  @spec channel_requests_turn(handle(), request_limits(), non_neg_integer(), boolean()) :: turn()
  def channel_requests_turn(_requests, _limits, _upto, _reads?), do: not_loaded()

  @spec channel_requests_finish_waiting(handle(), pos_integer(), [{pid(), term()}]) :: boolean()
  def channel_requests_finish_waiting(_requests, _number, _messages), do: not_loaded()

  @spec channel_requests_expire(handle(), integer(), non_neg_integer()) ::
          {[pos_integer()], integer() | nil}
  def channel_requests_expire(_requests, _now, _upto), do: not_loaded()

  @spec channel_requests_retire(handle(), pid()) :: boolean()
  def channel_requests_retire(_requests, _queue), do: not_loaded()

  @spec channel_requests_count(handle()) ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer()}
  def channel_requests_count(_requests), do: not_loaded()

  # PhoenixGenApi.ClientConnection

  @spec client_connection_new() :: handle()
  def client_connection_new, do: not_loaded()

  @spec client_connection_share(handle(), pid()) :: handle()
  def client_connection_share(_connections, _pid), do: not_loaded()

  @spec client_connection_count(handle()) :: non_neg_integer()
  def client_connection_count(_connections), do: not_loaded()

  @spec client_connection_sent(handle(), non_neg_integer()) :: non_neg_integer()
  def client_connection_sent(_share, _bytes), do: not_loaded()

  @spec client_connection_waiting(handle()) :: non_neg_integer()
  def client_connection_waiting(_share), do: not_loaded()

  @spec client_connection_seen(handle(), non_neg_integer()) :: non_neg_integer()
  def client_connection_seen(_share, _frames), do: not_loaded()

  @spec client_connection_unfinished(handle()) :: non_neg_integer()
  def client_connection_unfinished(_share), do: not_loaded()

  # PhoenixGenApi.JsonEncoding

  @spec json_encoding_text_size(binary()) :: non_neg_integer() | nil | :out_of_budget
  def json_encoding_text_size(_text), do: not_loaded()

  @spec json_encoding_text_size_dirty(binary()) :: non_neg_integer() | nil
  def json_encoding_text_size_dirty(_text), do: not_loaded()

  # PhoenixGenApi.NodeSelector

  @typedoc "Where a node is among the candidates of a route."
  @type place :: non_neg_integer()
  @type unchosen :: :key_not_found | :invalid_key | {:convert, number() | binary()}

  @spec node_selector_new(non_neg_integer(), non_neg_integer()) :: handle()
  def node_selector_new(_ttl_ms, _max_entries), do: not_loaded()

  @spec node_selector_limit(handle(), non_neg_integer(), non_neg_integer()) :: :ok
  def node_selector_limit(_selector, _ttl_ms, _max_entries), do: not_loaded()

  @spec node_selector_route(handle(), {binary(), binary(), binary()}, [String.t()], term()) ::
          handle()
  def node_selector_route(_selector, _function, _names, _mode), do: not_loaded()

  @spec node_selector_pick(handle(), map()) ::
          {node(), place()} | :none | unchosen()
  def node_selector_pick(_routed, _request), do: not_loaded()

  @spec node_selector_pick_key(handle(), binary()) ::
          {node(), place()} | :none
  def node_selector_pick_key(_routed, _key), do: not_loaded()

  @spec node_selector_order(handle(), map()) :: [{node() | String.t(), place()}] | unchosen()
  def node_selector_order(_routed, _request), do: not_loaded()

  @spec node_selector_order_key(handle(), binary()) :: [{node() | String.t(), place()}]
  def node_selector_order_key(_routed, _key), do: not_loaded()

  @spec node_selector_unavailable(handle()) ::
          :no_nodes | [{node() | String.t(), :down | :draining | :circuit_open}]
  def node_selector_unavailable(_routed), do: not_loaded()

  @spec node_selector_mark(handle(), String.t(), :up | :down | :drain | :undrain) :: boolean()
  def node_selector_mark(_selector, _node, _change), do: not_loaded()

  @spec node_selector_statuses(handle()) :: [
          {String.t(), :up | :down | :draining, non_neg_integer()}
        ]
  def node_selector_statuses(_selector), do: not_loaded()

  @spec node_selector_status(handle(), String.t()) :: :up | :down | :draining
  def node_selector_status(_selector, _node), do: not_loaded()

  @spec node_selector_reset_round_robin(handle()) :: :ok
  def node_selector_reset_round_robin(_selector), do: not_loaded()

  @spec node_selector_sweep(handle(), pos_integer()) :: non_neg_integer()
  def node_selector_sweep(_selector, _budget), do: not_loaded()

  @spec node_selector_size(handle()) :: {non_neg_integer(), non_neg_integer()}
  def node_selector_size(_selector), do: not_loaded()

  # PhoenixGenApi.RateLimiter

  @type limit_scope :: :global | {String.t(), String.t()}
  @type limit_key :: :user_id | :device_id | :ip_address | String.t()
  @type limit_verdict ::
          :ok
          | :overflow
          | {:limited, limit_scope(), limit_key(), term(), non_neg_integer(), non_neg_integer(),
             pos_integer(), pos_integer()}

  @spec rate_limiter_new(pos_integer(), pos_integer(), pos_integer()) :: handle()
  def rate_limiter_new(_shards, _max_keys, _max_entries), do: not_loaded()

  @spec rate_limiter_fail_open(handle(), boolean()) :: :ok
  def rate_limiter_fail_open(_limiter, _fail_open?), do: not_loaded()

  @spec rate_limiter_configure(handle(), boolean(), [
          {limit_scope(), limit_key(), non_neg_integer(), pos_integer(), :skip | :deny | :shared}
        ]) :: :ok
  def rate_limiter_configure(_limiter, _enabled?, _limits), do: not_loaded()

  @spec rate_limiter_ipv6_prefix(handle(), 0..128) :: :ok
  def rate_limiter_ipv6_prefix(_limiter, _bits), do: not_loaded()

  @type limit_group :: :all | :verified | :verified_device | :claimed | :claimed_device

  @spec rate_limiter_check(handle(), map(), String.t(), String.t(), limit_group(), integer()) ::
          limit_verdict() | :more
  def rate_limiter_check(_limiter, _request, _service, _request_type, _group, _now),
    do: not_loaded()

  @spec rate_limiter_check_value(handle(), term(), limit_scope(), limit_key(), integer()) ::
          limit_verdict()
  def rate_limiter_check_value(_limiter, _value, _scope, _key, _now), do: not_loaded()

  @spec rate_limiter_status(handle(), term(), limit_scope(), limit_key(), integer()) :: [
          {non_neg_integer(), non_neg_integer(), pos_integer(), non_neg_integer()}
        ]
  def rate_limiter_status(_limiter, _value, _scope, _key, _now), do: not_loaded()

  @spec rate_limiter_reset(handle(), term(), limit_scope(), limit_key()) :: :ok
  def rate_limiter_reset(_limiter, _value, _scope, _key), do: not_loaded()

  @spec rate_limiter_clear(handle()) :: non_neg_integer()
  def rate_limiter_clear(_limiter), do: not_loaded()

  @spec rate_limiter_sweep(handle(), integer(), pos_integer()) :: {non_neg_integer(), boolean()}
  def rate_limiter_sweep(_limiter, _now, _budget), do: not_loaded()

  @spec rate_limiter_stats(handle()) ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()}
  def rate_limiter_stats(_limiter), do: not_loaded()

  # PhoenixGenApi.Executor

  @spec executor_begin(handle() | nil, place(), PhoenixGenApi.Circuits.caller()) ::
          handle() | :circuit_open
  def executor_begin(_routed, _place, _caller), do: not_loaded()

  @spec executor_enter(handle(), place()) :: :free | :call
  def executor_enter(_routed, _place), do: not_loaded()

  @spec executor_set_node(handle(), node(), call_key()) :: :ok
  def executor_set_node(_call, _node, _key), do: not_loaded()

  @spec executor_set_process(handle(), pid()) :: :ok
  def executor_set_process(_call, _callee), do: not_loaded()

  @spec executor_end(handle()) :: :ok
  def executor_end(_call), do: not_loaded()

  @spec executor_settle(handle(), handle(), :success | :error | :failure | :lost) ::
          :ok | PhoenixGenApi.Circuits.change()
  def executor_settle(_call, _routed, _ended), do: not_loaded()

  @spec executor_report_success(handle(), handle(), boolean()) ::
          :ok | :later | PhoenixGenApi.Circuits.change()
  def executor_report_success(_call, _routed, _probe_only?), do: not_loaded()

  @spec executor_count(handle()) :: :ok
  def executor_count(_plan), do: not_loaded()

  @spec executor_retry(handle(), float(), non_neg_integer()) :: boolean()
  def executor_retry(_plan, _ratio, _free), do: not_loaded()

  # PhoenixGenApi.RPC.Server

  @type call_key :: {non_neg_integer(), non_neg_integer()}

  @spec rpc_server_new() :: handle()
  def rpc_server_new, do: not_loaded()

  @spec rpc_server_enter(handle(), call_key()) :: boolean()
  def rpc_server_enter(_calls, _key), do: not_loaded()

  @spec rpc_server_leave(handle(), call_key()) :: :ok
  def rpc_server_leave(_calls, _key), do: not_loaded()

  @spec rpc_server_revoke(handle(), call_key()) :: pid() | nil
  def rpc_server_revoke(_calls, _key), do: not_loaded()

  @spec rpc_server_running(handle()) :: [pid()]
  def rpc_server_running(_calls), do: not_loaded()

  @spec rpc_server_size(handle()) :: {non_neg_integer(), non_neg_integer()}
  def rpc_server_size(_calls), do: not_loaded()

  # PhoenixGenApi.Circuits

  @type circuit :: {String.t(), String.t(), String.t(), String.t()}

  @spec circuits_configure(
          handle(),
          {pos_integer(), pos_integer(), float()} | nil,
          0..128
        ) :: [circuit()]
  def circuits_configure(_selector, _policy, _ipv6_prefix), do: not_loaded()

  @spec circuits_sweep(handle()) :: [circuit()]
  def circuits_sweep(_selector), do: not_loaded()

  @spec circuits_end_cooldown(handle(), String.t()) :: :ok
  def circuits_end_cooldown(_selector, _node), do: not_loaded()

  @spec circuits_list(handle()) :: [{circuit(), :closed | :open | :half_open, non_neg_integer()}]
  def circuits_list(_selector), do: not_loaded()

  @spec circuits_size(handle()) :: {non_neg_integer(), non_neg_integer()}
  def circuits_size(_selector), do: not_loaded()

  # PhoenixGenApi.WorkerPool

  @type circuit_change :: nil | :closed | {:opened, pos_integer()}

  @spec worker_pool_new(
          pos_integer(),
          non_neg_integer(),
          pos_integer(),
          float(),
          non_neg_integer()
        ) :: handle()
  def worker_pool_new(_size, _max_queue, _threshold, _failure_rate, _cooldown_ms),
    do: not_loaded()

  @spec worker_pool_set_server(handle()) :: :ok
  def worker_pool_set_server(_pool), do: not_loaded()

  @spec worker_pool_take_work(handle()) ::
          {[pid()],
           [
             {:killed, integer(), :timeout | :owner_died | :stopped | nil, circuit_change()}
             | {pid(), term()}
           ], non_neg_integer() | nil}
  def worker_pool_take_work(_pool), do: not_loaded()

  @spec worker_pool_stop(handle()) :: [pid()]
  def worker_pool_stop(_pool), do: not_loaded()

  @spec worker_pool_admit(
          handle(),
          boolean(),
          non_neg_integer() | nil,
          {pid(), term()} | nil,
          {name :: binary(), ipv6_prefix :: 0..128 | nil, most :: non_neg_integer()} | nil
        ) :: handle() | :closed | :queue_full | :circuit_open | :user_share
  def worker_pool_admit(_pool, _counted?, _timeout_ms, _on_death, _caller), do: not_loaded()

  @spec worker_pool_waits(handle()) :: boolean()
  def worker_pool_waits(_slot), do: not_loaded()

  @spec worker_pool_enter(handle(), boolean(), pid() | nil, integer()) ::
          :run | :late | :orphan | :wait | :gone
  def worker_pool_enter(_slot, _first?, _owner, _started), do: not_loaded()

  @spec worker_pool_leave(handle(), :returned | :failed | :answered, {pid(), term()} | nil) ::
          circuit_change() | :killed
  def worker_pool_leave(_slot, _end, _answer), do: not_loaded()

  @spec worker_pool_status(handle()) ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), :closed | :probing | :open,
           non_neg_integer(), non_neg_integer()}
  def worker_pool_status(_pool), do: not_loaded()

  # PhoenixGenApi.Relay

  @type relay_bounds ::
          {pos_integer(), pos_integer(), non_neg_integer(), pos_integer(), non_neg_integer()}
  @type relay_joining :: {pid(), pid(), binary()}
  @type relay_delivery ::
          {non_neg_integer(), handle(), [{non_neg_integer(), binary()}], non_neg_integer()}

  @spec relay_new(relay_bounds()) :: handle()
  def relay_new(_bounds), do: not_loaded()

  @spec relay_configure(handle(), relay_bounds(), pos_integer() | nil, pos_integer() | nil) :: :ok
  def relay_configure(_relay, _bounds, _group_rate, _member_rate), do: not_loaded()

  @spec relay_create(
          handle(),
          String.t(),
          atom(),
          String.t(),
          relay_joining(),
          {non_neg_integer(), non_neg_integer()}
        ) :: :ok | atom()
  def relay_create(_relay, _group, _type, _user, _joining, _created), do: not_loaded()

  @spec relay_ensure(
          handle(),
          String.t(),
          atom(),
          [String.t()],
          {non_neg_integer(), non_neg_integer()},
          boolean()
        ) :: :ok | atom()
  def relay_ensure(_relay, _group, _type, _admins, _created, _decided?), do: not_loaded()

  @spec relay_delete(handle(), String.t()) :: non_neg_integer() | atom()
  def relay_delete(_relay, _group), do: not_loaded()

  @spec relay_join(handle(), String.t(), String.t(), relay_joining(), non_neg_integer()) ::
          {:ok, :active | :pending | :muted} | atom()
  def relay_join(_relay, _group, _user, _joining, _now_ms), do: not_loaded()

  @spec relay_leave(handle(), String.t(), String.t(), non_neg_integer()) :: :ok | atom()
  def relay_leave(_relay, _group, _user, _now_ms), do: not_loaded()

  @spec relay_leave_device(handle(), String.t(), String.t(), pid(), non_neg_integer()) ::
          boolean() | atom()
  def relay_leave_device(_relay, _group, _user, _pid, _now_ms), do: not_loaded()

  @spec relay_moderate(handle(), String.t(), atom(), String.t(), String.t(), non_neg_integer()) ::
          :ok | atom()
  def relay_moderate(_relay, _group, _moderation, _actor, _target, _now_ms), do: not_loaded()

  @spec relay_publish(handle(), String.t(), String.t() | nil, integer()) ::
          relay_delivery() | atom() | {:too_fast, pos_integer()}
  def relay_publish(_relay, _group, _user, _now), do: not_loaded()

  @spec relay_fan_out(handle(), String.t()) :: relay_delivery() | atom()
  def relay_fan_out(_relay, _group), do: not_loaded()

  @spec relay_send(
          handle(),
          handle(),
          handle(),
          [{non_neg_integer(), term(), non_neg_integer()}],
          non_neg_integer()
        ) :: {boolean(), non_neg_integer(), [pid()], [{pid(), non_neg_integer()}]}
  def relay_send(_relay, _connections, _delivery, _messages, _limit), do: not_loaded()

  @spec relay_set_slow(handle(), [pid()]) :: :ok
  def relay_set_slow(_relay, _pids), do: not_loaded()

  @spec relay_disconnects(handle(), pos_integer()) ::
          [{String.t(), String.t(), boolean(), boolean()}]
  def relay_disconnects(_relay, _enough), do: not_loaded()

  @spec relay_ack_disconnect(handle()) :: :ok
  def relay_ack_disconnect(_relay), do: not_loaded()

  @spec relay_page(handle(), String.t(), non_neg_integer(), pos_integer()) ::
          {atom(), [{String.t(), atom(), boolean(), non_neg_integer(), non_neg_integer()}],
           non_neg_integer() | nil}
          | atom()
  def relay_page(_relay, _group, _start, _count), do: not_loaded()

  @spec relay_groups_of(handle(), String.t()) :: [{String.t(), atom()}]
  def relay_groups_of(_relay, _user), do: not_loaded()

  @spec relay_size(handle()) ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(),
           non_neg_integer()}
  def relay_size(_relay), do: not_loaded()

  @spec relay_sweep(handle(), integer(), pos_integer()) :: boolean()
  def relay_sweep(_relay, _now, _budget), do: not_loaded()

  # PhoenixGenApi.Relay, groups that several gateways hold

  @type relay_origin :: {atom(), non_neg_integer(), non_neg_integer(), non_neg_integer()}
  @type relay_record :: {String.t(), byte(), non_neg_integer(), non_neg_integer()}

  @spec relay_set_shared(handle(), boolean()) :: :ok
  def relay_set_shared(_relay, _shared?), do: not_loaded()

  @type relay_change ::
          {:create, String.t(), atom(), String.t(), {non_neg_integer(), non_neg_integer()}}
          | {:join | :leave, String.t(), String.t()}
          | {:depart, String.t(), String.t(), boolean()}
          | {:change, String.t(), atom(), String.t(), String.t()}
  @type relay_decision :: {atom(), relay_origin(), relay_record()}

  @spec relay_decide(handle(), relay_change(), non_neg_integer()) :: relay_decision() | atom()
  def relay_decide(_relay, _change, _now_ms), do: not_loaded()

  @spec relay_decide_delete(handle(), String.t()) :: non_neg_integer() | atom()
  def relay_decide_delete(_relay, _group), do: not_loaded()

  @spec relay_attach(handle(), String.t(), String.t(), relay_joining()) :: :ok | atom()
  def relay_attach(_relay, _group, _user, _joining), do: not_loaded()

  @spec relay_detach(handle(), String.t(), String.t(), pid()) :: :ok | atom()
  def relay_detach(_relay, _group, _user, _pid), do: not_loaded()

  @spec relay_has_local_device(handle(), String.t(), String.t(), pid() | nil) :: boolean()
  def relay_has_local_device(_relay, _group, _user, _pid), do: not_loaded()

  @spec relay_put(handle(), String.t(), relay_origin(), relay_record(), boolean()) :: boolean()
  def relay_put(_relay, _group, _origin, _record, _evict?), do: not_loaded()

  @spec relay_set_remote(handle(), String.t(), String.t(), non_neg_integer(), boolean()) :: :ok
  def relay_set_remote(_relay, _group, _user, _slot, _there?), do: not_loaded()

  @spec relay_offline_members(handle(), String.t(), non_neg_integer()) :: [
          {String.t(), boolean()}
        ]
  def relay_offline_members(_relay, _group, _nodes), do: not_loaded()

  @spec relay_record(handle(), String.t(), String.t()) :: relay_decision() | atom()
  def relay_record(_relay, _group, _user), do: not_loaded()

  @spec relay_ids(handle()) :: [String.t()]
  def relay_ids(_relay), do: not_loaded()

  @spec relay_records(handle(), String.t(), non_neg_integer(), pos_integer()) ::
          {relay_origin(), [{relay_record(), boolean()}], non_neg_integer() | nil} | atom()
  def relay_records(_relay, _group, _start, _count), do: not_loaded()

  @spec relay_merge(handle(), String.t(), relay_origin(), non_neg_integer(), boolean(), [
          {relay_record(), boolean()}
        ]) :: {[String.t()], [relay_record()]}
  def relay_merge(_relay, _group, _origin, _slot, _apart?, _records), do: not_loaded()

  defp not_loaded, do: :erlang.nif_error(:nif_not_loaded)
end
