defmodule PhoenixGenApi.ArgumentHandler do
  @moduledoc """
  Validates and converts the arguments of a request against the `arg_types` of a function
  config.

      iex> alias PhoenixGenApi.Structs.{FunConfig, Request}
      iex> config = %FunConfig{
      ...>   service: "util", request_type: "wait", nodes: :local, mfa: {Util, :wait, []},
      ...>   arg_types: [{"until", :datetime}, {"retries", [type: :integer, max: 9, default_value: 1]}]
      ...> }
      iex> request = %Request{request_type: "wait", args: %{"until" => "2026-01-01T00:00:00+02:00"}}
      iex> PhoenixGenApi.ArgumentHandler.convert_args(config, request)
      {:ok, [~U[2025-12-31 22:00:00Z], 1]}

  The types, their options, limits and messages are described in the guide *Arguments*. The
  work is done natively, in one walk over the arguments; a value that needs no conversion is
  handed on as it is, not copied. Whatever the input is, the answer is a list or a documented
  error, no atom is made, and no scheduler is held for long: arguments too large to be checked
  in a fraction of a millisecond are checked on a dirty scheduler.

  ## Details

  The functions below report the first problem. The response to a refused request names it in its text
  if `detail_error` is on, and has every problem in its `details`, at most 20, in the same order:

      [
        %{"path" => "order.lines[3].qty", "rule" => "max", "limit" => 9},
        %{"path" => "order.note", "rule" => "required"}
      ]

  | Rule | Also has | Problem |
  |---|---|---|
  | `extra` | | the argument or field is not declared; one entry for each |
  | `required` | | it is missing, or nil where nil is not allowed |
  | `type` | `expected` | another type than the one expected, such as `"integer"` |
  | `max_length`, `min_length`, `max_bytes` | `limit` | the size of a string |
  | `encoding` | | not UTF-8 |
  | `format` | | the string does not match |
  | `min`, `max` | `limit` | the number is out of range |
  | `enum` | `values` | none of the listed values, of which there are 100 at most |
  | `max_items`, `min_items` | `limit` | the size of a list or map |
  | `max_depth`, `max_nodes` | `limit` | the arguments as a whole; the path is `""` |
  | `max_digits` | `limit` | an integer of too many digits |

  The values that a client has sent are never repeated; names that are not declared are cut at 100
  bytes.
  """

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.ArgumentHandler.{ErrorMessage, Problems}
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Explanation
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.{FieldMap, FunConfig, Request}

  @doc """
  The arguments of the call, in order, without those inside the mfa.

  Of the config only `arg_types` and `arg_orders` count, and `request_type` for messages if the request
  has none: it need not be one that `PhoenixGenApi.ConfigDb.add/1` would accept.

  `{:error, exception}` holds an `ArgumentError` or a `PhoenixGenApi.Errors.InvalidType` for
  the first problem.
  """
  @spec convert_args(FunConfig.t(), Request.t()) :: {:ok, [term()]} | {:error, Exception.t()}
  def convert_args(config, %Request{} = request) when is_struct(config) do
    config = FieldMap.complete(config)
    convert_args(config, config.arg_orders, request)
  end

  # Nothing else of a config matters to arguments: it may be missing, or wrong.
  defp convert_args(%module{arg_types: types, request_type: type} = config, orders, request) do
    request = Request.complete(request)

    arguments =
      struct!(module,
        arg_types: types,
        arg_orders: orders,
        service: name(config.service),
        request_type: name(type),
        nodes: :local,
        mfa: {Kernel, :node, []}
      )

    case Plan.compile(arguments) do
      {:ok, plan, _config} ->
        convert(plan, %{request | request_type: request.request_type || type})

      {:error, errors} ->
        {:error, ArgumentError.exception(Enum.join(errors, "; "))}
    end
  end

  # For warnings.
  defp name(name) when is_binary(name) and name != "" and byte_size(name) <= 1_024,
    do: if(String.valid?(name), do: name, else: name(nil))

  defp name(service) when is_atom(service) and service not in [nil, :""], do: to_string(service)
  defp name(_none), do: "-"

  @doc "Same as `convert_args/2`, but returns the list or raises the exception."
  @spec convert_args!(FunConfig.t(), Request.t()) :: [term()]
  def convert_args!(config, request), do: bang!(convert_args(config, request))

  @doc """
  Whether the arguments are valid: `:ok` or `{:error, exception}`.

  Needs no `arg_orders`: without an order arguments are checked by name.
  """
  @spec validate_args(FunConfig.t(), Request.t()) :: :ok | {:error, Exception.t()}
  def validate_args(config, %Request{} = request) when is_struct(config) do
    config = FieldMap.complete(config)

    orders =
      if is_map(config.arg_types) and config.arg_orders in [nil, []],
        do: :map,
        else: config.arg_orders

    with {:ok, _arguments} <- convert_args(config, orders, request), do: :ok
  end

  @doc "Same as `validate_args/2`, but raises the exception."
  @spec validate_args!(FunConfig.t(), Request.t()) :: :ok
  def validate_args!(config, request) do
    with {:error, exception} <- validate_args(config, request), do: raise(exception)
  end

  @doc "Code points that a `:string` may have when its type says nothing."
  @spec string_max_length() :: non_neg_integer()
  def string_max_length, do: Config.get(:argument_handler, :string_max_length)

  @doc "Bytes that a `:string` may have when its type says nothing."
  @spec string_max_bytes() :: non_neg_integer()
  def string_max_bytes do
    Config.get(:argument_handler, :string_max_bytes) || 4 * string_max_length()
  end

  @doc "Items that a list may have when its type says nothing."
  @spec list_max_items() :: non_neg_integer()
  def list_max_items, do: Config.get(:argument_handler, :list_max_items)

  @doc "Entries that a map may have when its type says nothing."
  @spec map_max_items() :: non_neg_integer()
  def map_max_items, do: Config.get(:argument_handler, :map_max_items)

  @doc false
  @spec convert(Plan.t(), Request.t()) :: {:ok, [term()]} | {:error, Exception.t()}
  def convert(plan, %Request{args: nil} = request), do: convert(plan, %{request | args: %{}})

  def convert(plan(handle: handle), %Request{args: args} = request)
      when is_map(args) and not is_struct(args) do
    case Native.argument_handler_convert(handle, args) do
      arguments when is_list(arguments) -> {:ok, arguments}
      {:error, problem} -> {:error, ErrorMessage.exception(problem, request.request_type)}
      :out_of_budget -> convert_dirty(handle, request)
    end
  end

  def convert(_plan, %Request{args: args}),
    do: {:error, ErrorMessage.exception({:not_json, [], args, nil}, nil)}

  @doc false
  # Every problem of arguments that were refused, for the client. Valid ones never come here.
  @spec problems(Plan.t(), Request.t()) :: [Problems.problem()]
  def problems(plan(handle: handle), %Request{args: args}) when is_non_struct_map(args) do
    found =
      with :out_of_budget <- Native.argument_handler_problems(handle, args),
           do: Native.argument_handler_problems_dirty(handle, args)

    Problems.describe(found)
  end

  def problems(plan, %Request{args: nil} = request), do: problems(plan, %{request | args: %{}})
  def problems(_plan, _request), do: Problems.describe([{:wrong_type, [], :map, nil}])

  defp convert_dirty(handle, request) do
    case Native.argument_handler_convert_dirty(handle, request.args) do
      arguments when is_list(arguments) -> {:ok, arguments}
      {:error, problem} -> {:error, ErrorMessage.exception(problem, request.request_type)}
    end
  end

  @doc false
  @spec explain(Plan.t(), Request.t() | nil) :: Explanation.t()
  def explain(plan, nil), do: plan |> Plan.config() |> describe() |> Explanation.none()

  def explain(plan, request) do
    desc = plan |> Plan.config() |> describe()

    case convert(plan, request) do
      {:ok, []} ->
        Explanation.passes(desc)

      {:ok, arguments} ->
        Explanation.passes(desc, Format.count(length(arguments), "argument"))

      {:error, error} ->
        failure = {:invalid_arguments, error, problems(plan, request)}
        Explanation.refuses(desc, failure, SafeInspect.reason(:error, error))
    end
  end

  defp describe(%{arg_types: types}) when types in [nil, %{}, []], do: "none are accepted"

  defp describe(%{arg_types: types, arg_orders: :map}),
    do: "one map of #{Format.names(Map.keys(types))}"

  defp describe(%{arg_orders: names}), do: Format.names(names)

  defp bang!({:ok, result}), do: result
  defp bang!({:error, exception}), do: raise(exception)
end
