defmodule PhoenixGenApi.Structs.PushConfig do
  @moduledoc """
  What a service node pushes to a gateway: all functions of one service, under one version.

      %PushConfig{
        service: "shop",
        nodes: [:"shop@10.0.0.7"],
        config_version: "1.0.0",
        fun_configs: [%FunConfig{service: "shop", request_type: "quote", ...}]
      }

  | Field | Content | Default |
  |---|---|---|
  | `service` | name, string or atom | `nil` |
  | `nodes` | the nodes of the service; `:service` is the node that pushes | `nil` |
  | `config_version` | a push of the version and the functions that the gateway has is skipped, unless forced | `nil` |
  | `fun_configs` | list of `%PhoenixGenApi.Structs.FunConfig{}` | `nil` |
  | `module`, `function`, `args` | if set, the gateway also pulls from there | `nil`, `nil`, `[]` |
  | `version_module`, `version_function`, `version_args` | as in `PhoenixGenApi.Structs.ServiceConfig` | `nil`, `nil`, `[]` |
  | `push_token` | secret that the gateway may demand; never shown by `inspect/2` | `nil` |

  `PhoenixGenApi.ConfigPusher` builds and sends it.
  """

  alias PhoenixGenApi.Structs.{FieldMap, FunConfig, ServiceConfig}

  @max_bytes 8_192

  @type t :: %__MODULE__{
          service: ServiceConfig.name() | nil,
          nodes: [ServiceConfig.name()] | :service | nil,
          config_version: String.t() | nil,
          fun_configs: [FunConfig.t()] | nil,
          module: ServiceConfig.name() | nil,
          function: ServiceConfig.name() | nil,
          args: list(),
          version_module: ServiceConfig.name() | nil,
          version_function: ServiceConfig.name() | nil,
          version_args: list(),
          push_token: String.t() | nil
        }

  @derive {Inspect, except: [:push_token]}
  defstruct service: nil,
            nodes: nil,
            config_version: nil,
            fun_configs: nil,
            module: nil,
            function: nil,
            args: [],
            version_module: nil,
            version_function: nil,
            version_args: [],
            push_token: nil

  @doc """
  Reads a map or keyword list with atom or string keys.

  Values are kept as they are, unknown keys ignored, missing lists are `[]`. The entries of
  `fun_configs` must be `%PhoenixGenApi.Structs.FunConfig{}`; `validate_with_details/1` tells.
  """
  @spec from_map(map() | keyword()) :: t()
  def from_map(data), do: FieldMap.read(%__MODULE__{nodes: [], fun_configs: []}, data)

  @doc false
  # A push that another version of the library made, with the fields of this one.
  @spec complete(t()) :: t()
  def complete(%__MODULE__{} = config), do: FieldMap.complete(config)

  @doc "The pull part, if `module` and `function` are set, otherwise `nil`."
  @spec to_service_config(t()) :: ServiceConfig.t() | nil
  def to_service_config(%__MODULE__{} = config) do
    case FieldMap.complete(config) do
      %{module: module, function: function} when module == nil or function == nil -> nil
      config -> service_config(config)
    end
  end

  defp service_config(config) do
    %ServiceConfig{
      service: config.service,
      nodes: config.nodes,
      module: config.module,
      function: config.function,
      args: config.args,
      version_module: config.version_module,
      version_function: config.version_function,
      version_args: config.version_args
    }
  end

  @doc "Whether `validate_with_details/1` finds nothing wrong."
  @spec valid?(t()) :: boolean()
  def valid?(%__MODULE__{} = config), do: match?({:ok, _config}, validate_with_details(config))

  @doc false
  # What `nodes: :service` stands for in what a node pushes: that node. Others join with the same push.
  @spec on_node(t(), node()) :: t()
  def on_node(%__MODULE__{nodes: nodes, fun_configs: functions} = push, node) do
    nodes = if nodes == :service, do: [node], else: nodes

    functions =
      if is_list(functions) and not List.improper?(functions),
        do: Enum.map(functions, &function_on(&1, nodes)),
        else: functions

    %{push | nodes: nodes, fun_configs: functions}
  end

  defp function_on(%FunConfig{nodes: :service} = config, nodes), do: %{config | nodes: nodes}
  defp function_on(other, _nodes), do: other

  @doc """
  The config as given, or everything that is wrong with it, in this order:

    * `service must not be nil`, or `service must be an atom or a non-empty string`, or `service must
      have at most 8192 bytes`
    * `nodes must be a non-empty list of atoms or strings`
    * `config_version must be a non-empty string`, or `config_version must have at most 8192 bytes`
    * `fun_configs must be a non-empty list of FunConfig structs`
    * `all fun_configs must have the same service name as the push config` (an atom equals its string)
    * `all fun_configs must have valid versions` (`nil` or a non-empty string)

  The function configs themselves are validated by the gateway, or with
  `PhoenixGenApi.Structs.FunConfig.validate_with_details/1`.
  """
  @spec validate_with_details(t()) :: {:ok, t()} | {:error, [String.t()]}
  def validate_with_details(%__MODULE__{} = given) do
    config = FieldMap.complete(given)

    checks = [
      service_error(config.service),
      if(not nodes?(config.nodes), do: "nodes must be a non-empty list of atoms or strings"),
      version_error(config.config_version)
      | fun_config_errors(config.fun_configs, config.service)
    ]

    case Enum.reject(checks, &is_nil/1) do
      [] -> {:ok, given}
      errors -> {:error, errors}
    end
  end

  defp service_error(nil), do: "service must not be nil"
  defp service_error(service) when is_atom(service), do: nil

  defp service_error(service) do
    if text?(service),
      do: too_long("service", service),
      else: "service must be an atom or a non-empty string"
  end

  defp version_error(version) do
    if text?(version),
      do: too_long("config_version", version),
      else: "config_version must be a non-empty string"
  end

  # Gateways keep both for as long as they remember the push.
  defp too_long(field, text),
    do: if(byte_size(text) > @max_bytes, do: "#{field} must have at most #{@max_bytes} bytes")

  defp nodes?(:service), do: true
  defp nodes?(nodes), do: every?(nodes, &((is_atom(&1) and &1 != nil) or text?(&1)))

  defp fun_config_errors(fun_configs, service) do
    if every?(fun_configs, &is_struct(&1, FunConfig)) do
      fun_configs = Enum.map(fun_configs, &FunConfig.complete/1)

      [
        if(not Enum.all?(fun_configs, &same_name?(&1.service, service)),
          do: "all fun_configs must have the same service name as the push config"
        ),
        if(not Enum.all?(fun_configs, &(&1.version == nil or text?(&1.version))),
          do: "all fun_configs must have valid versions"
        )
      ]
    else
      ["fun_configs must be a non-empty list of FunConfig structs"]
    end
  end

  defp same_name?(name, name), do: true
  defp same_name?(a, b) when is_atom(a) and is_binary(b), do: Atom.to_string(a) == b
  defp same_name?(a, b) when is_binary(a) and is_atom(b), do: a == Atom.to_string(b)
  defp same_name?(_a, _b), do: false

  # Also false for an improper list: this comes from another node.
  defp every?([item], check), do: check.(item)
  defp every?([item | rest], check), do: check.(item) and every?(rest, check)
  defp every?(_empty_or_improper, _check), do: false

  defp text?(value), do: is_binary(value) and value != "" and String.valid?(value)
end
