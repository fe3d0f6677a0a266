defmodule PhoenixGenApi.ConfigReceiver do
  @moduledoc """
  Takes in the function configs that service nodes push.

      ConfigReceiver.push(%PushConfig{
        service: "shop",
        nodes: [node()],
        config_version: "1.0.0",
        fun_configs: [config]
      })
      #=> {:ok, :accepted}

  `PhoenixGenApi.ConfigPusher` on the service node calls `push/2` here. A push goes through, in
  this order:

    1. the admin gate: `{:error, :admin_action_denied}` when `:admin_actions` is set without
       `:push_config`
    2. the token: `{:error, :invalid_push_token}` when the gateway has one and the push has another
    3. the shape: `{:error, :invalid_push_config_data}` for anything but a
       `PhoenixGenApi.Structs.PushConfig` or a map to make one of
    4. the version and the content: `{:ok, :skipped, :version_matches}` when the last accepted push of
       the service had the same `config_version`, unless `force: true`, see below
    5. everything in it: `{:error, {:validation_failed, sentences}}` if anything is invalid, not
       allowed or listed twice, if code on this gateway has added it, or if it is `nodes: :local`
       from another node (see `PhoenixGenApi.Security`). All reasons are returned, and recorded
       in `PhoenixGenApi.ConfigFailed`
    6. it is stored, here and on every connected gateway: `{:ok, :accepted}`. In one visible step
       the functions replace all those of the service that were pushed or pulled before

  With `module` and `function` set the service is also registered with
  `PhoenixGenApi.ConfigPuller`, until a push without them.

  What is turned away by the first three is recorded there with its name, too.

  ## The same version again

  A push is skipped when the table has what it brings. Content is everything but the nodes: functions
  are the same on whichever nodes they run.

  | The version is that of the last push, and | Answer |
  |---|---|
  | functions of it were deleted or replaced by a pull since | it is stored: `{:ok, :accepted}` |
  | the content is the same, and the push and each function name one node, which is new | `{:ok, :accepted}`: the node joins, see below |
  | the content is the same otherwise | `{:ok, :skipped, :version_matches}` |
  | the content is another | `{:ok, :skipped, :version_matches}`, with a warning here and at the pusher, and `verify/2` says mismatch from then on; with `strict: true`, `{:error, {:version_conflict, version}}` |

  So each node of a service may push itself, with `nodes: [node()]` everywhere: the functions get the
  nodes of all of them, on every gateway and in whatever order they come. A node that has joined in this
  way is taken off the functions when it has been disconnected for `config :phoenix_gen_api, :service,
  forget_ms` (an hour), and joins again with its next push. A push of another version begins anew, with
  the nodes that it lists. Otherwise a push lists all nodes, or finds them with
  `nodes: {module, function, args}`.

  ## Pushed or pulled

  A service has one source: the push, or the pull that `PhoenixGenApi.ConfigPuller.add/1` or the
  configuration asks for, whichever came last. A push ends the pulling of its service until
  `ConfigPuller.add/1` asks for it again, or `delete_pushed_service/1` forgets the push. What a push
  itself has asked to be pulled, with `module` and `function`, belongs to that push.

  Pushes of one service follow each other, those of different services run side by side, each in
  the process that calls. What was pushed belongs to the supervisor and survives every crash below
  it. Tokens are compared and dropped: they are neither stored nor sent to other gateways.

  While a connected node offers the service (`PhoenixGenApi.Service`), neither counts: a push is answered
  `{:ok, :skipped, :offered}`, and what is pulled is left alone. The log says so once. Once no node offers it any
  more, the next push or pull is the source again.

  ## Several gateways

  Connected gateways share what is pushed and what `delete_pushed_service/1` deletes. When a pusher
  reads `{:ok, :accepted}` or that its push is skipped, every connected gateway has stored the push; so the gateway that
  received it may die, and nothing is lost. One that does not answer within three seconds is not waited for:
  it catches up in the background. A gateway that starts, or whose connection is back, gets what
  it has missed.

  A push replaces every push that its gateway knew of, whatever their versions: to go back to an
  earlier version, push it. Two pushes of one service that were accepted without knowing of each
  other, at the same moment or on the two sides of a network split, are a conflict: every gateway
  takes the one with the higher `config_version` (in the order of `PhoenixGenApi.ConfigDb`), of equal
  versions the newer one. What a service only pushes again, see `push/2`, counts for nothing against what
  was pushed later. A push and a deletion that did not know of each other: the push stays.

  The gate and the token are those of the gateway that is pushed to; the others take over what it has
  accepted, and therefore should have the same. Each checks the functions by its own `:mfa_allowlist`, and
  as functions from another node. One that refuses what another has accepted records it in
  `PhoenixGenApi.ConfigFailed` and goes on with the functions it had; the others are not affected.

  Not shared: functions that were added or deleted directly, and
  services that `PhoenixGenApi.ConfigPuller` was told of by an operator. Each gateway has its own. Gateways of
  versions of this library without joining nodes do not hear of them, and go on with those of the push.
  """

  alias PhoenixGenApi.Config

  alias PhoenixGenApi.ConfigSync.{
    AntiEntropy,
    Comparison,
    Content,
    Installer,
    JoinedNodes,
    NodeExpiry,
    PushStore,
    Rejections,
    Replicator,
    ServiceLock,
    TableCheck,
    VersionVector
  }

  alias PhoenixGenApi.ConfigSync.ServiceLock.Recovery
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Offers.Sources
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Structs.PushConfig
  alias PhoenixGenApi.UndefinedFunctions

  require Log

  @type service :: String.t() | atom()

  @type reason ::
          :admin_action_denied
          | :invalid_push_token
          | :invalid_push_config_data
          | {:validation_failed, [String.t(), ...]}
          | {:version_conflict, String.t()}
          | :not_running

  @type skipped :: {:ok, :skipped, :version_matches | :superseded | :offered}
  @type result :: {:ok, :accepted} | skipped() | {:error, reason()}

  @doc """
  Stores a push, here and on the other gateways.

  Options:

    * `:force` (`false`) - stores it also when the version is the same
    * `:strict` (`config :phoenix_gen_api, :gen_api, strict`, `false`) - `{:error, {:version_conflict, version}}`
      when the version is the same and the content another
    * `:node` - the node that it came from, for `PhoenixGenApi.ConfigFailed`. Whether a push comes from another
      node is seen from the calling process as well
    * `:pushed_at` - when it was pushed for the first time, in microseconds since 1970. If the
      service was pushed later than that, or the version has lost a conflict, the answer is
      `{:ok, :skipped, :superseded}`, also with `:force`: what a service pushes again because a gateway
      has restarted replaces nothing newer. Nor does it where the gateway learns only afterwards
      what was pushed later

  Other options are ignored, so that pushers may be newer than the gateway.
  """
  @spec push(PushConfig.t() | map(), keyword()) :: result()
  def push(push_config, opts \\ []) do
    Installer.log_on_this_node()

    source = Installer.source(opts[:node])

    with {:ok, push} <- admit(push_config, sender(opts)),
         :ok <- not_offered(push) do
      push.service
      |> Recovery.run(fn -> accept(push, source, opts) end)
      |> replicate(push.service)
    end
    |> answer(opts)
  end

  # A pusher that says what its content is wants to hear of it.
  defp answer({:ok, :skipped, :version_differs}, opts),
    do: {:ok, :skipped, if(opts[:content], do: :version_differs, else: :version_matches)}

  defp answer(result, _opts), do: result

  @doc """
  What `push/2` would do with a push, asked without its functions: `:send`, or an answer that
  `push/2` gives without looking at them. Takes the same options, and `:content`, which pushers make of
  the functions. A node that is to join with that content has joined with its offer.

  While another push of the service is being stored this waits for it, so that of many nodes
  that have the same to push only the first sends it.
  """
  @spec offer(PushConfig.t() | map(), keyword()) :: :send | result()
  def offer(push_config, opts \\ []) do
    Installer.log_on_this_node()

    with {:ok, push} <- admit(push_config, sender(opts)),
         :ok <- not_offered(push) do
      push.service |> Recovery.run(fn -> consider(push, opts) end) |> replicate(push.service)
    end
  end

  defp consider(push, opts) do
    case Comparison.run(push, opts[:content], opts) do
      {:join, node, fingerprint} -> join(push, node, fingerprint, opts)
      {:ok, :skipped, _why} = skipped -> skip(push, opts, skipped)
      _to_be_looked_at -> :send
    end
  end

  @doc """
  Whether the table has the functions of a service as they were last pushed, with this version.

  `{:ok, :matched}`, `{:ok, :mismatch, stored_version}` or `{:error, :not_found}`. The stored version
  is the one that was asked for where some of its functions were deleted, added or pulled since, or where the
  same version was pushed with other content.
  """
  @spec verify(service(), String.t()) ::
          {:ok, :matched} | {:ok, :mismatch, String.t()} | {:error, :not_found | :not_running}
  def verify(service, version) do
    with {:ok, _table} <- Gateway.handle(:config_db) do
      service = to_string(service)

      case PushStore.entry(service).applied do
        nil ->
          {:error, :not_found}

        %{version: ^version} = applied ->
          if PushStore.differing(service) == [] and TableCheck.matches?(service, applied),
            do: {:ok, :matched},
            else: {:ok, :mismatch, version}

        %{version: stored} ->
          {:ok, :mismatch, stored}
      end
    end
  end

  @doc """
  The last accepted push of a service, without its token and with the nodes that have joined it, or
  `nil`.
  """
  @spec get_pushed_config(service()) :: PushConfig.t() | nil
  def get_pushed_config(service) do
    running!()
    unpack(to_string(service))
  end

  @doc "The versions of all pushed services."
  @spec get_all_pushed_services() :: %{String.t() => String.t()}
  def get_all_pushed_services do
    running!()
    PushStore.versions()
  end

  @doc "The pushed services with their versions, and how many they are."
  @spec status() :: %{
          status: :ok,
          count: non_neg_integer(),
          services: %{String.t() => String.t()}
        }
  def status do
    services = get_all_pushed_services()
    %{status: :ok, count: map_size(services), services: services}
  end

  @doc """
  Forgets a pushed service, on every gateway: its version, its pulling if a push had asked for
  that, and all its functions that were pushed or pulled.

  A service that a gateway itself pulls stays registered there, and is pulled again at once. A
  push that another gateway has accepted in the meantime, without knowing of the deletion, stays.
  """
  @spec delete_pushed_service(service()) :: :ok
  def delete_pushed_service(service) do
    running!()
    service = to_string(service)

    forget(service, fn -> Installer.remove(service) end)
  end

  @doc false
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(opts), do: Supervisor.child_spec({ServiceLock, opts}, id: __MODULE__)

  @doc false
  # Called by the supervisor of the application, which thereby owns the tables.
  @spec new() :: :ok
  def new do
    # Its process is registered under the name of this module, on which callers may rely.
    ServiceLock.new(__MODULE__, &Recovery.repair_later/1)
    PushStore.new()
  end

  @doc false
  # `remove` takes off what the service has, while it holds its lock.
  @spec forget(String.t(), (-> term())) :: :ok
  def forget(service, remove) do
    forgotten =
      Recovery.run(service, fn ->
        PushStore.mark_dirty(service)
        remove.()
        forget(service)
      end)

    with {:error, :not_running} <- replicate(forgotten, service), do: Gateway.not_running!()
  end

  defp forget(service) do
    case PushStore.entry(service) do
      %{vector: %{live: []}} ->
        PushStore.clear_dirty(service)
        :ok

      %{vector: vector} ->
        forgotten = VersionVector.delete(vector, PushStore.gateway(), now())
        PushStore.put(service, %{vector: forgotten, applied: nil, refused: nil})
        {:forgotten, forgotten}
    end
  end

  defp admit(push_config, node) do
    with {:ok, _table} <- Gateway.handle(:config_db) do
      case authorise(push_config) do
        {:ok, push} ->
          {:ok, push}

        {:error, reason} ->
          Rejections.record(push_config, reason, node)
          {:error, reason}
      end
    end
  end

  # What is no name is for the validation to refuse.
  defp not_offered(%{service: service}) do
    if is_binary(service) and Sources.ignores?(service, :push),
      do: {:ok, :skipped, :offered},
      else: :ok
  end

  # As the pusher says, which may be anything.
  defp sender(opts), do: if(is_atom(opts[:node]), do: opts[:node])

  defp authorise(push_config) do
    with :ok <- Security.gate(:push_config),
         :ok <- check_token(push_config),
         do: read(push_config)
  end

  defp check_token(push_config) do
    if Security.valid_push_token?(token(push_config)),
      do: :ok,
      else: {:error, :invalid_push_token}
  end

  defp token(%{push_token: token}) when token != nil, do: token
  defp token(%{"push_token" => token}), do: token
  defp token(_other), do: nil

  defp read(%PushConfig{} = push), do: push |> Map.from_struct() |> read()

  defp read(map) when is_map(map) and not is_struct(map),
    do: {:ok, map |> PushConfig.from_map() |> PushConfig.on_node(node()) |> Installer.normalise()}

  defp read(_other), do: {:error, :invalid_push_config_data}

  defp accept(push, source, opts) do
    fingerprint = Content.fingerprint(push)

    case Comparison.run(push, {fingerprint, Content.single_node(push)}, opts) do
      :send -> store(push, fingerprint, source, opts)
      {:join, node, ^fingerprint} -> join(push, node, fingerprint, opts)
      :differs -> differs(push, opts)
      skipped -> skip(push, opts, skipped)
    end
  end

  defp store(push, fingerprint, source, opts) do
    with {:ok, count} <- Installer.store(push, sender(opts), source, fingerprint) do
      stored = record(push, fingerprint, opts[:pushed_at])
      AntiEntropy.log_installed(push.service, push.config_version, count, node())
      UndefinedFunctions.check_pushed(push.fun_configs, sender(opts))
      stored
    end
  end

  defp join(%{service: service, config_version: version}, node, fingerprint, opts) do
    %{vector: vector, applied: applied} = PushStore.entry(service)
    PushStore.mark_dirty(service)
    JoinedNodes.add(service, fingerprint, node, now())
    Installer.update_nodes(service, applied)
    NodeExpiry.watch([node])
    agrees(service, opts)
    Log.info("node #{node} has joined service #{service} #{version}")
    {:stored, vector, PushStore.mark_replicating(service)}
  end

  defp skip(%{service: service}, opts, {:ok, :skipped, why} = skipped) do
    if why == :version_matches, do: agrees(service, opts)
    skipped
  end

  defp agrees(service, opts) do
    if PushStore.differing(service) != [],
      do: PushStore.mark_differing(service, sender(opts), false)
  end

  defp differs(%{service: service, config_version: version}, opts) do
    sender = sender(opts)
    PushStore.mark_differing(service, sender, true)

    Log.warning(
      "push of service #{service} #{version} from #{sender || "this node"} has other content than the one " <>
        "stored with this version, which stays"
    )

    if opts[:strict] || Config.get(:gen_api, :strict),
      do: {:error, {:version_conflict, version}},
      else: {:ok, :skipped, :version_differs}
  end

  # Whatever is answered with :ok, the other gateways have. A pusher that is told that its version
  # is here need not be the first one, whose push may still be on its way, or was killed on it.
  defp replicate({:stored, vector, mark}, service),
    do: replicate(vector, service, mark, {:ok, :accepted})

  defp replicate({:forgotten, vector}, service), do: Replicator.replicate(service, vector)

  defp replicate({:ok, :skipped, _why} = answer, service) do
    case PushStore.replicating(service) do
      nil -> answer
      mark -> replicate(PushStore.entry(service).vector, service, mark, answer)
    end
  end

  defp replicate(answer, _service), do: answer

  defp replicate(vector, service, mark, answer) do
    with :ok <- Replicator.replicate(service, vector) do
      PushStore.mark_replicated(service, mark)
      answer
    end
  end

  defp record(%{service: service, config_version: version} = push, fingerprint, pushed_at) do
    {digest, content} = PushStore.pack(push)
    known = PushStore.entry(service).vector
    again? = is_integer(pushed_at)
    at = if again?, do: pushed_at, else: now()
    vector = VersionVector.push(known, PushStore.gateway(), at, version, digest, again?)

    %{live: [applied]} = vector
    mark = PushStore.mark_replicating(service)
    entry = %{vector: vector, applied: applied, refused: nil}

    PushStore.put(service, entry, %{digest => content}, %{
      digest => Content.outline(push, fingerprint)
    })

    JoinedNodes.keep(service, fingerprint)
    node = Content.single_node(push)
    if node, do: JoinedNodes.add(service, fingerprint, node, now())
    {:stored, vector, mark}
  end

  defp unpack(service) do
    with %{applied: %{digest: digest}} <- PushStore.entry(service) do
      case PushStore.content(service, digest) do
        {:ok, content} -> content |> PushStore.unpack() |> Installer.with_joined()
        # Another push came in between.
        :error -> unpack(service)
      end
    else
      %{applied: nil} -> nil
    end
  end

  defp now, do: System.system_time(:microsecond)

  defp running!, do: Gateway.handle!(:config_db)
end
