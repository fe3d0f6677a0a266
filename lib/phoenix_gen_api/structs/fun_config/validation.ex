defmodule PhoenixGenApi.Structs.FunConfig.Validation do
  @moduledoc false
  # Normalises and checks a function config and compiles its argument schema: one way in
  # for everything that accepts a config. It reads fields and knows no struct: `FunConfig` is above it.

  alias PhoenixGenApi.ArgumentHandler.TypeParser
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Log
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.FieldMap

  require Log

  @max_depth 32
  # Configs compiled in one native call.
  @batch 64
  @node_name_bytes 255
  # Tables keep names. More than clients can send, unless `max_field_bytes` is raised a lot.
  @name_bytes 8_192
  # A hook's time is that of a timer, which takes no integer of any size.
  @max_hook_timeout 300_000
  # A caller waits for all of them.
  @max_retries 100
  @max_text 4_000
  @unversioned "0.0.0"
  # A result is bounded in bytes.
  @most_nodes 0xFFFF_FFFF
  @reserved "gen_api"
  # Spelt so that this module does not depend on what is above it.
  @built_in {Module.concat(["PhoenixGenApi", "Contract", "BuiltIn"]), :describe, []}
  @names [:service, :request_type, :version]
  @levels [:emergency, :alert, :critical, :error, :warning, :notice, :info, :debug]

  @messages [
    request_type: "request_type must be a non-empty string",
    service: "service must be an atom or a non-empty string",
    nodes: "nodes must be a valid list, MFA tuple, :local, or :service",
    choose_node_mode:
      "choose_node_mode must be :random, :hash, {:hash, key}, :round_robin, {:sticky, key}, " <>
        ":least_busy, {:weighted, weights}, or {module, function, args}",
    timeout: "timeout must be a positive integer between 100 and 300000, or :infinity",
    mfa: "mfa must be a valid {module, function, args} tuple",
    arg_types: nil,
    response_type: "response_type must be :sync, :async, :stream, or :none",
    check_permission:
      "check_permission must be false, :any_authenticated, {:arg, arg_name}, or {:role, roles}",
    permission_callback:
      "permission_callback must be nil or a valid {module, function, args} tuple",
    request_info: "request_info must be a boolean",
    version: "version must be a valid version string (e.g., '1.0.0')",
    disabled: "disabled must be a boolean",
    retry: "retry must be nil, a positive number, {:same_node, number}, or {:all_nodes, number}",
    retry_on: "retry_on must be a list of :error_result, :exception, :timeout, :node_down",
    before_execute:
      "before_execute must be nil or a valid {module, function} or {module, function, args} tuple",
    after_execute:
      "after_execute must be nil or a valid {module, function} or {module, function, args} tuple",
    hook_timeout: "hook_timeout must be a positive integer",
    log: "log must be nil, a Logger level, or false",
    max_result_bytes: "max_result_bytes must be a positive integer or nil",
    deadline: "deadline must be nil or an integer between 100 and 3600000",
    doc: "doc must be nil or a string of at most #{@max_text} characters",
    result: nil,
    deprecated:
      "deprecated must be a boolean or a non-empty string of at most #{@max_text} characters",
    idempotent: "idempotent must be a boolean",
    tags: "tags must be a list of non-empty strings"
  ]

  @doc "The service that only functions of the gateway itself have."
  @spec reserved_service() :: String.t()
  def reserved_service, do: @reserved

  @typedoc "The compiled schemas of the arguments, and of the result where that is described."
  @type schemas :: {reference(), reference() | nil}

  @doc "The normalised config and its compiled schemas, or every error in field order."
  @spec run(config) :: {:ok, config, schemas()} | {:error, [String.t()]} when config: struct()
  def run(config), do: [config] |> run_all() |> hd()

  @doc "The same for each of several configs, which takes a quarter of the time for thousands."
  @spec run_all([config]) :: [{:ok, config, schemas()} | {:error, [String.t()]}]
        when config: struct()
  def run_all(configs) do
    configs
    |> Enum.map(&FieldMap.complete/1)
    |> Enum.chunk_every(@batch)
    |> Enum.flat_map(fn configs -> Enum.zip_with(configs, compile_types(configs), &check/2) end)
  end

  defp check(config, types) do
    compiled = %{arg_types: types, result: compile_result(config.result)}

    case Enum.flat_map(@messages, &errors(&1, config, compiled)) do
      [] ->
        {:ok, schema, orders, warnings} = types
        {:ok, result, more} = compiled.result
        warnings = warnings ++ more
        Enum.each(warnings, &Log.warning("#{names(config)}: #{&1}"))
        {:ok, normalise(config, orders), {schema, result}}

      errors ->
        {:error, errors}
    end
  end

  defp names(config),
    do: "#{SafeInspect.name(config.service)} #{SafeInspect.name(config.request_type)}"

  defp errors({field, nil}, _config, compiled) do
    case compiled do
      %{^field => {:error, message}} -> [message]
      _right -> []
    end
  end

  defp errors({:service, _}, %{service: nil}, _compiled), do: ["service must not be nil"]

  # The gate for the functions that configs may name keeps out all others that name this one.
  defp errors({:service, _}, %{service: service, mfa: mfa}, _compiled)
       when service in [@reserved, :gen_api] and mfa != @built_in,
       do: ["service must not be gen_api, which is reserved for functions of the gateway itself"]

  defp errors({field, message}, config, _compiled) do
    value = Map.fetch!(config, field)

    cond do
      valid?(field, value) -> []
      field in @names and too_long?(value) -> ["#{field} must have at most #{@name_bytes} bytes"]
      true -> [message]
    end
  end

  defp compile_types(configs, max_nodes \\ Config.get(:argument_handler, :max_nodes)) do
    parsed = Enum.map(configs, &TypeParser.parse(&1.arg_types, &1.arg_orders))
    # Without declared arguments a function takes none, whatever the order says.
    schemas = for {:ok, %{fields: f, orders: o}} <- parsed, do: {f, o == :map and f != []}
    compiled = Native.argument_handler_compile(schemas, @max_depth, max_nodes)
    {types, []} = Enum.map_reduce(parsed, compiled, &pair/2)
    types
  end

  # The type of a result is written like that of an argument.
  defp compile_result(nil), do: {:ok, nil, []}

  defp compile_result(type) do
    case compile_types([%{arg_types: [{"result", type}], arg_orders: nil}], @most_nodes) do
      [{:ok, schema, _orders, warnings}] -> {:ok, schema, Enum.map(warnings, &of_result/1)}
      [{:error, message}] -> {:error, of_result(message)}
    end
  end

  defp of_result("arg_types" <> sentence), do: "result" <> sentence

  defp pair({:ok, parsed}, [{:ok, schema} | rest]),
    do: {{:ok, schema, parsed.orders, parsed.warnings}, rest}

  defp pair({:ok, _parsed}, [{:error, refused} | rest]),
    do: {{:error, TypeParser.compile_error(refused)}, rest}

  defp pair({:error, message}, rest), do: {{:error, message}, rest}

  defp valid?(:request_type, value), do: name?(value)
  defp valid?(:service, value), do: (is_atom(value) and value != :"") or name?(value)
  defp valid?(:nodes, value) when value in [:local, :service], do: true
  defp valid?(:nodes, [_ | _] = nodes), do: proper?(nodes) and Enum.all?(nodes, &node?/1)
  defp valid?(:nodes, value), do: mfa?(value)
  defp valid?(:choose_node_mode, value), do: mode?(value)
  defp valid?(:timeout, value), do: value == :infinity or value in 100..300_000
  defp valid?(:mfa, value), do: mfa?(value)
  defp valid?(:response_type, value), do: value in [:sync, :async, :stream, :none]
  defp valid?(:check_permission, value), do: permission?(value)
  defp valid?(:permission_callback, value), do: value == nil or mfa?(value)
  defp valid?(:request_info, value), do: is_boolean(value)
  defp valid?(:version, value), do: value == nil or name?(value)
  defp valid?(:disabled, value), do: is_boolean(value)
  defp valid?(:retry, value), do: value == nil or normalize_retry(value) != nil

  defp valid?(:retry_on, value) do
    is_list(value) and proper?(value) and
      Enum.all?(value, &(&1 in [:error_result, :exception, :timeout, :node_down]))
  end

  defp valid?(:before_execute, value), do: value == nil or hook?(value)
  defp valid?(:after_execute, value), do: value == nil or hook?(value)
  defp valid?(:hook_timeout, value), do: is_integer(value) and value in 1..@max_hook_timeout
  defp valid?(:log, value), do: value in [nil, false | @levels]
  defp valid?(:max_result_bytes, value), do: value == nil or (is_integer(value) and value > 0)
  defp valid?(:deadline, value), do: value == nil or value in 100..3_600_000
  defp valid?(:doc, value), do: value == nil or text?(value)
  defp valid?(:deprecated, value), do: is_boolean(value) or (text?(value) and value != "")
  defp valid?(:idempotent, value), do: is_boolean(value)
  defp valid?(:tags, value), do: is_list(value) and proper?(value) and Enum.all?(value, &name?/1)

  # The bytes first: a text of any size is not walked.
  defp text?(value) do
    is_binary(value) and byte_size(value) <= 4 * @max_text and String.valid?(value) and
      length(String.to_charlist(value)) <= @max_text
  end

  defp name?(value) do
    is_binary(value) and value != "" and not too_long?(value) and String.valid?(value)
  end

  defp too_long?(value), do: is_binary(value) and byte_size(value) > @name_bytes

  defp node?(nil), do: false
  defp node?(node) when is_atom(node), do: true
  defp node?(node), do: name?(node) and byte_size(node) <= @node_name_bytes

  defp mfa?({m, f, a}), do: is_atom(m) and is_atom(f) and is_list(a) and proper?(a) and m != nil
  defp mfa?(_other), do: false

  defp hook?({m, f}), do: is_atom(m) and is_atom(f) and m != nil
  defp hook?(value), do: mfa?(value)

  @doc "Whether this is a choose_node_mode."
  @spec mode?(term()) :: boolean()
  def mode?(mode) when mode in [:random, :hash, :round_robin, :least_busy], do: true
  def mode?({mode, key}) when mode in [:hash, :sticky], do: key?(key)

  def mode?({:weighted, weights}) when is_map(weights) or is_list(weights) do
    pairs = if is_map(weights), do: Map.to_list(weights), else: weights

    proper?(pairs) and pairs != [] and
      Enum.all?(pairs, fn
        {node, weight} -> node?(node) and weight in 0..1_000_000
        _ -> false
      end)
  end

  def mode?(mode), do: mfa?(mode)

  defp key?(key), do: name?(key) or (is_atom(key) and key not in [nil, true, false])

  defp permission?(kind) when kind in [false, :any_authenticated], do: true
  defp permission?({:arg, name}), do: key?(name)
  defp permission?({:callback, callback}), do: mfa?(callback)

  defp permission?({:role, roles}) when is_list(roles) and roles != [],
    do: proper?(roles) and Enum.all?(roles, &key?/1)

  defp permission?(_other), do: false

  defp proper?(list), do: not List.improper?(list)

  defp normalise(config, orders) do
    %{
      config
      | service: to_string(config.service),
        version: config.version || @unversioned,
        nodes: nodes(config.nodes),
        choose_node_mode: mode(config.choose_node_mode),
        retry: normalize_retry(config.retry),
        arg_types: arg_types(config.arg_types),
        arg_orders: orders,
        check_permission: permission(config.check_permission)
    }
    |> callback()
  end

  # Another way to write it. Where both are there, `permission_callback` decides, as ever.
  defp callback(%{check_permission: {:callback, callback}} = config) do
    %{
      config
      | check_permission: false,
        permission_callback: config.permission_callback || callback
    }
  end

  defp callback(config), do: config

  @doc "The long form of a retry rule, see `PhoenixGenApi.Structs.FunConfig.normalize_retry/1`."
  @spec normalize_retry(term()) :: nil | {:same_node | :all_nodes, pos_integer()}
  def normalize_retry(n) when is_number(n) and n >= 1 and n < @max_retries + 1,
    do: {:all_nodes, trunc(n)}

  def normalize_retry({mode, n})
      when mode in [:same_node, :all_nodes] and is_number(n) and n >= 1 and n < @max_retries + 1,
      do: {mode, trunc(n)}

  def normalize_retry(_none), do: nil

  # A function config comes from a developer or from a service that may push; the number of
  # names is bounded by theirs.
  defp nodes(nodes) when is_list(nodes), do: Enum.map(nodes, &node_name/1)
  defp nodes(nodes), do: nodes

  defp node_name(node) when is_binary(node), do: String.to_atom(node)
  defp node_name(node), do: node

  defp mode({mode, key}) when mode in [:hash, :sticky], do: {mode, to_string(key)}

  defp mode({:weighted, weights}),
    do: {:weighted, Map.new(weights, fn {node, weight} -> {node_name(node), weight} end)}

  defp mode(mode), do: mode

  defp arg_types(nil), do: nil
  defp arg_types(types), do: Map.new(types, fn {name, type} -> {TypeParser.name(name), type} end)

  defp permission({:arg, name}), do: {:arg, to_string(name)}
  defp permission({:role, roles}), do: {:role, Enum.map(roles, &to_string/1)}
  defp permission(kind), do: kind
end
