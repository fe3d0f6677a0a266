defmodule PhoenixGenApi.NativeArguments do
  @moduledoc false
  # What every NIF takes, position by position: examples that are right, and terms that are wrong.

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @id {:tuple, [:u64, :u64]}
  @bounds {:tuple, [:usize, :usize, :usize, :usize, :u64]}
  @group_type {:one_of, [:public, :private, :strict_private]}
  @origin {:tuple, [@group_type, :u64, :u64, :u64]}
  @record {:tuple, [:text, :u8, :u32, :u64]}
  @joining {:tuple, [:pid, :pid, :binary]}
  @verb {:one_of, [:accept, :mute, :unmute, :kick, :ban, :unban, :promote, :demote]}
  @changes [
    [{:one_of, [:join, :leave]}, :text, :text],
    [{:one_of, [:depart]}, :text, :text, :boolean],
    [{:one_of, [:create]}, :text, @group_type, :text, @id],
    [{:one_of, [:change]}, :text, @verb, :text, :text]
  ]
  @source {:one_of, [:direct, :pull, :push, :offer]}
  @scope {:either, {:one_of, [:global]}, {:tuple, [:text, :text]}}
  @key {:either, {:one_of, [:user_id, :device_id, :ip_address]}, :text}
  @limit_group {:one_of, [:all, :verified, :verified_device, :claimed, :claimed_device]}
  @limit {:tuple, [@scope, @key, :u32, :u64, {:one_of, [:skip, :deny, :shared]}]}
  @routed {:handle, [:plan, :route]}
  @caller {:nilable, {:either, :binary, {:tuple, [{:one_of, [:address]}, :binary]}}}
  @message {:nilable, {:tuple, [:any_pid, :term]}}
  @mode {:either, {:one_of, [:random, :custom, :hash, :round_robin, :least_busy]},
         {:either, {:tuple, [{:one_of, [:hash, :sticky]}, :text]},
          {:tuple, [{:one_of, [:weighted]}, {:map, :text, :u32}]}}}

  @plan {:fields,
         service: :text,
         request_type: :text,
         version: :text,
         disabled: :boolean,
         schema: {:handle, [:schema]},
         result: {:nilable, {:handle, [:schema]}},
         module: :atom,
         function: :atom,
         arguments: {:list, :term},
         timeout: {:nilable, :u32},
         response_type: :atom,
         permission: :term,
         flags: :u32,
         nodes: {:nilable, {:either, {:list, :atom}, {:handle, [:set]}}},
         mode: @mode,
         config: :term,
         term_bytes: :usize}

  @bound {:nilable, :bound}
  @size {:tuple, [:u32, :u32]}
  @format {:nilable, {:tuple, [:text, :text]}}
  @type_kinds [
    boolean: {:one_of, [nil]},
    integer: {:tuple, [@bound, @bound]},
    string: {:tuple, [:u32, :u32, {:nilable, :u32}, @format]},
    enum: {:list, :scalar},
    scalar_list: {:tuple, [@size, :u32]},
    list_num: @size,
    list_string: {:tuple, [@size, :u32, {:nilable, :u32}]},
    map: :u32,
    flat_map: {:tuple, [:u32, {:list, :text}, {:nilable, {:list, :text}}, :boolean, :u32, :u32]}
  ]

  # The type of an argument, with one of its kinds.
  defp type(kind, parameters),
    do: {:tuple, [{:one_of, [kind]}, :boolean, :default, parameters]}

  defp types do
    plain = for {kind, parameters} <- @type_kinds, do: type(kind, parameters)
    field = {:list, {:tuple, [:text, hd(plain)]}}
    plain ++ [type(:list, {:tuple, [@size, hd(plain)]}), type(:record, field)]
  end

  defp schemas(type), do: {:list, {:tuple, [{:list, {:tuple, [:text, type]}}, :boolean]}}

  @doc "`{name, kinds}` of every NIF; of two NIFs with each kind of what they take."
  def signatures do
    compile = for type <- types(), do: {:argument_handler_compile, [schemas(type), :depth, :u32]}
    table = {:handle, [:table]}
    selector = {:handle, [:selector]}
    limiter = {:handle, [:limiter]}
    call = {:handle, [:call]}
    calls = {:handle, [:calls]}
    pool = {:handle, [:pool]}
    slot = {:handle, [:slot]}
    relay = {:handle, [:relay]}
    plan = {:handle, [:plan]}
    set = {:handle, [:set]}
    connections = {:handle, [:connections]}
    share = {:handle, [:share]}
    requests = {:handle, [:requests]}
    limits = {:tuple, [:u32, :u64, :u32, :u32, :u32]}
    function = [table, :text, :text, :text]
    in_group = [relay, :text, :text]
    decide = for change <- @changes, do: {:relay_decide, [relay, {:tuple, change}, :u64]}

    compile ++
      decide ++
      [
        argument_handler_convert: [plan, :map],
        argument_handler_convert_dirty: [plan, :map],
        argument_handler_problems: [plan, :map],
        argument_handler_problems_dirty: [plan, :map],
        argument_handler_check_result: [plan, :map],
        argument_handler_check_result_dirty: [plan, :map],
        argument_handler_result_problems: [plan, :map],
        plan_new: [{:nilable, selector}, {:nilable, limiter}, {:list, @plan}],
        plan_config: [plan],
        plan_config_dirty: [plan],
        plan_candidate_set: [plan],
        candidate_set_new: [selector],
        candidate_set_of_function: function,
        candidate_set_put: [set, {:list, :atom}],
        candidate_set_nodes: [set],
        config_db_new: [],
        config_db_fetch: [table, :binary, :binary, {:nilable, :binary}],
        config_db_fetch_dirty: [table, :binary, :binary, {:nilable, :binary}],
        config_db_get: [table, :text, :text, :binary],
        config_db_latest: [table, :text, :text],
        config_db_store: [table, {:list, plan}, @source],
        config_db_replace: [
          table,
          :text,
          {:list, plan},
          @source,
          {:list, {:tuple, [:text, :text]}},
          :boolean,
          {:list, {:tuple, [:text, :text]}}
        ],
        config_db_set_ineligible: [table, :text, {:list, {:tuple, [:text, :text]}}],
        config_db_delete: function,
        config_db_switch: function ++ [:boolean, :boolean],
        config_db_clear: [table],
        config_db_count: [table],
        config_db_state: [table],
        config_db_bytes: [table],
        config_db_list: [table],
        config_db_origin: function,
        config_db_compare: [:text, :text],
        channel_requests_new: [
          {:nilable, requests},
          {:nilable, share},
          {:nilable, share},
          :pid,
          :pid,
          :small
        ],
        channel_requests_admit: [
          requests,
          limits,
          :text,
          {:tuple, [:boolean, :boolean, :boolean]},
          :i64
        ],
        channel_requests_waits: [requests, :u64, :small],
        channel_requests_admit_other: [requests, limits, :i64, :boolean],
        channel_requests_started: [requests, :u64, :pid, :small],
        channel_requests_follow: [requests, :u64],
        channel_requests_called: [requests, :u64],
        channel_requests_finish: [requests, :u64, {:list, {:tuple, [:pid, :term]}}],
        channel_requests_claim: [requests, :u64],
        channel_requests_acknowledge: [
          requests,
          :u64,
          {:one_of, [:async_call, :stream_response]},
          :u32,
          {:list, {:tuple, [:pid, :term]}}
        ],
        channel_requests_acknowledged: [requests, :u64],
        channel_requests_finish_running: [
          requests,
          :u64,
          :boolean,
          {:list, {:tuple, [:pid, :term]}}
        ],
        channel_requests_cancel: [requests, :text, :boolean],
        channel_requests_long: [requests, :text],
        channel_requests_set_queue: [requests, :pid],
        channel_requests_turn: [requests, limits, :u64, :boolean],
        channel_requests_finish_waiting: [
          requests,
          :u64,
          {:list, {:tuple, [:pid, :term]}}
        ],
        channel_requests_expire: [requests, :i64, :u64],
        channel_requests_retire: [requests, :pid],
        channel_requests_count: [requests],
        client_connection_new: [],
        client_connection_share: [connections, :pid],
        client_connection_count: [connections],
        client_connection_sent: [share, :u64],
        client_connection_waiting: [share],
        client_connection_seen: [share, :u64],
        client_connection_unfinished: [share],
        json_encoding_text_size: [:binary],
        json_encoding_text_size_dirty: [:binary],
        node_selector_new: [:u64, :usize],
        node_selector_limit: [selector, :u64, :usize],
        node_selector_route: [
          selector,
          {:tuple, [:binary, :binary, :binary]},
          {:list, :text},
          @mode
        ],
        node_selector_pick: [@routed, :map],
        node_selector_pick_key: [@routed, :binary],
        node_selector_order: [@routed, :map],
        node_selector_order_key: [@routed, :binary],
        node_selector_unavailable: [@routed],
        node_selector_mark: [selector, :text, {:one_of, [:up, :down, :drain, :undrain]}],
        node_selector_statuses: [selector],
        node_selector_status: [selector, :text],
        node_selector_reset_round_robin: [selector],
        node_selector_sweep: [selector, :usize],
        node_selector_size: [selector],
        rate_limiter_new: [:usize, :usize, :usize],
        rate_limiter_configure: [limiter, :boolean, {:list, @limit}],
        rate_limiter_check: [limiter, :map, :binary, :binary, @limit_group, :i64],
        rate_limiter_ipv6_prefix: [limiter, :u32],
        rate_limiter_check_value: [limiter, :term, @scope, @key, :i64],
        rate_limiter_status: [limiter, :term, @scope, @key, :i64],
        rate_limiter_reset: [limiter, :term, @scope, @key],
        rate_limiter_fail_open: [limiter, :boolean],
        rate_limiter_clear: [limiter],
        rate_limiter_sweep: [limiter, :i64, :usize],
        rate_limiter_stats: [limiter],
        executor_begin: [{:nilable, @routed}, :u64, @caller],
        executor_enter: [@routed, :u64],
        executor_set_node: [call, :atom, @id],
        executor_set_process: [call, :any_pid],
        executor_end: [call],
        executor_settle: [call, @routed, {:one_of, [:success, :error, :failure, :lost]}],
        executor_report_success: [call, @routed, :boolean],
        executor_count: [plan],
        executor_retry: [plan, :number, :u32],
        rpc_server_new: [],
        rpc_server_enter: [calls, @id],
        rpc_server_leave: [calls, @id],
        rpc_server_revoke: [calls, @id],
        rpc_server_running: [calls],
        rpc_server_size: [calls],
        circuits_configure: [selector, {:nilable, {:tuple, [:u32, :u64, :number]}}, :u32],
        circuits_sweep: [selector],
        circuits_end_cooldown: [selector, :text],
        circuits_list: [selector],
        circuits_size: [selector],
        worker_pool_new: [:u32, :u32, :u32, :number, :u64],
        worker_pool_set_server: [pool],
        worker_pool_take_work: [pool],
        worker_pool_stop: [pool],
        worker_pool_admit: [
          pool,
          :boolean,
          {:nilable, :u64},
          @message,
          {:nilable, {:tuple, [:binary, {:nilable, :u32}, :u32]}}
        ],
        worker_pool_waits: [slot],
        worker_pool_enter: [slot, :boolean, {:nilable, :pid}, :i64],
        worker_pool_leave: [
          slot,
          {:one_of, [:returned, :failed, :answered]},
          {:nilable, {:tuple, [:pid, :term]}}
        ],
        worker_pool_status: [pool],
        relay_new: [@bounds],
        relay_configure: [relay, @bounds, {:nilable, :u32}, {:nilable, :u32}],
        relay_create: [relay, :text, @group_type, :text, @joining, @id],
        relay_ensure: [relay, :text, @group_type, {:list, :text}, @id, :boolean],
        relay_delete: [relay, :text],
        relay_join: in_group ++ [@joining, :u64],
        relay_leave: in_group ++ [:u64],
        relay_leave_device: in_group ++ [:pid, :u64],
        relay_moderate: [relay, :text, @verb, :text, :text, :u64],
        relay_publish: [relay, :text, {:nilable, :text}, :i64],
        relay_fan_out: [relay, :text],
        relay_send: [
          relay,
          connections,
          {:handle, [:delivery]},
          {:list, {:tuple, [:u32, :term, :u64]}},
          :u64
        ],
        relay_set_slow: [relay, {:list, :pid}],
        relay_disconnects: [relay, :usize],
        relay_ack_disconnect: [relay],
        relay_page: [relay, :text, :usize, :usize],
        relay_groups_of: [relay, :text],
        relay_size: [relay],
        relay_sweep: [relay, :i64, :usize],
        relay_set_shared: [relay, :boolean],
        relay_decide_delete: [relay, :text],
        relay_attach: in_group ++ [@joining],
        relay_detach: in_group ++ [:pid],
        relay_has_local_device: in_group ++ [{:nilable, :pid}],
        relay_put: [relay, :text, @origin, @record, :boolean],
        relay_set_remote: in_group ++ [:node_bit, :boolean],
        relay_offline_members: [relay, :text, :u64],
        relay_record: in_group,
        relay_ids: [relay],
        relay_records: [relay, :text, :usize, :usize],
        relay_merge: [
          relay,
          :text,
          @origin,
          :node_bit,
          :boolean,
          {:list, {:tuple, [@record, :boolean]}}
        ]
      ]
  end

  @doc "One handle of each kind."
  def handles do
    selector = Native.node_selector_new(1_000, 10)
    [{:ok, schema}] = Native.argument_handler_compile([{[], false}], 32, 100_000)
    relay = Native.relay_new({10, 10, 10, 10, 0})
    :ok = Native.relay_create(relay, "text", :public, "text", {self(), self(), ""}, {0, 0})
    {1, delivery, _lanes, 0} = Native.relay_fan_out(relay, "text")
    pool = Native.worker_pool_new(2, 2, 5, 0.5, 1_000)
    :ok = Native.worker_pool_set_server(pool)
    connections = Native.client_connection_new()

    %{
      connections: connections,
      share: Native.client_connection_share(connections, self()),
      requests: Native.channel_requests_new(nil, nil, nil, self(), self(), nil),
      selector: selector,
      schema: schema,
      plan: plan(selector, schema),
      set: Native.candidate_set_new(selector),
      table: Native.config_db_new(),
      route: Native.node_selector_route(selector, {"s", "k", "1"}, ["a", "b"], :random),
      call: Native.executor_begin(nil, 0, nil),
      limiter: Native.rate_limiter_new(2, 100, 1_000),
      calls: Native.rpc_server_new(),
      pool: pool,
      slot: Native.worker_pool_admit(pool, true, 60_000, {self(), :died}, nil),
      relay: relay,
      delivery: delivery
    }
  end

  defp plan(selector, schema) do
    spec = example(@plan, %{schema: schema})
    [plan] = Native.plan_new(selector, nil, [%{spec | nodes: [:n1@native, :n2@native]}])
    elem(plan, 1)
  end

  @doc "A term that is right."
  def example(kind, handles)
  def example({:handle, [kind | _]}, handles), do: Map.fetch!(handles, kind)
  def example({:nilable, _kind}, _handles), do: nil
  def example({:list, kind}, handles), do: [example(kind, handles)]
  def example({:map, key, value}, h), do: %{example(key, h) => example(value, h)}
  def example({:tuple, kinds}, h), do: kinds |> Enum.map(&example(&1, h)) |> List.to_tuple()

  def example({:fields, fields}, h),
    do: Map.new(fields, fn {k, kind} -> {k, example(kind, h)} end)

  def example({:one_of, [atom | _]}, _handles), do: atom
  def example({:either, kind, _other}, handles), do: example(kind, handles)
  def example(kind, _handles) when kind in [:text, :binary, :scalar], do: "text"
  def example(kind, _handles) when kind in [:u8, :u32, :u64, :usize, :i64, :node_bit], do: 1
  def example(:depth, _handles), do: 32
  def example(number, _handles) when number in [:number, :bound], do: 0.5
  def example(:boolean, _handles), do: false
  def example(:atom, _handles), do: :text
  def example(:default, _handles), do: nil
  def example(kind, _handles) when kind in [:pid, :any_pid], do: self()
  def example(:small, _handles), do: {:small, "text"}
  def example(:term, _handles), do: %FunConfig{service: "s", request_type: "t"}
  def example(:map, _handles), do: %Request{}

  @doc "Whether a term is right, as far as its outermost level says."
  def right?(kind, term, handles)
  def right?({:handle, kinds}, term, h), do: Enum.any?(kinds, &(Map.fetch!(h, &1) == term))
  def right?({:nilable, kind}, term, h), do: term == nil or right?(kind, term, h)
  def right?({:either, one, other}, term, h), do: right?(one, term, h) or right?(other, term, h)
  def right?({:one_of, atoms}, term, _handles), do: term in atoms

  def right?({:list, kind}, term, h) when is_list(term),
    do: not List.improper?(term) and Enum.all?(term, &right?(kind, &1, h))

  def right?({:tuple, kinds}, term, h) when is_tuple(term) do
    tuple_size(term) == length(kinds) and
      kinds |> Enum.zip(Tuple.to_list(term)) |> Enum.all?(fn {k, t} -> right?(k, t, h) end)
  end

  def right?({:map, key, value}, term, h) when is_map(term) and not is_struct(term),
    do: Enum.all?(term, fn {k, v} -> right?(key, k, h) and right?(value, v, h) end)

  def right?({:fields, fields}, term, h) when is_map(term) do
    Enum.all?(fields, fn {key, kind} ->
      is_map_key(term, key) and right?(kind, Map.get(term, key), h)
    end)
  end

  def right?(:text, term, _handles), do: is_binary(term) and String.valid?(term)
  def right?(:binary, term, _handles), do: is_binary(term)
  def right?(:u8, term, _handles), do: term in 0..0xFF
  def right?(:u32, term, _handles), do: term in 0..0xFFFF_FFFF
  def right?(:node_bit, term, _handles), do: term in 0..63
  def right?(:depth, term, _handles), do: term in 0..32
  def right?(:i64, term, _handles), do: term in -0x8000_0000_0000_0000..0x7FFF_FFFF_FFFF_FFFF

  def right?(kind, term, _handles) when kind in [:u64, :usize],
    do: term in 0..0xFFFF_FFFF_FFFF_FFFF

  def right?(:bound, term, _handles), do: is_number(term)
  def right?(:number, term, h), do: is_float(term) or right?(:i64, term, h)
  def right?(:boolean, term, _handles), do: is_boolean(term)
  def right?(:atom, term, _handles), do: is_atom(term)
  def right?(:default, term, _handles), do: term == nil or match?({:value, _}, term)
  def right?(:pid, term, _handles), do: is_pid(term) and node(term) == node()
  def right?(:any_pid, term, _handles), do: is_pid(term)
  def right?(:term, _term, _handles), do: true

  def right?(:small, term, _handles),
    do: not is_function(term) and :erts_debug.flat_size(term) <= 10_000

  def right?(:map, term, _handles), do: is_map(term)

  def right?(:scalar, term, _handles),
    do: is_number(term) or is_atom(term) or (is_binary(term) and String.valid?(term))

  def right?(_kind, _term, _handles), do: false

  @doc "Terms that are wrong, at the outermost level or somewhere within a right one."
  def wrong(kind, handles) do
    outermost = junk() ++ Map.values(handles)
    Enum.reject(outermost, &right?(kind, &1, handles)) ++ within(kind, handles)
  end

  defp within({:nilable, kind}, handles), do: within(kind, handles)
  defp within({:either, one, other}, h), do: within(one, h) ++ within(other, h)

  defp within({:list, kind}, handles) do
    right = example(kind, handles)

    [[right | right], [right | :improper]] ++
      for wrong <- wrong(kind, handles), list <- [[wrong], [right, wrong]], do: list
  end

  defp within({:tuple, kinds} = kind, handles) do
    right = example(kind, handles)
    shorter = Tuple.delete_at(right, tuple_size(right) - 1)

    [shorter, Tuple.insert_at(right, 0, 1)] ++
      for {kind, at} <- Enum.with_index(kinds), wrong <- wrong(kind, handles) do
        put_elem(right, at, wrong)
      end
  end

  defp within({:map, key, value}, handles) do
    for(wrong <- wrong(key, handles), do: %{wrong => example(value, handles)}) ++
      for wrong <- wrong(value, handles), do: %{example(key, handles) => wrong}
  end

  defp within({:fields, fields} = kind, handles) do
    right = example(kind, handles)

    for(key <- Map.keys(right), do: Map.delete(right, key)) ++
      for {key, kind} <- fields, wrong <- wrong(kind, handles), do: %{right | key => wrong}
  end

  defp within(_kind, _handles), do: []

  @doc "Terms of every kind."
  def junk do
    [
      nil,
      true,
      :no_such_atom_of_an_enum,
      -1,
      0,
      33,
      64,
      256,
      2 ** 32,
      2 ** 64,
      -(2 ** 63) - 1,
      10 ** 400,
      1.5,
      "",
      "text",
      <<255>>,
      <<1::3>>,
      [],
      [1],
      [1 | 2],
      [nil],
      ["a" | "b"],
      {},
      {:a, 1},
      {:sticky, nil},
      {:weighted, %{"a" => -1}},
      %{},
      %{1 => 2},
      self(),
      elsewhere(),
      make_ref(),
      fn -> 1 end,
      ~D[2026-01-01]
    ]
  end

  # A process of another node.
  defp elsewhere, do: :erlang.binary_to_term(<<131, 88, 119, 3, "a@b", 1::32, 2::32, 3::32>>)
end
