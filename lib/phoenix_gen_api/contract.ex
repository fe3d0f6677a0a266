defmodule PhoenixGenApi.Contract do
  @moduledoc """
  The functions of a gateway as data: for documents, clients, consoles, and checks of what a change breaks.

      iex> alias PhoenixGenApi.Contract
      iex> alias PhoenixGenApi.Structs.FunConfig
      iex> price = %FunConfig{
      ...>   service: "shop",
      ...>   request_type: "price",
      ...>   version: "1.0.0",
      ...>   nodes: :local,
      ...>   mfa: {Shop.Prices, :price, []},
      ...>   arg_types: [{"item", {:string, 40}}, {"quantity", [type: :integer, min: 1, max: 99, default_value: 1]}],
      ...>   result: {:map, %{"item" => :string, "total" => :integer}},
      ...>   check_permission: {:role, ["buyer"]},
      ...>   doc: "The price of a number of items."
      ...> }
      iex> Contract.describe(functions: [price])
      %{
        "phoenix_gen_api" => "1",
        "services" => [
          %{
            "service" => "shop",
            "functions" => [
              %{
                "request_type" => "price",
                "default_version" => "1.0.0",
                "versions" => [
                  %{
                    "version" => "1.0.0",
                    "args" => %{
                      "type" => "object",
                      "properties" => %{
                        "item" => %{"type" => "string", "maxLength" => 40},
                        "quantity" => %{"type" => "integer", "minimum" => 1, "maximum" => 99, "default" => 1}
                      },
                      "required" => ["item"],
                      "additionalProperties" => false,
                      "x-order" => ["item", "quantity"]
                    },
                    "result" => %{
                      "type" => "object",
                      "properties" => %{
                        "item" => %{"type" => "string", "maxLength" => 3000},
                        "total" => %{"type" => "integer"}
                      },
                      "required" => ["item", "total"],
                      "additionalProperties" => false,
                      "x-order" => ["item", "total"]
                    },
                    "response_type" => "sync",
                    "permission" => %{"kind" => "roles", "roles" => ["buyer"]},
                    "deprecated" => false,
                    "doc" => "The price of a number of items.",
                    "tags" => [],
                    "idempotent" => false,
                    "timeout_ms" => 5000
                  }
                ]
              }
            ]
          }
        ]
      }

  ## The description

  All of its keys are always there. It holds nothing but maps with string keys, lists, strings, numbers,
  booleans and `nil`, so any JSON library writes it as it is. Services and functions are in ascending order of
  their names, versions in that of `PhoenixGenApi.ConfigDb`: two descriptions of the same functions are equal.

  | Of a function | |
  |---|---|
  | `request_type` | its name within the service |
  | `default_version` | the version that a request without one gets; `nil` if the caller may not call that |
  | `versions` | every enabled version, ascending |

  | Of a version | |
  |---|---|
  | `version` | `"0.0.0"` if the function has none |
  | `args` | the schema of the arguments, always an object with `properties`, `required` and `x-order` |
  | `result` | the schema of the result, of a stream that of an item; `nil` if it is not described |
  | `response_type` | `"sync"`, `"async"`, `"stream"`, `"none"` |
  | `permission` | `%{"kind" => "public"}`, `%{"kind" => "authenticated"}`, `%{"kind" => "roles", "roles" => [role]}`, `%{"kind" => "owner", "arg" => name}` (the argument has to be the caller's user id), or `%{"kind" => "custom"}` (a callback) |
  | `deprecated` | `false`, `true`, or a sentence |
  | `doc` | text, or `nil` |
  | `tags` | list of strings |
  | `idempotent` | whether calling it twice does no harm |
  | `timeout_ms` | of each attempt, in milliseconds; `nil` for none |

  Disabled functions are left out, and so are the service `gen_api`, nodes, and the names of Elixir modules and
  functions.

  ## For clients

  With `config :phoenix_gen_api, :describe` set, every client can ask the gateway for what it may call, as it asks
  for anything else: service `gen_api`, request type `describe`, with the name of a service as the optional
  argument `service`. `:public` answers everyone, `:any_authenticated` every user, `false` (the default) nobody.
  The result is `describe(as: request)`. Rate limits hold for it as for every function.

  The service name `gen_api` is reserved: function configs of that name are invalid.

  ## Schemas

  Types are written in JSON Schema 2020-12. Limits that a type does not name are there with their defaults. An
  argument or field is in `required` if it has neither `default_value` nor `allow_nil?`; the first is its
  `default`, the second adds `"null"` to its `type`, or `nil` to its `enum`.

  | Type | Schema |
  |---|---|
  | `:string` | `string` with `maxLength`, `minLength`, `pattern` |
  | `:num`, `:float`, `:integer` | `number`, `number`, `integer` with `minimum`, `maximum` |
  | `:boolean` | `boolean` |
  | `{:enum, values}` | `enum`, atoms as strings |
  | `:uuid`, `:datetime`, `:date` | `string` with `format` `uuid`, `date-time`, `date`, and a `pattern` |
  | `:naive_datetime`, `:time` | `string` with `x-format` `naive-datetime`, `time`, and a `pattern` |
  | lists | `array` with `items`, `maxItems`, `minItems` |
  | `{:map, fields}` | `object` with `properties`, `required`, `x-order`, and `additionalProperties: false` |
  | `:map`, `{:map, n}` | `object` with `maxProperties`; a flat one also with `additionalProperties`, `required`, `propertyNames` |
  | `:any` | every type but `null` |

  JSON objects have no order: `x-order` lists the names of the `properties` in that of the declaration. What
  JSON Schema cannot say stands beside it, and validators ignore it: `x-max-bytes`, and `x-pattern` with
  `x-flags` for a `format` that has no counterpart among the patterns of JSON Schema. The guide *Versions and
  rollout* lists where a validator accepts what the gateway refuses; it refuses nothing that the gateway accepts.
  """

  alias PhoenixGenApi.Contract.{Comparison, Description, JsonSchema, OpenApi}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @format "1"
  @choice [:service, :as, :functions, visible: false]
  @openapi [
    :description,
    title: "API",
    version: "1.0.0",
    servers: [],
    public: false,
    statuses: %{}
  ]

  @typedoc "A description, as above."
  @type t :: %{String.t() => term()}

  @type option ::
          {:service, String.t() | atom() | [String.t() | atom()]}
          | {:as, Request.t()}
          | {:visible, boolean()}
          | {:functions, [FunConfig.t()]}

  @type openapi_option ::
          {:description, t()}
          | {:title | :version, String.t()}
          | {:servers, [String.t()]}
          | {:public, boolean()}
          | {:statuses, %{String.t() => pos_integer()}}

  @doc """
  Describes the functions of this gateway.

  | Option | Default | |
  |---|---|---|
  | `:service` | all | a service, or several |
  | `:as` | – | a `PhoenixGenApi.Structs.Request`: only what it may call, going by its `user_id` and `user_roles`; what belongs to a user (`{:arg, name}`) is there for every user |
  | `:visible` | `false` | with `:as`: functions with a `permission_callback`, too. Callbacks are not run, so it is not known whether it may call them |
  | `:functions` | those of the gateway | function configs to describe instead; raises `ArgumentError` if one is invalid |

  The description is kept until a function is added, changed, removed, disabled or enabled. To make one of 1,000
  functions takes some milliseconds, and none of it is paid for by requests. The defaults of limits are those in
  force when it is made. Without `:functions` it raises `RuntimeError` where no gateway runs.
  """
  @spec describe([option()]) :: t()
  def describe(opts \\ []),
    do: %{"phoenix_gen_api" => @format, "services" => chosen(Keyword.validate!(opts, @choice))}

  defp chosen(opts) do
    opts[:functions]
    |> services()
    |> of(opts[:service])
    |> permitted(opts[:as], opts[:visible])
  end

  defp services(nil), do: Description.services()
  defp services(configs), do: Description.services(configs)

  defp of(services, nil), do: services

  defp of(services, wanted) do
    wanted = wanted |> List.wrap() |> Enum.map(&to_string/1)
    Enum.filter(services, &(&1["service"] in wanted))
  end

  defp permitted(services, nil, _visible?), do: services

  defp permitted(services, %Request{} = request, visible?),
    do: Description.permitted(services, Request.complete(request), visible?)

  @doc """
  An OpenAPI 3.1 document of the functions as they are called over HTTP.

  Each function is an operation `POST /service/request_type`. Its schemas, texts and permission are those of the
  version that is served by default; other versions are asked for with the header `accept-version`. Failures are
  under their statuses. A stream is a stream of server-sent events or of lines of JSON.

  Takes the options of `describe/1`, and:

  | Option | Default | |
  |---|---|---|
  | `:description` | – | a description to go by instead of describing the functions |
  | `:title`, `:version` | `"API"`, `"1.0.0"` | of the API, not of a function |
  | `:servers` | `[]` | URLs that the paths are relative to, such as `["https://example.com/gen_api"]` |
  | `:public` | `false` | whether callers without an identity are admitted |
  | `:statuses` | `%{}` | statuses of the functions' own codes, such as `%{"sold_out" => 409}` |
  """
  @spec openapi([option() | openapi_option()]) :: %{String.t() => term()}
  def openapi(opts \\ []) do
    opts = Keyword.validate!(opts, @choice ++ @openapi)
    {choice, opts} = Keyword.split(opts, [:service, :as, :functions, :visible])
    services = if opts[:description], do: services_of(opts[:description]), else: chosen(choice)
    OpenApi.document(services, opts)
  end

  @typedoc "A change, as `compare/2` tells it; the path is that of the argument or the field, or `\"\"`."
  @type change :: %{
          change: atom(),
          severity: :breaking | :compatible,
          function: String.t(),
          path: String.t(),
          message: String.t()
        }

  @doc """
  What has changed from one description to another, and whether it breaks clients that were written for the
  first.

      iex> alias PhoenixGenApi.Contract
      iex> alias PhoenixGenApi.Structs.FunConfig
      iex> find = fn types ->
      ...>   Contract.describe(functions: [
      ...>     %FunConfig{service: "books", request_type: "find", version: "1.0.0", nodes: :local, mfa: {Books, :find, []}, arg_types: types}
      ...>   ])
      ...> end
      iex> Contract.compare(find.([{"isbn", {:string, 13}}]), find.([{"isbn", {:string, 10}}]))
      [
        %{
          change: :argument_narrowed,
          severity: :breaking,
          function: "books find 1.0.0",
          path: "isbn",
          message: "books find 1.0.0: argument isbn has a maximum length of 10 instead of 13"
        }
      ]

  Descriptions may come from JSON, such as a file that `mix phoenix_gen_api.contract` has written. Arguments
  break by becoming narrower, results by becoming wider. The guide *Versions and rollout* lists all changes.
  Texts, tags and timeouts are not compared.

  Raises `ArgumentError` for what is no description.
  """
  @spec compare(t(), t()) :: [change()]
  def compare(old, new), do: Comparison.compare(services_of(old), services_of(new))

  defp services_of(%{"phoenix_gen_api" => @format, "services" => services})
       when is_list(services),
       do: services

  defp services_of(_other),
    do:
      raise(
        ArgumentError,
        "no description of version #{@format}, see PhoenixGenApi.Contract.describe/1"
      )

  @doc """
  The JSON Schema of a type, in one of the spellings of `PhoenixGenApi.ArgumentHandler`.

      iex> PhoenixGenApi.Contract.json_schema({:list, {:string, 40}, max_items: 3})
      %{"type" => "array", "maxItems" => 3, "items" => %{"type" => "string", "maxLength" => 40}}

  Raises `ArgumentError` for what is no type.
  """
  @spec json_schema(term()) :: %{String.t() => term()}
  def json_schema(type) do
    case JsonSchema.of_type(type) do
      {:ok, schema} ->
        schema

      {:error, "arg_types has an " <> sentence} ->
        raise ArgumentError, "no schema: " <> sentence

      {:error, sentence} ->
        raise ArgumentError, "no schema: " <> sentence
    end
  end
end
