defmodule PhoenixGenApi.ConfigPusher do
  @moduledoc """
  Pushes the function configs of a service from its node to a gateway.

      alias PhoenixGenApi.ConfigPusher

      push_config =
        ConfigPusher.from_service_config("books", [node()], Books.Directory.list(), config_version: "1.0.0")

      ConfigPusher.push(:"gw@127.0.0.1", push_config)
      #=> {:ok, :accepted}
      ConfigPusher.push(:"gw@127.0.0.1", push_config)
      #=> {:ok, :skipped, :version_matches}

  Works in client mode. Pushing is idempotent: the gateway skips what it has already. It is asked for that
  first, with a digest of the functions, so a push that changes nothing costs one small message, however
  many functions there are. What it answers otherwise is described in
  `PhoenixGenApi.ConfigReceiver`; `{:error, {:badrpc, reason}}` means that it could not be asked, or
  that the answer got lost.

  Change `config_version` with the functions. The same version with other functions is skipped with a
  warning, or refused with `strict: true`: `{:error, {:version_conflict, version}}`.

  With several gateways it is enough to push to one of them: it tells the others before it answers.

  Every node of a service may push the same functions with its own name, `nodes: [node()]`, in the push and
  in each function: calls then go to all of them.

  ## Under a supervisor

      children = [
        {PhoenixGenApi.ConfigPusher, gateways: [:"gw1@127.0.0.1", :"gw2@127.0.0.1"], push_config: push_config}
      ]

  pushes to each gateway at start, and again whenever its application starts anew or its connection
  is back. A gateway that cannot be asked, or whose application does not run yet, is tried again
  after `retry_interval` (1,000 ms), then after twice that and so on up to 30 seconds. `:force` and
  `:timeout` are those of `push/3`, and so is `:strict`.

  When the supervisor is stopped, the functions begin no more calls: a gateway that calls one is told that it has
  not begun, and takes another node. The stop waits until those that run have ended, for `:drain_ms` at most.

  Of several nodes of a service, some may still have an older config when a gateway restarts. What they
  push again does not replace what was pushed for the first time later: the answer is
  `{:ok, :skipped, :superseded}`. Only pushing again is meant here, by a process that has had an
  answer before, and clocks of the nodes that agree to the second. So it is where an operator of the gateway
  has had the service pulled since, with `PhoenixGenApi.ConfigPuller.add/1`.

  On a node without a name, distribution is off and only a gateway on the same node can be reached. The log
  says so once; the other gateways are pushed to as soon as the node has a name, and where the push lists
  `node()` from before, that name takes its place.

  On a node with a `PhoenixGenApi.ServiceGuard` pushing also registers the functions there.

  ## Token

  A push config without a `push_token` is sent with the pusher's own

      config :phoenix_gen_api, :push_token, System.fetch_env!("PUSH_TOKEN")
  """

  alias PhoenixGenApi.ConfigReceiver
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Service.{CleanStop, GatewayPusher, Push}
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}

  require Log

  @timeout_ms 5_000

  @type service :: String.t() | atom()
  @type badrpc :: {:error, {:badrpc, term()}}
  @type result :: ConfigReceiver.result() | badrpc()

  @doc """
  Builds a push config.

  Options: `:config_version`, without which `ArgumentError` is raised, as for an empty one, and `:module`, `:function`,
  `:args`, `:version_module`, `:version_function`, `:version_args`, from which the gateway is to pull
  as well (see `PhoenixGenApi.Structs.ServiceConfig`).
  """
  @spec from_service_config(service(), [ServiceConfig.name()], [FunConfig.t()], keyword()) ::
          PushConfig.t()
  def from_service_config(service, nodes, fun_configs, opts) do
    known = [
      :config_version,
      :module,
      :function,
      :version_module,
      :version_function,
      args: [],
      version_args: []
    ]

    opts = Keyword.validate!(opts, known)

    if opts[:config_version] in [nil, ""] do
      raise ArgumentError, "the option :config_version is required"
    end

    struct!(%PushConfig{service: service, nodes: nodes, fun_configs: fun_configs}, opts)
  end

  @doc """
  Pushes to a gateway.

  Options: `:force` (`false`) stores also a version that the gateway has, `:strict` (`false`) refuses one
  with other functions, `:timeout` (5,000 ms) limits the call. The gateway may have stored a push that
  timed out here; pushing again is safe.
  """
  @spec push(node(), PushConfig.t(), keyword()) :: result()
  def push(gateway, %PushConfig{} = push_config, opts \\ []) when is_atom(gateway) do
    opts = Keyword.validate!(opts, force: false, strict: false, timeout: @timeout_ms)
    Push.run(gateway, push_config, opts)
  end

  @doc """
  Pushes, logs what came of it, and tries again where the gateway could not be asked.

  Options: those of `push/3`, `:retries` (0) after `{:badrpc, reason}`, and `:retry_interval`
  (1,000 ms) before each of them. The calling process waits.
  """
  @spec push_on_startup(node(), PushConfig.t(), keyword()) :: result()
  def push_on_startup(gateway, %PushConfig{} = push_config, opts \\ []) do
    {retry, opts} = Keyword.split(opts, [:retries, :retry_interval])
    retries = Keyword.get(retry, :retries, 0)
    interval = Keyword.get(retry, :retry_interval, 1_000)
    attempt(gateway, push_config, opts, retries, interval)
  end

  defp attempt(gateway, push_config, opts, retries, interval) do
    result = push(gateway, push_config, opts)
    Push.log(result, gateway, push_config)

    if match?({:error, {:badrpc, _reason}}, result) and retries > 0 do
      Process.sleep(interval)
      attempt(gateway, push_config, opts, retries - 1, interval)
    else
      result
    end
  end

  @doc """
  Asks a gateway whether it has the functions of a service as they were pushed with this version.

  `{:ok, :matched}`, `{:ok, :mismatch, stored_version}`, `{:error, :not_found}` or
  `{:error, {:badrpc, reason}}`, see `PhoenixGenApi.ConfigReceiver.verify/2`. Option: `:timeout` (5,000 ms).
  """
  @spec verify(node(), service(), String.t(), keyword()) ::
          {:ok, :matched}
          | {:ok, :mismatch, String.t()}
          | {:error, :not_found | :not_running}
          | badrpc()
  def verify(gateway, service, version, opts \\ []) when is_atom(gateway) do
    opts = Keyword.validate!(opts, timeout: @timeout_ms)
    Push.call(gateway, ConfigReceiver, :verify, [service, version], opts[:timeout])
  end

  @doc """
  Asks a gateway, and with it all gateways that are connected with it, to send no new calls to this
  node; those in flight end as usual.

  It lasts until `undrain/1`, or until this node goes down and comes back.
  """
  @spec drain(node()) :: :ok | {:error, :not_running} | badrpc()
  def drain(gateway) when is_atom(gateway),
    do: Push.call(gateway, NodeSelector, :drain, [node()], @timeout_ms)

  @doc "Takes `drain/1` back."
  @spec undrain(node()) :: :ok | {:error, :not_running} | badrpc()
  def undrain(gateway) when is_atom(gateway),
    do: Push.call(gateway, NodeSelector, :undrain, [node()], @timeout_ms)

  @doc "A supervisor's child, see above. Two services make two children. Put it last."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    id =
      case opts[:push_config] do
        %PushConfig{service: service} -> {__MODULE__, to_string(service)}
        _missing -> __MODULE__
      end

    %{id: id, start: {__MODULE__, :start_link, [opts]}, type: :supervisor}
  end

  @doc """
  Starts pushing, see above.

  Options: `:gateways` and `:push_config`, which are required, `:force` (`false`), `:strict` (`false`),
  `:timeout` (5,000 ms), `:retry_interval` (1,000 ms), `:drain_ms` (5,000 ms) and `:name` of the supervisor.
  """
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(opts) do
    opts =
      Keyword.validate!(opts, [
        :gateways,
        :push_config,
        :name,
        force: false,
        strict: false,
        timeout: @timeout_ms,
        retry_interval: 1_000,
        drain_ms: 5_000
      ])

    gateways = opts[:gateways]

    unless is_list(gateways) and Enum.all?(gateways, &is_atom/1) and
             is_struct(opts[:push_config], PushConfig) do
      raise ArgumentError, "expected gateways: [node] and push_config: %PushConfig{}"
    end

    if not Node.alive?() and gateways -- [node()] != [] do
      Log.warning(
        "distribution is off, this node has no name: gateways on other nodes are pushed to once it has one"
      )
    end

    pushers =
      for gateway <- Enum.uniq(gateways) do
        Supervisor.child_spec({GatewayPusher, Keyword.put(opts, :gateway, gateway)}, id: gateway)
      end

    clean_stop = {CleanStop, functions: own(opts[:push_config]), drain_ms: opts[:drain_ms]}
    options = [strategy: :one_for_one] ++ Keyword.take(opts, [:name])
    Supervisor.start_link(pushers ++ [clean_stop], options)
  end

  # Those that may be called here. What is no config is for the push to refuse.
  defp own(%{fun_configs: functions}) when length(functions) >= 0,
    do:
      for(
        %FunConfig{nodes: nodes, mfa: {_, _, _}} = config <- functions,
        nodes != :local,
        do: config
      )

  defp own(_malformed), do: []
end
