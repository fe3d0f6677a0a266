defmodule PhoenixGenApi.Service do
  @moduledoc """
  Declares functions for gateways where they are defined.

      defmodule Shop.Prices do
        use PhoenixGenApi.Service, service: "shop", check_permission: :any_authenticated

        @doc "The price of a number of items."
        @api version: "1.0.0"
        @spec price(item :: String.t(), quantity :: 1..99) :: {:ok, %{item: String.t(), total: integer()}}
        def price(item, quantity), do: {:ok, %{item: item, total: quantity * 5}}
      end

  Without it, a function and its `PhoenixGenApi.Structs.FunConfig` are written in two places, and a mistake in
  the second shows on the gateway, or with the first request. Here the config is made from the function when
  the module is compiled, and each mistake is a compile error that says what to write instead.

  `__gen_api__/0` returns the function configs in the order in which they are declared:

      Shop.Prices.__gen_api__()
      #=> [%FunConfig{service: "shop", request_type: "price", mfa: {Shop.Prices, :price, []}, ...}]

  Add them on a gateway with `PhoenixGenApi.ConfigDb.batch_add/1`, or push them with
  `PhoenixGenApi.ConfigPusher`. They have `nodes: :service`, the nodes that offer the service. No node can
  offer one yet: until then set `nodes` in the `use`, for example `nodes: :local` on the gateway itself.

  ## Options

  `@api` takes the fields of `PhoenixGenApi.Structs.FunConfig` apart from `mfa`, and `use` takes the same
  ones as defaults for the module. `@api true` declares a function with these defaults alone. Several
  `@api` before one function declare several versions of it, or names for it.

  | Field | Unless given |
  |---|---|
  | `request_type` | the name of the function |
  | `doc` | the first paragraph of its `@doc` |
  | `nodes` | `:service` |
  | `arg_types`, `request_info` | from the function's `@spec`, see below; `request_info` only where `arg_types` is not given |
  | `result` | from the `@spec`, of `:sync` and `:async` functions: the type in `{:ok, type}`, or the plain return type, errors apart; `nil` if it is none of the types below |
  | all others | as in `PhoenixGenApi.Structs.FunConfig` |

  A function with default arguments (`\\\\`) is called with all of its arguments. Optional arguments of a request
  are those with a `default_value` or `allow_nil?: true` in `arg_types`.

  ## Types from specs

  Without `arg_types` the function needs exactly one `@spec`. An argument has the name that the spec gives it
  (`item :: String.t()`), otherwise that of the variable in the function head.

  | In the spec | Type |
  |---|---|
  | `String.t()`, `binary()` | `:string` |
  | `integer()` | `:integer` |
  | `pos_integer()`, `non_neg_integer()`, `1..9` | `:integer` with `min` and `max` |
  | `float()`, `number()`, `boolean()` | `:float`, `:num`, `:boolean` |
  | `:en \\| :vi` | `{:enum, [:en, :vi]}` |
  | `[type]`, `list(type)` | `{:list, type}` |
  | `map()` | `:map` |
  | `%{name: String.t(), age: integer()}` | `{:map, %{"name" => :string, "age" => :integer}}`; the keys of the map that the function gets are strings |
  | `Date.t()`, `Time.t()`, `DateTime.t()`, `NaiveDateTime.t()` | `:date`, `:time`, `:datetime`, `:naive_datetime` |
  | `type \\| nil` | the type with `allow_nil?: true` |
  | a `@type` of the module, without parameters | what it stands for |
  | `Request.t()` or `StreamHelper.t()` as the last argument | `request_info: true` |

  These are limited only by the defaults of `PhoenixGenApi.ArgumentHandler`, so a string has at most 3,000
  characters. Write `arg_types` where a limit should be tighter. Any other type, a spec with `when`, and several
  specs are compile errors that print the `arg_types:` line to write:

      lib/shop/prices.ex:12: find/2: cannot take the type of lang from Shop.lang(); write arg_types:
      [isbn: :string, lang: :any], with a type for each :any

  ## What is checked

  All that `PhoenixGenApi.Structs.FunConfig.validate_with_details/1` checks, options and type options that do not
  exist, that the function is public and takes as many arguments as it would be called with, and that no
  two functions of the module have the same service, request type and version. A gateway checks again what
  depends on it, such as `:mfa_allowlist`.
  """

  @doc """
  Makes `@api` available in a module.

      use PhoenixGenApi.Service, service: "shop", timeout: 2_000

  The options are fields of `PhoenixGenApi.Structs.FunConfig` and hold for every function of the module
  that does not set them itself.
  """
  defmacro __using__(defaults) do
    quote do
      PhoenixGenApi.Service.Declaration.open(__ENV__, unquote(defaults))
      @on_definition {PhoenixGenApi.Service.Declaration, :collect}
      @before_compile PhoenixGenApi.Service.Declaration
    end
  end
end
