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
    4. the version: `{:ok, :skipped, :version_matches}` when the last accepted push of the service
       had the same `config_version`, unless `force: true`
    5. everything in it: `{:error, {:validation_failed, sentences}}` if anything is invalid, not
       allowed or listed twice, if code on this gateway has added it, or if it is `nodes: :local`
       from another node (see `PhoenixGenApi.Security`). All reasons are returned, and recorded
       in `PhoenixGenApi.ConfigFailed`
    6. it is stored, here and on every connected gateway: `{:ok, :accepted}`. In one visible step
       the functions replace all those of the service that were pushed or pulled before

  With `module` and `function` set the service is also registered with
  `PhoenixGenApi.ConfigPuller`, until a push without them.

  What is turned away by the first three is recorded there with its name, too.

  Only `config_version` decides about skipping: several nodes of a service have to push the same
  config, which lists all of them or finds them with `nodes: {module, function, args}`.

  Pushes of one service follow each other, those of different services run side by side, each in
  the process that calls. What was pushed belongs to the supervisor and survives every crash below
  it. Tokens are compared and dropped: they are neither stored nor sent to other gateways.

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

  Not shared: the marks of `PhoenixGenApi.ConfigDb.disable/3`, functions that were added directly, and
  services that `PhoenixGenApi.ConfigPuller` was told of by an operator. Each gateway has its own.
  """

  alias PhoenixGenApi.ConfigSync.{
    AntiEntropy,
    Installer,
    PushStore,
    Rejections,
    Replicator,
    ServiceLock,
    VersionVector
  }

  alias PhoenixGenApi.ConfigSync.ServiceLock.Recovery
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Structs.PushConfig
  alias PhoenixGenApi.UndefinedFunctions

  @type service :: String.t() | atom()

  @type reason ::
          :admin_action_denied
          | :invalid_push_token
          | :invalid_push_config_data
          | {:validation_failed, [String.t(), ...]}
          | :not_running

  @type skipped :: {:ok, :skipped, :version_matches | :superseded}
  @type result :: {:ok, :accepted} | skipped() | {:error, reason()}

  @doc """
  Stores a push, here and on the other gateways.

  Options:

    * `:force` (`false`) - stores it also when the version is the same
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

    with {:ok, push} <- admit(push_config, sender(opts)) do
      push.service
      |> Recovery.run(fn -> accept(push, source, opts) end)
      |> replicate(push.service)
    end
  end

  @doc """
  What `push/2` would do with a push, asked without its functions: `:send`, or an answer that
  `push/2` gives without looking at them. Takes the same options.

  While another push of the service is being stored this waits for it, so that of many nodes
  that have the same to push only the first sends it.
  """
  @spec offer(PushConfig.t() | map(), keyword()) :: :send | skipped() | {:error, reason()}
  def offer(push_config, opts \\ []) do
    Installer.log_on_this_node()

    with {:ok, push} <- admit(push_config, sender(opts)),
         do:
           push.service |> Recovery.run(fn -> compare(push, opts) end) |> replicate(push.service)
  end

  @doc """
  Whether the last accepted push of a service had this version.

  `{:ok, :matched}`, `{:ok, :mismatch, stored_version}` or `{:error, :not_found}`.
  """
  @spec verify(service(), String.t()) ::
          {:ok, :matched} | {:ok, :mismatch, String.t()} | {:error, :not_found | :not_running}
  def verify(service, version) do
    with {:ok, _table} <- Gateway.handle(:config_db) do
      case PushStore.version(to_string(service)) do
        nil -> {:error, :not_found}
        ^version -> {:ok, :matched}
        stored -> {:ok, :mismatch, stored}
      end
    end
  end

  @doc "The last accepted push of a service, without its token, or `nil`."
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
    do: {:ok, map |> PushConfig.from_map() |> Installer.normalise()}

  defp read(_other), do: {:error, :invalid_push_config_data}

  # Nothing is known of what no service can be called; the validation says what is wrong with it.
  defp compare(%{service: service}, _opts) when not is_binary(service), do: :send

  # What counts among the gateways decides, not what this one may have kept instead.
  defp compare(%{service: service, config_version: version}, opts) do
    %{vector: vector, applied: applied} = PushStore.entry(service)

    case VersionVector.winner(vector) do
      %{version: ^version} = winner when winner == applied ->
        if opts[:force], do: :send, else: {:ok, :skipped, :version_matches}

      winner ->
        if superseded?(version, opts[:pushed_at], winner, vector),
          do: {:ok, :skipped, :superseded},
          else: :send
    end
  end

  defp superseded?(_version, pushed_at, winner, _register)
       when winner == nil or not is_integer(pushed_at),
       do: false

  # Later than it, or in a conflict with it.
  defp superseded?(version, pushed_at, winner, %{live: live}) do
    winner.at > pushed_at or
      (winner.version != version and Enum.any?(live, &(&1.version == version)))
  end

  defp accept(push, source, opts) do
    with :send <- compare(push, opts),
         {:ok, count} <- Installer.store(push, sender(opts), source) do
      vector = record(push, opts[:pushed_at])
      AntiEntropy.log_installed(push.service, push.config_version, count, node())
      UndefinedFunctions.check_pushed(push.fun_configs, sender(opts))
      {:stored, vector}
    end
  end

  # Whatever is answered with :ok, the other gateways have. A pusher that is told that its version
  # is here need not be the first one, whose push may still be on its way, or was killed on it.
  defp replicate({:stored, vector}, service), do: replicate(vector, service, {:ok, :accepted})

  defp replicate({:forgotten, vector}, service), do: Replicator.replicate(service, vector)

  defp replicate({:ok, :skipped, _why} = answer, service) do
    if PushStore.replicating?(service),
      do: replicate(PushStore.entry(service).vector, service, answer),
      else: answer
  end

  defp replicate(answer, _service), do: answer

  defp replicate(vector, service, answer) do
    with :ok <- Replicator.replicate(service, vector) do
      for %{dot: dot} <- vector.live, do: PushStore.mark_replicated(service, dot)
      answer
    end
  end

  defp record(%{service: service, config_version: version} = push, pushed_at) do
    {digest, content} = PushStore.pack(push)
    known = PushStore.entry(service).vector
    again? = is_integer(pushed_at)
    at = if again?, do: pushed_at, else: now()
    vector = VersionVector.push(known, PushStore.gateway(), at, version, digest, again?)

    %{live: [applied]} = vector
    PushStore.mark_replicating(service, applied.dot)
    entry = %{vector: vector, applied: applied, refused: nil}
    PushStore.put(service, entry, %{digest => content})
    vector
  end

  defp unpack(service) do
    with %{applied: %{digest: digest}} <- PushStore.entry(service) do
      case PushStore.content(service, digest) do
        {:ok, content} -> PushStore.unpack(content)
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
