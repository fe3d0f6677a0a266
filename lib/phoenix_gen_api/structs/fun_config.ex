defmodule PhoenixGenApi.Structs.FunConfig do
  @moduledoc """
  How to reach and guard one function: a function config.

      %FunConfig{
        service: "books",
        request_type: "find",
        version: "1.0.0",
        nodes: [:"books@127.0.0.1"],
        mfa: {Books.Api, :find, []},
        arg_types: %{"isbn" => {:string, 13}}
      }

  Its key is `{service, request_type, version}`. When a config is stored
  (`PhoenixGenApi.ConfigDb.add/1`, a pull or a push) it is normalised, validated and compiled
  into a plan; requests read only the plan.

  | Field | Accepted | Default |
  |---|---|---|
  | `request_type` | non-empty string of at most 8,192 bytes, as `service` and `version` | required |
  | `service` | atom or non-empty string, but not `gen_api`; kept as a string | required |
  | `nodes` | non-empty list of node names, `{module, function, args}`, `:local`, or `:service`, the nodes that offer the service | required |
  | `choose_node_mode` | see `PhoenixGenApi.NodeSelector` | `:random` |
  | `timeout` | 100 to 300,000 ms, or `:infinity` | `5_000` |
  | `mfa` | `{module, function, args}` | required |
  | `arg_types`, `arg_orders` | see `PhoenixGenApi.ArgumentHandler`; names may be atoms, and become strings | `nil` |
  | `response_type` | `:sync`, `:async`, `:stream`, `:none` | `:sync` |
  | `check_permission`, `permission_callback` | see `PhoenixGenApi.Permission`; `check_permission: {:callback, mfa}` is stored as `permission_callback: mfa` | `false`, `nil` |
  | `request_info` | append the request as the last call argument | `false` |
  | `version` | non-empty string, semantic versions recommended; `nil` reads as `"0.0.0"` | `"0.0.0"` |
  | `disabled` | boolean | `false` |
  | `retry` | `nil`, n from 1 to 100, `{:same_node, n}`, `{:all_nodes, n}` | `nil` |
  | `retry_on` | list of `:error_result`, `:exception`, `:timeout`, `:node_down` | all but `:timeout` |
  | `before_execute`, `after_execute` | `nil`, `{module, function}`, `{module, function, args}` | `nil` |
  | `hook_timeout` | 1 to 300,000 ms | `5_000` |
  | `log` | from which level on failed requests are logged: a `Logger` level, `false` for none, or `nil` for that of `config :phoenix_gen_api, :log` | `nil` |
  | `max_result_bytes` | size of a result in JSON, for clients: bytes, or `nil` for that of `config :phoenix_gen_api, :request` | `nil` |
  | `deadline` | `nil`, or 100 to 3,600,000 ms for a whole request: waiting, hooks, node selection, every attempt. The client's `deadline_ms` counts if it is less | `nil` |
  | `doc` | what the function does, a string of at most 4,000 characters, or `nil` | `nil` |
  | `result` | the type of what it returns, of a stream that of an item, in the spellings of `PhoenixGenApi.ArgumentHandler`; `nil` if undescribed. `config :phoenix_gen_api, :check_results` has results checked against it | `nil` |
  | `deprecated` | boolean, or a sentence that says what to use instead | `false` |
  | `idempotent` | whether calling it twice does no harm | `false` |
  | `tags` | list of non-empty strings | `[]` |

  `doc` to `tags` describe the function, see `PhoenixGenApi.Contract`; they change nothing about a request, unless
  `:check_results` is on: `:log` warns of a result that is not what `result` says, with the path and the rule, and
  `:error` also answers the request with `Internal Server Error` (a stream ends so at its first wrong item). What
  counts is the form that JSON gives a result: atoms are strings, dates texts, and structs what their encoders
  make of them. Limits of arguments as a whole, on levels and values, are none of results. A module declares its functions with
  `PhoenixGenApi.Service`, which takes these fields as options.
  """

  alias PhoenixGenApi.Structs.FieldMap
  alias PhoenixGenApi.Structs.FunConfig.Validation
  alias PhoenixGenApi.Structs.Request
  alias PhoenixGenApi.Log

  require Log

  @unversioned "0.0.0"

  defstruct request_type: nil,
            service: nil,
            nodes: nil,
            choose_node_mode: :random,
            timeout: 5_000,
            mfa: nil,
            arg_types: nil,
            arg_orders: nil,
            response_type: :sync,
            check_permission: false,
            permission_callback: nil,
            request_info: false,
            version: @unversioned,
            disabled: false,
            retry: nil,
            retry_on: [:error_result, :exception, :node_down],
            before_execute: nil,
            after_execute: nil,
            hook_timeout: 5_000,
            log: nil,
            max_result_bytes: nil,
            deadline: nil,
            doc: nil,
            result: nil,
            deprecated: false,
            idempotent: false,
            tags: []

  @type arg_mfa :: {module(), atom(), [term()]}
  @type hook :: {module(), atom()} | arg_mfa()

  @type t :: %__MODULE__{
          request_type: String.t() | nil,
          service: String.t() | atom(),
          nodes: [node() | String.t()] | arg_mfa() | :local | :service | nil,
          choose_node_mode: term(),
          timeout: timeout(),
          mfa: arg_mfa() | nil,
          arg_types: nil | %{(String.t() | atom()) => term()} | [{String.t() | atom(), term()}],
          arg_orders: nil | :map | [String.t() | atom()],
          response_type: :sync | :async | :stream | :none,
          check_permission:
            false
            | :any_authenticated
            | {:arg, String.t()}
            | {:role, [String.t()]}
            | {:callback, arg_mfa()},
          permission_callback: nil | arg_mfa(),
          request_info: boolean(),
          version: String.t() | nil,
          disabled: boolean(),
          retry: nil | number() | {:same_node | :all_nodes, pos_integer()},
          retry_on: [:error_result | :exception | :timeout | :node_down],
          before_execute: nil | hook(),
          after_execute: nil | hook(),
          hook_timeout: pos_integer(),
          log: nil | Logger.level() | false,
          max_result_bytes: pos_integer() | nil,
          deadline: pos_integer() | nil,
          doc: String.t() | nil,
          result: term(),
          deprecated: boolean() | String.t(),
          idempotent: boolean(),
          tags: [String.t()]
        }

  @doc "Whether `PhoenixGenApi.ConfigDb.add/1` would accept the config; logs each error."
  @spec valid?(t()) :: boolean()
  def valid?(%__MODULE__{} = config) do
    case validate_with_details(config) do
      {:ok, _config} ->
        true

      {:error, errors} ->
        Enum.each(errors, &Log.error("invalid function config: #{&1}"))
        false
    end
  end

  @doc """
  `{:ok, config}` with the struct as given, or `{:error, sentences}` in the order of the fields.

      iex> alias PhoenixGenApi.Structs.FunConfig
      iex> FunConfig.validate_with_details(%FunConfig{
      ...>   service: "util", request_type: "up", nodes: :local, mfa: {String, :upcase, []}, timeout: 1
      ...> })
      {:error, ["timeout must be a positive integer between 100 and 300000, or :infinity"]}
  """
  @spec validate_with_details(t()) :: {:ok, t()} | {:error, [String.t()]}
  def validate_with_details(%__MODULE__{} = config) do
    with {:ok, _normalised, _schema} <- Validation.run(config),
         do: {:ok, config}
  end

  @doc false
  # A config that another version of the library made, with the fields of this one.
  @spec complete(term()) :: term()
  def complete(%__MODULE__{} = config), do: FieldMap.complete(config)
  def complete(other), do: other

  @doc """
  The retry rule in its long form: `nil`, `{:same_node, n}` or `{:all_nodes, n}`. A bare number
  is truncated and means all nodes; what is no retry rule reads as `nil`.

      iex> PhoenixGenApi.Structs.FunConfig.normalize_retry(2.9)
      {:all_nodes, 2}
  """
  @spec normalize_retry(term()) :: nil | {:same_node | :all_nodes, pos_integer()}
  defdelegate normalize_retry(retry), to: Validation

  @doc false
  # The number of arguments in the call.
  @spec arity(t()) :: arity()
  def arity(%__MODULE__{mfa: {_module, _function, fixed}} = config) do
    given =
      case {count(config.arg_types), config.arg_orders} do
        {0, _order} -> 0
        {_some, :map} -> 1
        {count, _order} -> count
      end

    given + length(fixed) + if(config.request_info == true, do: 1, else: 0)
  end

  defp count(types) when is_non_struct_map(types), do: map_size(types)
  defp count(types) when length(types) >= 0, do: length(types)
  defp count(_none), do: 0

  @doc "The version, `\"0.0.0\"` for `nil`."
  @spec version(t()) :: String.t()
  def version(%__MODULE__{} = config), do: Map.get(config, :version) || @unversioned

  @doc "Whether the function runs on the gateway itself."
  @spec local_service?(t()) :: boolean()
  def local_service?(%__MODULE__{} = config), do: Map.get(config, :nodes) == :local

  @doc "Same as `local_service?/1`."
  @spec is_local_service?(t()) :: boolean()
  def is_local_service?(config), do: local_service?(config)

  @doc "See `PhoenixGenApi.NodeSelector.get_node/2`."
  @spec get_node(t(), Request.t()) :: {:ok, node()} | {:error, term()}
  def get_node(config, request),
    do: config |> complete() |> PhoenixGenApi.NodeSelector.get_node(request)

  @doc "See `PhoenixGenApi.ArgumentHandler.convert_args!/2`."
  @spec convert_args!(t(), Request.t()) :: [term()]
  def convert_args!(config, request),
    do: config |> complete() |> PhoenixGenApi.ArgumentHandler.convert_args!(request)

  @doc "See `PhoenixGenApi.Permission.check_permission!/2`."
  @spec check_permission!(Request.t(), t()) :: nil
  def check_permission!(request, config),
    do: PhoenixGenApi.Permission.check_permission!(request, complete(config))
end
