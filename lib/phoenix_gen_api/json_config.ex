defmodule PhoenixGenApi.JsonConfig do
  @moduledoc """
  Exports ready-to-send sample messages of the registered functions, for a test client.

      iex> alias PhoenixGenApi.JsonConfig
      iex> alias PhoenixGenApi.Structs.FunConfig
      iex> JsonConfig.export_single(%FunConfig{
      ...>   service: "books", request_type: "find", version: "1.0.0",
      ...>   arg_types: [{"isbn", :string}, {"lang", [type: :enum, values: ["en", "vi"], default_value: "en"]}]
      ...> })
      {"find - find",
       %{
         "event" => "phoenix_gen_api",
         "data" => %{
           "user_id" => "user_1",
           "device_id" => "device_1",
           "request_type" => "find",
           "request_id" => "request_1",
           "service" => "books",
           "version" => "1.0.0",
           "args" => %{"isbn" => "", "lang" => "en"}
         }
       }}

  It only exports. Of the functions that `PhoenixGenApi.Contract` describes it takes the version that a request
  without a version gets; disabled functions are not among them.

  ## Options

  | Option | Default | |
  |---|---|---|
  | `format` | `:structs` | `:structs`: list of the `FunConfig`s; `:map`: `%{key => value}`; `:json`: that map as a JSON string; `{module, function, args}`: what `apply(module, function, [map \\| args])` returns |
  | `descriptions` | the request type | map request type → text, or a function of the config; nil is the default |
  | `arg_values` | none | map request type → `%{name => value}`, or a function of the config that returns such a map; an argument that has no value there is its `default_value`, as JSON has it, otherwise `""` |
  | `user_id`, `device_id`, `request_id` | `"user_1"`, `"device_1"`, `"request_1"` | what every message carries |
  | `event` | `"phoenix_gen_api"` | the event of the channel |

  The key of a message is `"<request type> - <description>"`; where two services come to the same
  one, both get ` (<service>)` appended. Services, and the functions of each, come in ascending
  order.

  `export_single/2` works everywhere. The others read the table of the gateway and raise
  `RuntimeError` where none runs. An unknown option, and a format that is none, raise
  `ArgumentError`.
  """

  alias PhoenixGenApi.ArgumentHandler.TypeParser
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Contract.JsonSchema
  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.FunConfig

  @options [
    format: :structs,
    descriptions: %{},
    arg_values: %{},
    user_id: "user_1",
    device_id: "device_1",
    request_id: "request_1",
    event: "phoenix_gen_api"
  ]

  @type service :: String.t() | atom()
  @type message :: %{String.t() => term()}
  @type option ::
          {:format, :structs | :map | :json | {module(), atom(), [term()]}}
          | {:descriptions, %{String.t() => String.t()} | (FunConfig.t() -> String.t() | nil)}
          | {:arg_values, %{String.t() => map()} | (FunConfig.t() -> map() | nil)}
          | {:user_id | :device_id | :request_id | :event, String.t()}

  @doc "The messages of a service, or of several. A service that is not registered has none."
  @spec generate(service() | [service()], [option()]) ::
          [FunConfig.t()] | %{String.t() => message()} | String.t() | term()
  def generate(services, opts \\ []) do
    opts = Keyword.validate!(opts, @options)
    services |> configs() |> format(opts[:format], opts)
  end

  @doc "The same for one service."
  @spec export_service(service(), [option()]) ::
          [FunConfig.t()] | %{String.t() => message()} | String.t() | term()
  def export_service(service, opts \\ []), do: generate([service], opts)

  @doc "The same for all services."
  @spec export_all([option()]) ::
          [FunConfig.t()] | %{String.t() => message()} | String.t() | term()
  def export_all(opts \\ []), do: generate(ConfigDb.get_all_services(), opts)

  @doc "The key and the message of one config, stored or not; `:format` says nothing here."
  @spec export_single(FunConfig.t(), [option()]) :: {String.t(), message()}
  def export_single(%FunConfig{} = config, opts \\ []) do
    opts = Keyword.validate!(opts, @options)
    config = FunConfig.complete(config)
    {key(config, opts), message(config, opts)}
  end

  # What clients are told there is, in the version that they get if they name none.
  defp configs(services) do
    %{"services" => described} = Contract.describe(service: services)

    for %{"service" => service, "functions" => functions} <- described,
        %{"request_type" => type, "default_version" => version} <- functions,
        {:ok, config} <- [ConfigDb.get(service, type, version)],
        do: config
  end

  defp format(configs, :structs, _opts), do: configs
  defp format(configs, :map, opts), do: messages(configs, opts)

  defp format(configs, :json, opts),
    do: configs |> messages(opts) |> JSON.encode!(JsonEncoding.encoder())

  defp format(configs, {module, function, args}, opts)
       when is_atom(module) and is_atom(function) and is_list(args),
       do: apply(module, function, [messages(configs, opts) | args])

  defp format(_configs, other, _opts),
    do: raise(ArgumentError, "invalid format: #{SafeInspect.inspect(other)}")

  defp messages(configs, opts) do
    keyed = Enum.map(configs, &{key(&1, opts), &1})
    times = Enum.frequencies_by(keyed, &elem(&1, 0))

    Map.new(keyed, fn {key, config} ->
      {if(times[key] > 1, do: "#{key} (#{config.service})", else: key), message(config, opts)}
    end)
  end

  defp key(%{request_type: type} = config, opts),
    do: "#{type} - #{given(opts[:descriptions], config) || type}"

  defp message(config, opts) do
    %{
      "event" => opts[:event],
      "data" => %{
        "user_id" => opts[:user_id],
        "device_id" => opts[:device_id],
        "request_type" => config.request_type,
        "request_id" => opts[:request_id],
        "service" => to_string(config.service),
        "version" => FunConfig.version(config),
        "args" => args(config, given(opts[:arg_values], config) || %{})
      }
    }
  end

  defp given(fun, config) when is_function(fun, 1), do: fun.(config)
  defp given(map, %{request_type: type}) when is_map(map), do: map[type]

  # The defaults are those of the schema that clients get. Arguments that have none can still be named.
  defp args(config, values) do
    schemas =
      case JsonSchema.of_arguments(config.arg_types, :map) do
        {:ok, %{"properties" => schemas}} ->
          schemas

        {:error, _sentence} ->
          Map.new(config.arg_types, fn {name, _type} -> {TypeParser.name(name), %{}} end)
      end

    Map.new(schemas, fn {name, schema} ->
      {name, Map.get_lazy(values, name, fn -> Map.get(schema, "default", "") end)}
    end)
  end
end
