defmodule PhoenixGenApi.Diagnostics do
  @moduledoc """
  What a gateway is doing, what it would do with a request, and why.

      iex> flow = PhoenixGenApi.Diagnostics.call_flow("nobody", "nothing")
      iex> {flow.config, flow.error}
      {nil, :not_found}

  Nothing here changes anything, but for tracing: no limit is charged, no function, hook or
  callback is run, no turn of a round robin is taken, nothing is remembered. Parts that do not
  answer within a second, or that crash when they are asked, are reported as such; the functions
  raise only for options that do not exist. No result contains a push token or data of requests,
  except what `inspect_request/1` was given itself.

  | For a person in IEx | Data |
  |---|---|
  | `PhoenixGenApi.health_print/0` | `health_check/1` |
  | `PhoenixGenApi.stats_print/0` | `statistics/1` |
  | `PhoenixGenApi.debug_print/0` | `debug_report/1` |
  | `PhoenixGenApi.call_flow_print/3` | `call_flow/3` |
  | `PhoenixGenApi.inspect_print/1` | `inspect_request/1` |
  | `PhoenixGenApi.cluster_print/0` | `cluster_view/0` |
  | `PhoenixGenApi.flows_print/1` | `list_call_flows/1` |

  The data functions are also on `PhoenixGenApi`. All work on a node in client mode, where there
  is less to say. See the guide *Diagnostics*.

  ## Tracing

  Tracing is allowed only when `config :phoenix_gen_api, :admin_actions` lists `:enable_tracing`,
  and `:disable_tracing` for the functions that end it. It runs in a trace session of its own
  (OTP 27), so other tools that trace are not disturbed, nor seen.

      PhoenixGenApi.trace_processes(:all)
      PhoenixGenApi.trace_functions({PhoenixGenApi.Executor, :execute!})
      # trace messages arrive in the calling process: flush() in IEx
      PhoenixGenApi.stop_trace()

  A call is traced when both its process and its function are. Trace messages are those of
  `:erlang.trace/3`, `{:trace_ts, pid, :call, {module, function, arity}, timestamp}` with the
  default flags: no arguments, which are data of your users. Without `:arity` they are in there.

  Tracing ends by itself: after `max_messages` (1,000) messages, after `max_ms` (60,000) ms, when
  the process that receives the messages dies, and when they come so fast that 64 MiB of them wait
  to be counted. In the first two cases the receiver is told by
  `{:phoenix_gen_api_trace_ended, :messages | :time, delivered}`. There is one session per node;
  the limits and the receiver of the last call are those in force. The receiver itself is never
  traced.
  """

  alias PhoenixGenApi.ConfigDb

  alias PhoenixGenApi.Diagnostics.{
    CallFlow,
    ClusterView,
    Health,
    Report,
    Statistics,
    Tracing
  }

  @type status :: :ok | :warning | :error

  @typedoc "Why nothing is traced."
  @type trace_refusal ::
          :admin_action_denied
          | :invalid_tracer
          | :invalid_trace_flag
          | :invalid_trace_target
          | {:invalid_trace_target, [term()]}
          | :invalid_mfa
          | {:invalid_mfa, [term()]}
          | :invalid_match_spec

  @doc """
  Whether the VM, the node and every part of the gateway are well.

  `%{status, mode, node, checked_at_ms, checks: %{vm, node, phoenix_gen_api}}`. Each check has a
  `status` and its figures, and a `reason` when it is not `:ok`; `status` is the worst of them.
  `phoenix_gen_api` has one check per part, or is `%{status: :ok, mode: :client}`.

  | `:warning` | `:error` |
  |---|---|
  | memory over `max_memory_bytes` (no limit unless given) | a process is not running, or does not answer |
  | 90 % of the processes, ports or atoms that the VM allows | a child of the supervisor is missing |
  | the node is not distributed | the native library is not loaded |
  | pulls have failed; a pool's circuit is open, its queue is nearly full or its workers are all busy | |
  | the rate limiter is nearly full; a process has 1,000 messages waiting | |
  """
  @spec health_check(max_memory_bytes: pos_integer() | nil) :: %{
          status: status(),
          mode: :client | :gateway,
          node: node(),
          checked_at_ms: integer(),
          checks: %{vm: map(), node: map(), phoenix_gen_api: map()}
        }
  def health_check(opts \\ []), do: Health.check(opts)

  @doc """
  Figures of the VM and the status of every part of the gateway.

  `%{node, collected_at_ms, vm, phoenix_gen_api}`. In the last one `telemetry_events` is how many
  events there are; in client mode the parts are `nil`, and a part that does not answer is
  `%{error: sentence}`. There are no options yet.
  """
  @spec statistics(keyword()) :: %{
          node: node(),
          collected_at_ms: integer(),
          vm: map(),
          phoenix_gen_api: map()
        }
  def statistics(opts \\ []) do
    [] = Keyword.validate!(opts, [])
    Statistics.collect()
  end

  @doc """
  The largest processes of the node by memory, entries and bytes of each native store, and the
  state of tracing.

  Options: `process_limit` (20), `include_current_stacktrace` (false; without arguments).
  Looks at every process of the node: a microsecond or so for each.
  """
  @spec debug_report(process_limit: non_neg_integer(), include_current_stacktrace: boolean()) ::
          %{
            node: node(),
            collected_at_ms: integer(),
            processes: [map()],
            native: map(),
            trace: map()
          }
  def debug_report(opts \\ []), do: Report.build(opts)

  @doc """
  What becomes of a request for a function: every stage in order, with what the config says there.

  `version` is what the request would ask for; the version that it would get is in the result.
  `reachable_nodes` are those connected now, `unreachable_nodes` the others: a node that was never
  contacted is connected when the first call goes there. `node_statuses` says what node selection
  thinks of each. Where a function lists the nodes, `nodes` is that function, which is not called.

  For a function that is not there: `%{config: nil, error: :not_found | :disabled | :not_running, steps: [...]}`.
  """
  @spec call_flow(ConfigDb.service(), String.t(), String.t() | nil) :: map()
  def call_flow(service, request_type, version \\ nil),
    do: CallFlow.for_function(service, request_type, version)

  @doc """
  What would become of this request, and why: the EXPLAIN of a gateway.

  Takes what a client sends, with string or atom keys, or a `%Request{}`; `service` and `request_type`
  are enough. `user_roles` and
  `ip_address`, which a client cannot set, are taken as they are.

  The result is that of `call_flow/3` with the `request` (`nil` if it cannot be decoded), and each
  step has a `decision`, `because` and `client_gets`, the error text of a refusal:

  | `decision` | |
  |---|---|
  | `:passes` | the request goes on |
  | `:refuses` | the request ends here |
  | `:unknown` | a hook, a callback or a node function of yours decides; it is not run |
  | `:none` | the config asks for nothing here |

  `refused_by` is the first step that refuses, `client_gets` what the client is told, and
  `verdict` is `:refused`, `:unknown`, or `:runs` when the function would be called. The step
  `:node_selection` has `candidates`: in their order for the hash modes, in no order for the
  others, which go by chance, load or memory.
  """
  @spec inspect_request(map()) :: map()
  def inspect_request(request), do: CallFlow.for_request(request)

  @doc """
  The connected nodes, the nodes that functions name with their calls in flight, and who serves
  what. Looks at every function, as `list_call_flows/1` does.
  """
  @spec cluster_view() :: map()
  def cluster_view, do: ClusterView.build()

  @doc """
  The call flow of every function, with `include_disabled: true` also of the disabled ones.

  Some 0.2 ms for each, in the calling process.
  """
  @spec list_call_flows(include_disabled: boolean()) :: [map()]
  def list_call_flows(opts \\ []) do
    opts = Keyword.validate!(opts, include_disabled: false)
    CallFlow.list(opts[:include_disabled])
  end

  @doc """
  Traces processes: a pid, a registered name, `:all`, `:new`, `:existing`, or a list of them.

  Options: `flags` (`[:call, :arity, :timestamp]`, those of `:trace.process/4`), `tracer` (the
  caller; a process of this node), `max_messages` (1,000), `max_ms` (60,000).

  `{:ok, map}` says how many processes are `traced` and what the limits are.
  """
  @spec trace_processes(term(), keyword()) :: {:ok, map()} | {:error, trace_refusal()}
  def trace_processes(targets, opts \\ []), do: Tracing.trace_processes(targets, opts)

  @doc """
  Traces calls of functions in the processes that are traced: a module, `{module, function}`,
  `{module, function, arity}`, or a list of them.

  Options: `match_spec` (`true`; see `:trace.function/4`, for example
  `[{:_, [], [{:return_trace}]}]`), `scope` (`:local`, every call, or `:global`, only calls from
  outside the module), and `tracer`, `max_messages`, `max_ms` as for `trace_processes/2`.

  `{:ok, map}` says how many functions `matched`.
  """
  @spec trace_functions(term(), keyword()) :: {:ok, map()} | {:error, trace_refusal()}
  def trace_functions(mfas, opts \\ []), do: Tracing.trace_functions(mfas, opts)

  @doc "Ends tracing of these processes (`:all`) for these flags (`:all`); of everything by default."
  @spec stop_trace(term(), term()) :: {:ok, map()} | {:error, trace_refusal()}
  def stop_trace(targets \\ :all, flags \\ :all), do: Tracing.stop_trace(targets, flags)

  @doc "Ends tracing of these functions; of all by default."
  @spec stop_trace_functions(term()) :: {:ok, map()} | {:error, trace_refusal()}
  def stop_trace_functions(mfas \\ :all), do: Tracing.stop_trace_functions(mfas)

  @doc """
  Whether anything is traced here by this module, and how much was delivered:
  `%{node, trace_control_word, active}`, and with a session its figures.
  """
  @spec trace_status() :: map()
  defdelegate trace_status, to: Tracing, as: :status
end
