defmodule PhoenixGenApi.Plan do
  @moduledoc false
  # What the gateway derives once from a function config. The native side holds it; a
  # request gets this record: a handle and the few fields that Elixir decides on.

  import Bitwise
  require Record

  alias PhoenixGenApi.CandidateSet
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.ServiceSets
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Structs.FunConfig.Validation

  @fields [
    :handle,
    :module,
    :function,
    # those inside the mfa
    :arguments,
    :timeout,
    :response_type,
    :permission,
    :flags
  ]
  Record.defrecord(:plan, @fields)

  @typedoc "The candidates of a config with `nodes: :service`, if there are any to be known."
  # Or with what is known of it beyond its config.
  @type set_of :: (FunConfig.t() -> CandidateSet.t() | nil | {CandidateSet.t(), [mark()]})
  @type mark :: :offered | :rolling

  @type t ::
          record(:plan,
            handle: reference(),
            module: module(),
            function: atom(),
            arguments: [term()],
            timeout: timeout(),
            response_type: :sync | :async | :stream | :none,
            permission: term(),
            flags: non_neg_integer()
          )

  @flags [
    # the function gets the request as its last argument
    request_info: 1,
    before_execute: 2,
    after_execute: 4,
    permission_callback: 8,
    retry: 16,
    # runs on the gateway
    local: 32,
    # the native side knows the nodes and how to choose among them
    fixed_route: 64,
    # a rate limit applies; set by the native side, which knows of every change of limits
    limited: 128,
    # its results have a bound of their own
    result_limit: 256,
    # bounds the whole request, and not each attempt alone
    deadline: 512,
    # a function of the gateway itself
    built_in: 1024,
    # offered by its nodes: there may be another plan soon
    offered: 2048,
    # which offer different definitions: the node is chosen first
    rolling: 4096,
    # the type of its results is known
    result: 8192
  ]

  # Plans made in one native call.
  @batch 64

  @doc "Whether the plan has that property; a guard over a literal name."
  defmacro has(plan, flag) when is_atom(flag) do
    bit = Keyword.fetch!(@flags, flag)
    index = length(@fields)
    quote do: (:erlang.element(unquote(index + 1), unquote(plan)) &&& unquote(bit)) != 0
  end

  @doc """
  Compiles a config that is not going to be stored, as a user wrote it; the errors are those of
  `FunConfig.validate_with_details/1`.
  """
  @spec compile(FunConfig.t(), set_of()) :: {:ok, t(), FunConfig.t()} | {:error, [String.t()]}
  def compile(config, set_of \\ &ServiceSets.of_config/1),
    do: [config] |> compile_all(set_of) |> hd()

  @doc "The same for each of several configs to be stored, which takes a quarter of the time for thousands."
  @spec compile_all([FunConfig.t()], set_of()) ::
          [{:ok, t(), FunConfig.t()} | {:error, [String.t()]}]
  def compile_all(configs, set_of \\ &ServiceSets.of_service(&1.service)) do
    configs
    |> Validation.run_all()
    |> Enum.chunk_every(@batch)
    |> Enum.flat_map(&plans(&1, set_of))
  end

  defp plans(validated, set_of) do
    specs = for {:ok, config, schemas} <- validated, do: spec(config, schemas, set_of)
    plans = Native.plan_new(instance(:node_selector), instance(:rate_limiter), specs)
    {compiled, []} = Enum.map_reduce(validated, plans, &pair/2)
    compiled
  end

  defp pair({:ok, config, _schemas}, [plan | rest]), do: {{:ok, plan, config}, rest}
  defp pair({:error, sentences}, rest), do: {{:error, sentences}, rest}

  @doc """
  The plan of a config that was not stored: one handed over by a caller or made by a hook.

  It is checked as one to be stored is, and what is wrong with it is recorded. The failure is
  one of `PhoenixGenApi.ErrorResponse`.
  """
  @spec compile_unstored(FunConfig.t(), set_of()) ::
          {:ok, t()} | {:error, {:invalid_config, [String.t()]}}
  def compile_unstored(config, set_of \\ &ServiceSets.of_config/1) do
    with {:ok, plan, config} <- compile(config, set_of),
         :ok <- Security.validate_config(config) do
      {:ok, plan}
    else
      {:error, {:mfa_not_allowed, mfa}} ->
        refused(config, ["mfa not allowed: #{SafeInspect.inspect(mfa)}"])

      {:error, sentences} ->
        refused(config, sentences)
    end
  end

  defp refused(config, sentences) do
    ConfigFailed.record(config, sentences, :direct)
    {:error, {:invalid_config, sentences}}
  end

  @doc "The bytes that a result may have as JSON."
  @spec max_result_bytes(t()) :: pos_integer()
  def max_result_bytes(plan) when has(plan, :result_limit), do: config(plan).max_result_bytes
  def max_result_bytes(_plan), do: Config.get(:request, :max_result_bytes)

  @doc "The normalised config that the plan was made of."
  @spec config(t()) :: FunConfig.t()
  def config(plan(handle: handle)), do: config_of(handle)

  @doc "The same by the plan's handle."
  @spec config_of(reference()) :: FunConfig.t()
  def config_of(handle) do
    with :out_of_budget <- Native.plan_config(handle), do: Native.plan_config_dirty(handle)
  end

  @doc "The set that a plan takes its nodes from, by its handle."
  @spec candidate_set(reference()) :: CandidateSet.t() | nil
  def candidate_set(handle), do: Native.plan_candidate_set(handle)

  defp spec(config, {schema, result}, set_of) do
    {module, function, arguments} = config.mfa

    {nodes, marks} =
      case nodes(config, set_of) do
        {set, marks} -> {set, marks}
        nodes -> {nodes, []}
      end

    %{
      service: config.service,
      request_type: config.request_type,
      version: config.version,
      disabled: config.disabled,
      schema: schema,
      result: result,
      module: module,
      function: function,
      arguments: arguments,
      timeout: if(config.timeout == :infinity, do: nil, else: config.timeout),
      response_type: config.response_type,
      permission: config.check_permission,
      flags: flags(config, nodes, marks),
      nodes: nodes,
      mode: if(config.nodes == :local, do: :random, else: mode(config.choose_node_mode)),
      config: config,
      term_bytes: :erts_debug.flat_size(config) * :erlang.system_info(:wordsize)
    }
  end

  # Where no gateway runs a plan can check arguments, which is all that is asked of it.
  defp instance(name) do
    case Gateway.handle(name) do
      {:ok, handle} -> handle
      {:error, :not_running} -> nil
    end
  end

  @doc "The choose_node_mode as the native side takes it."
  @spec mode(term()) :: term()
  def mode({:weighted, weights}),
    do: {:weighted, Map.new(weights, fn {node, weight} -> {to_string(node), weight} end)}

  def mode({_module, _function, _args}), do: :custom
  # A config that was not stored may name its key by an atom.
  def mode({mode, key}) when is_atom(key), do: {mode, Atom.to_string(key)}
  def mode(mode), do: mode

  defp nodes(%{nodes: :local}, _set_of), do: [node()]
  # Also for a function that chooses, which is given the members.
  defp nodes(%{nodes: :service} = config, set_of), do: set_of.(config)
  defp nodes(%{choose_node_mode: {_, _, _}}, _set_of), do: nil
  defp nodes(%{nodes: nodes}, _set_of), do: if(is_list(nodes), do: nodes)

  defp fixed_route?(config, nodes) do
    nodes != nil and config.nodes != :local and not match?({_, _, _}, config.choose_node_mode)
  end

  defp flags(config, nodes, marks) do
    set = [
      request_info: config.request_info,
      before_execute: config.before_execute != nil,
      after_execute: config.after_execute != nil,
      permission_callback: config.permission_callback != nil,
      retry: config.retry != nil,
      local: config.nodes == :local,
      fixed_route: fixed_route?(config, nodes),
      result_limit: config.max_result_bytes != nil,
      deadline: config.deadline != nil,
      built_in: config.service == Validation.reserved_service(),
      offered: :offered in marks,
      rolling: :rolling in marks,
      result: config.result != nil
    ]

    for {flag, true} <- set, reduce: 0, do: (bits -> bits ||| Keyword.fetch!(@flags, flag))
  end
end
