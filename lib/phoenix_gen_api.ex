defmodule PhoenixGenApi do
  @moduledoc """
  Turns a Phoenix application into a dynamic API gateway for an Erlang cluster.

      defmodule MyAppWeb.ApiChannel do
        use Phoenix.Channel
        use PhoenixGenApi, event: "api"

        def join("api:" <> _topic, _params, socket), do: {:ok, socket}
      end

  Clients send requests over the channel. The gateway looks the function up
  (`PhoenixGenApi.ConfigDb`), authorises (`PhoenixGenApi.Permission`) and validates the call
  (`PhoenixGenApi.ArgumentHandler`), picks a node of the cluster
  (`PhoenixGenApi.NodeSelector`), runs the function there and returns the result
  (`PhoenixGenApi.Executor`). Functions are `PhoenixGenApi.Structs.FunConfig` structs, added on
  the gateway, pulled from service nodes (`PhoenixGenApi.ConfigPuller`) or pushed by them
  (`PhoenixGenApi.ConfigPusher`), at any time and without a restart.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.ConfigPuller
  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Diagnostics
  alias PhoenixGenApi.Diagnostics.Console
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.RateLimiter
  alias PhoenixGenApi.Relay
  alias PhoenixGenApi.StreamCall
  alias PhoenixGenApi.Telemetry

  ## Channels

  @doc """
  Makes a channel take requests.

      use PhoenixGenApi, event: "api", concurrency: 4

  The options, and what is added to the module, are described in `PhoenixGenApi.Channel`.
  """
  defmacro __using__(options),
    do: PhoenixGenApi.Channel.Clauses.expand(options, __MODULE__, :all)

  @doc """
  Remembers the address of the client as `assigns.ip_address`, for limits per address.

      def connect(%{"token" => token}, socket, connect_info) do
        {:ok, socket |> authenticate(token) |> PhoenixGenApi.put_client_ip(connect_info)}
      end

  The endpoint has to provide it: `socket "/socket", …, websocket: [connect_info: [:peer_data]]`.
  Without peer data, or for a peer without an address such as a Unix socket, the socket is
  returned as it is. Behind a proxy the peer is the proxy: assign `:ip_address` yourself then,
  from the header that your proxy, and nobody else, can set.
  """
  @spec put_client_ip(socket, map()) :: socket when socket: struct()
  defdelegate put_client_ip(socket, connect_info), to: PhoenixGenApi.Channel.Identity

  ## Streams

  @doc """
  Stops streams: the one with a pid, or those with a request id whose receiver is the caller.

  In the process of a channel the latter are the streams of its client. `:ok`, for a pid also if
  the stream is dead; the receiver gets the end frame. For a request id without such a stream
  `{:error, :not_found}`, where no gateway runs `{:error, :not_running}`.
  """
  @spec stop_stream(pid() | String.t()) :: :ok | {:error, :not_found | :not_running}
  def stop_stream(pid) when is_pid(pid), do: StreamCall.stop(pid)
  def stop_stream(request_id), do: StreamCall.stop_own(request_id)

  ## Pushed functions

  @doc "See `PhoenixGenApi.ConfigReceiver.push/2`."
  @spec push_config(PhoenixGenApi.Structs.PushConfig.t() | map(), keyword()) ::
          PhoenixGenApi.ConfigReceiver.result()
  defdelegate push_config(push_config, opts \\ []), to: PhoenixGenApi.ConfigReceiver, as: :push

  @doc "See `PhoenixGenApi.ConfigReceiver.verify/2`."
  @spec verify_config(PhoenixGenApi.ConfigReceiver.service(), String.t()) ::
          {:ok, :matched} | {:ok, :mismatch, String.t()} | {:error, :not_found | :not_running}
  defdelegate verify_config(service, version), to: PhoenixGenApi.ConfigReceiver, as: :verify

  ## Configs that were rejected

  @doc "See `PhoenixGenApi.ConfigFailed.list/1`."
  @spec failed_configs(keyword()) :: [ConfigFailed.entry()]
  defdelegate failed_configs(options \\ []), to: ConfigFailed, as: :list

  @doc "See `PhoenixGenApi.ConfigFailed.cleanup/0`."
  @spec cleanup_failed_configs() :: non_neg_integer()
  defdelegate cleanup_failed_configs, to: ConfigFailed, as: :cleanup

  ## Configuration

  @doc """
  Reads the application config again: `:ok`, or `{:error, sentences}` with nothing changed.

  What differs from the last time it was read takes effect; what was changed at run time and not
  in the config stays:

    * `:enabled`, `:global_limits` and `:api_limits` of the rate limiter replace those in force,
      each only if its own value in the config is another than before
    * new and changed `service_configs` are registered and pulled at once. One that is no longer
      there stays registered, with a line in the log: no function disappears because a config was
      read. `PhoenixGenApi.ConfigPuller.delete/1` takes it off.
    * everything else that is read from memory is new from the next use on

  Stored functions keep the defaults they were compiled with, and pools, shards and tables keep
  their sizes. `:client_mode`, `:boot_audit` and, of `:service_guard`, `enabled` and `listings` are
  those of the start.
  """
  @spec reload_config() :: :ok | {:error, [String.t(), ...]}
  def reload_config do
    before = Config.get(:gen_api).service_configs
    limits = Config.get(:rate_limiter)

    with :ok <- Config.reload(),
         :ok <- NodeSelector.reload(),
         :ok <- RateLimiter.reload(limits),
         :ok <- Relay.reload(),
         :ok <- Contract.BuiltIn.load() do
      ConfigPuller.reload(before)
    end
  end

  ## Telemetry

  @doc """
  Attaches a handler to the start, stop and exception of requests and to the events of the rate
  limiter. See `PhoenixGenApi.Telemetry` for all events.
  """
  @spec attach_telemetry(Telemetry.handler_id(), Telemetry.handler(), term()) ::
          Telemetry.attached()
  defdelegate attach_telemetry(id, fun, config \\ %{}),
    to: Telemetry,
    as: :attach_requests_and_limits

  @doc "Detaches the handler that `attach_telemetry/3` attached. `:ok`, also when there is none."
  @spec detach_telemetry(Telemetry.handler_id()) :: :ok
  defdelegate detach_telemetry(id), to: Telemetry, as: :detach_all

  ## Rate limits

  @doc "See `PhoenixGenApi.RateLimiter.check_rate_limit/1`."
  @spec check_rate_limit(PhoenixGenApi.Structs.Request.t()) :: RateLimiter.decision()
  defdelegate check_rate_limit(request), to: RateLimiter

  @doc "See `PhoenixGenApi.RateLimiter.reset_rate_limit/3`."
  @spec reset_rate_limit(term(), RateLimiter.scope(), RateLimiter.key()) ::
          :ok | RateLimiter.refusal()
  defdelegate reset_rate_limit(value, scope, key), to: RateLimiter

  @doc "See `PhoenixGenApi.RateLimiter.get_rate_limit_status/3`."
  @spec get_rate_limit_status(term(), RateLimiter.scope(), RateLimiter.key()) :: [map()]
  defdelegate get_rate_limit_status(value, scope, key), to: RateLimiter

  @doc "See `PhoenixGenApi.RateLimiter.update_config/2`."
  @spec update_rate_limit_config(map(), keyword()) :: :ok | RateLimiter.refusal()
  defdelegate update_rate_limit_config(config, opts \\ []), to: RateLimiter, as: :update_config

  @doc "See `PhoenixGenApi.RateLimiter.get_configured_limits/0`."
  @spec get_rate_limit_config() :: %{global: [map()], api: [map()]}
  defdelegate get_rate_limit_config, to: RateLimiter, as: :get_configured_limits

  @doc "See `PhoenixGenApi.RateLimiter.get_global_limits/0`."
  @spec get_global_limits() :: [map()]
  defdelegate get_global_limits, to: RateLimiter

  @doc "See `PhoenixGenApi.RateLimiter.set_global_limits/2`."
  @spec set_global_limits([map()], keyword()) :: :ok | RateLimiter.refusal()
  defdelegate set_global_limits(limits, opts \\ []), to: RateLimiter

  @doc "See `PhoenixGenApi.RateLimiter.add_global_limit/2`."
  @spec add_global_limit(map(), keyword()) :: :ok | RateLimiter.refusal()
  defdelegate add_global_limit(limit, opts \\ []), to: RateLimiter

  @doc "See `PhoenixGenApi.RateLimiter.remove_global_limit/2`."
  @spec remove_global_limit(RateLimiter.key(), keyword()) :: :ok | RateLimiter.refusal()
  defdelegate remove_global_limit(key, opts \\ []), to: RateLimiter

  ## Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.health_check/1`."
  @spec health_check(keyword()) :: map()
  defdelegate health_check(opts \\ []), to: Diagnostics

  @doc """
  Whether this gateway is ready for requests, for readiness probes.

  True once it knows what the connected gateways know and has tried every pull that is configured,
  until it stops. A function without a node is no reason not to be ready, see `health_check/1`. Takes up
  to some seconds while it is not ready.
  """
  @spec ready?() :: boolean()
  defdelegate ready?, to: PhoenixGenApi.Diagnostics.Readiness

  @doc "See `PhoenixGenApi.Diagnostics.statistics/1`."
  @spec statistics(keyword()) :: map()
  defdelegate statistics(opts \\ []), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.debug_report/1`."
  @spec debug_report(keyword()) :: map()
  defdelegate debug_report(opts \\ []), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.call_flow/3`."
  @spec call_flow(String.t() | atom(), String.t(), String.t() | nil) :: map()
  defdelegate call_flow(service, request_type, version \\ nil), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.inspect_request/1`."
  @spec inspect_request(map()) :: map()
  defdelegate inspect_request(request), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.cluster_view/0`."
  @spec cluster_view() :: map()
  defdelegate cluster_view, to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.list_call_flows/1`."
  @spec list_call_flows(keyword()) :: [map()]
  defdelegate list_call_flows(opts \\ []), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.trace_processes/2`."
  @spec trace_processes(term(), keyword()) :: {:ok, map()} | {:error, term()}
  defdelegate trace_processes(targets, opts \\ []), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.trace_functions/2`."
  @spec trace_functions(term(), keyword()) :: {:ok, map()} | {:error, term()}
  defdelegate trace_functions(mfas, opts \\ []), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.stop_trace/2`."
  @spec stop_trace(term(), term()) :: {:ok, map()} | {:error, term()}
  defdelegate stop_trace(targets \\ :all, flags \\ :all), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.stop_trace_functions/1`."
  @spec stop_trace_functions(term()) :: {:ok, map()} | {:error, term()}
  defdelegate stop_trace_functions(mfas \\ :all), to: Diagnostics

  @doc "See `PhoenixGenApi.Diagnostics.trace_status/0`."
  @spec trace_status() :: map()
  defdelegate trace_status, to: Diagnostics

  ## For IEx: print, and return `:ok`

  @doc "Prints how many functions each service has, and what the table holds."
  @spec cache_status() :: :ok
  defdelegate cache_status, to: Console

  @doc "Prints what the worker pools are doing."
  @spec pool_status() :: :ok
  defdelegate pool_status, to: Console

  @doc "Prints `health_check/1`."
  @spec health_print(keyword()) :: :ok
  defdelegate health_print(opts \\ []), to: Console, as: :health

  @doc "Prints `statistics/1`."
  @spec stats_print() :: :ok
  defdelegate stats_print, to: Console, as: :statistics

  @doc "Prints `debug_report/1`."
  @spec debug_print(keyword()) :: :ok
  defdelegate debug_print(opts \\ []), to: Console, as: :debug

  @doc "Prints `call_flow/3`: every stage of a request for a function."
  @spec call_flow_print(String.t() | atom(), String.t(), String.t() | nil) :: :ok
  defdelegate call_flow_print(service, request_type, version \\ nil),
    to: Console,
    as: :call_flow

  @doc "Prints `inspect_request/1`: which stage would refuse a request, and why."
  @spec inspect_print(map()) :: :ok
  defdelegate inspect_print(request), to: Console, as: :inspect_request

  @doc "Prints `list_call_flows/1`, a line for each function."
  @spec flows_print(keyword()) :: :ok
  defdelegate flows_print(opts \\ []), to: Console, as: :flows

  @doc "Prints `cluster_view/0`."
  @spec cluster_print() :: :ok
  defdelegate cluster_print, to: Console, as: :cluster

  @doc "Prints what the limits by `:user_id` say of a user."
  @spec rl_status(String.t()) :: :ok
  defdelegate rl_status(user_id), to: Console, as: :limits_of

  @doc "Prints the global limits."
  @spec rl_global() :: :ok
  defdelegate rl_global, to: Console, as: :global_limits

  @doc "Replaces the global limits and prints them."
  @spec rl_global([map()]) :: :ok
  def rl_global(limits), do: limits |> RateLimiter.set_global_limits() |> Console.changed()

  @doc "Adds (`:add`, limit) or removes (`:remove`, key) a global limit and prints them all."
  @spec rl_global(:add | :remove, map() | RateLimiter.key()) :: :ok
  def rl_global(:add, limit), do: limit |> RateLimiter.add_global_limit() |> Console.changed()
  def rl_global(:remove, key), do: key |> RateLimiter.remove_global_limit() |> Console.changed()

  @doc "Prints all limits and what the limiter holds."
  @spec rl_config() :: :ok
  defdelegate rl_config, to: Console, as: :limiter

  @doc "Prints what the relay holds on this gateway, see `PhoenixGenApi.Relay.status/0`."
  @spec relay_status() :: :ok
  defdelegate relay_status, to: Console

  @doc """
  Prints the rejected configs with their reasons, newest first.

  Options are those of `PhoenixGenApi.ConfigFailed.list/1`.
  """
  @spec failed_configs_print(keyword()) :: :ok
  defdelegate failed_configs_print(options \\ []), to: Console, as: :failed_configs

  @doc "Prints how many configs were rejected, by source and by service."
  @spec failed_configs_summary() :: :ok
  defdelegate failed_configs_summary, to: Console

  @doc "Forgets all rejected configs."
  @spec clear_failed_configs() :: :ok
  defdelegate clear_failed_configs, to: ConfigFailed, as: :clear

  @doc """
  The services that nodes offer, with their nodes, and the functions of which they offer different definitions.

  See `PhoenixGenApi.Service`.
  """
  @spec service_print() :: :ok
  defdelegate service_print, to: Diagnostics.Services, as: :print

  @doc """
  Prints what operators have decided at run time and holds on this gateway: disabled functions,
  drained nodes, changed limits; since when, and by which gateway.
  """
  @spec decisions_print() :: :ok
  defdelegate decisions_print, to: Console, as: :decisions

  @doc "Prints the pushed services with their versions, and how many functions each has where."
  @spec pushed_services_status() :: :ok
  defdelegate pushed_services_status, to: Console, as: :pushed_services
end
