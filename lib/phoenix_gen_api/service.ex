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

  A node offers them from its supervision tree, as the last child of the application that starts last:

      children = [
        ...,
        {PhoenixGenApi.Service, apis: [Shop.Prices]}
      ]

  Every gateway of the connected cluster then has the functions, and sends their requests to the nodes that
  offer them at that moment. There is no list of nodes, no version to maintain and no start order to respect.

  ## Offering

  An offer is known by the hash of its content. A gateway fetches the content of a hash that it does not know,
  once for all nodes that offer it, checks it as it checks a push, and adds the node to the candidates. It
  takes the node out as soon as that stops, or the connection is lost.

  `PhoenixGenApi.Structs.FunConfig` with `nodes: :service` has as candidates the nodes that offer this very
  function. All modes of `choose_node_mode` work with it.

  | When | The function |
  |---|---|
  | a node offers it | is called there, among others |
  | its last node has left | is `unavailable`, for `config :phoenix_gen_api, :service, forget_ms` (an hour); then it is forgotten |
  | every node that offered it offers the service without it | is forgotten at once |
  | nodes offer different definitions of it | see *Rolling deployments* |

  Requests that name no version get the unversioned function or the highest version among those that at
  least half of the service's nodes offer.

  ## Options of the child

    * `:apis` - modules with `use PhoenixGenApi.Service`
    * `:functions` - `FunConfig` structs made otherwise, `[]`
    * `:gateways` - `:auto`, every gateway of the cluster, or a list of nodes; those are connected, and
      no others are served
    * `:drain_ms` - how long a stop waits for calls that run, 5,000
    * `:watch` - for development: looks for recompiled modules twice a second and offers them anew, `false`
    * `:name` - of the process

  A child does not start if a function is invalid or does not exist: `{:invalid_functions, sentences}`,
  `{:undefined_functions, ["Shop.Prices.price/2"]}`.

  ## The clean stop

  When the child is stopped, as it is by a SIGTERM, it first leaves the candidates of every gateway and waits
  for their confirmation, a second at most. A call that arrives all the same is answered with *not started*,
  and its gateway takes the next candidate. Then the child waits until no call of a gateway runs any more on this
  node, `drain_ms` at most; longer calls and streams end with `unavailable`. So no request fails that another node
  can serve, and no call is cut that ends in time.

  This holds if the child is the last one of the application that starts last: it stops first, while
  everything that its functions need is there. The child has `drain_ms` + 2,000 ms to stop; whatever stops
  the node, a Kubernetes grace period for example, has to wait at least that long.

  ## Rolling deployments

  While nodes offer different definitions of a function, a gateway chooses among all of them, by the
  `choose_node_mode` of the most common definition. The definition of the chosen node then authorises
  and validates the request and names the function, and retries stay among the nodes that have it. So each node gets
  only requests that it accepts itself. The log says once which functions differ.

  A change that callers notice belongs in a new `version`.

  ## Who may offer

  Offers pass the gates of a push (`PhoenixGenApi.ConfigReceiver`), and more:

    * With `config :phoenix_gen_api, :push_token` on the gateway, each node has to prove that it has the same
      token. The token itself is not sent: the gateway sends a random number, and the node answers with its
      HMAC-SHA-256 under the token, over the hash of the content and the name of the node.
    * `config :phoenix_gen_api, :service, accept: [:"billing@10.0.0.7", "shop@*"]` lists the nodes that may
      offer, `:any` by default.
    * Hooks, node functions and mode functions run on the gateway: from another node they have to be in its
      `:mfa_allowlist`.
    * Hidden nodes do not offer.

  What a gateway refuses it logs with the reasons, as does the node that offers it. `await/2` returns them.

  While a node offers a service, pushes of it are answered `{:ok, :skipped, :offered}` and what is pulled of it is left
  alone.

  ## Options

  `@api` takes the fields of `PhoenixGenApi.Structs.FunConfig` apart from `mfa`, and `use` takes the same
  ones as defaults for the module. `@api true` declares a function with these defaults alone. Several
  `@api` before one function declare several versions of it, or names for it.

  | Field | Unless given |
  |---|---|
  | `request_type` | the name of the function |
  | `doc` | the first paragraph of its `@doc`; none in a module with `@moduledoc false` |
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

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Offers
  alias PhoenixGenApi.Service.{Offer, Scope}
  alias PhoenixGenApi.Structs.FunConfig

  @options [:name, apis: [], functions: [], gateways: :auto, drain_ms: 5_000, watch: false]
  # How often `await/2` looks for a process that offers the service.
  @look_ms 20

  @type service :: String.t() | atom()

  @typedoc "Why a gateway does not have what this node offers; `:timeout` if it has said nothing."
  @type reason :: {:refused, [String.t()]} | :timeout

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

  @doc "A supervisor's child, see above. Put it last."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    drain_ms = Keyword.get(opts, :drain_ms, @options[:drain_ms])
    shutdown = if is_integer(drain_ms), do: Offer.shutdown_ms(drain_ms), else: 5_000
    id = {__MODULE__, opts[:name] || Keyword.get(opts, :apis, [])}
    %{id: id, start: {__MODULE__, :start_link, [opts]}, shutdown: shutdown}
  end

  @doc """
  Starts offering, see above. Raises `ArgumentError` on wrong options.

  With neither modules nor functions there is nothing to offer, and it returns `:ignore`.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts) do
    opts = Keyword.validate!(opts, @options)
    check!(opts)
    {options, opts} = Keyword.split(opts, [:name])

    if opts[:apis] == [] and opts[:functions] == [],
      do: :ignore,
      else: opts |> Map.new() |> Offer.start_link(options)
  end

  defp check!(opts) do
    for api <- opts[:apis], not declares?(api) do
      raise ArgumentError, "#{inspect(api)} has no `use PhoenixGenApi.Service`"
    end

    expect!(Enum.all?(opts[:functions], &is_struct(&1, FunConfig)), "functions: [%FunConfig{}]")
    expect!(is_integer(opts[:drain_ms]) and opts[:drain_ms] >= 0, "drain_ms: milliseconds")
    expect!(is_boolean(opts[:watch]), "watch: true or false")

    expect!(
      opts[:gateways] == :auto or
        (is_list(opts[:gateways]) and Enum.all?(opts[:gateways], &is_atom/1)),
      "gateways: :auto or [node]"
    )
  end

  defp declares?(api),
    do: is_atom(api) and Code.ensure_loaded?(api) and function_exported?(api, :__gen_api__, 0)

  defp expect!(true, _option), do: :ok
  defp expect!(false, option), do: raise(ArgumentError, "expected " <> option)

  @doc """
  Waits until every gateway has what this node offers of a service, for `timeout` milliseconds at most.

  Returns `{:error, :no_gateway}` if none was there, or the gateways that do not have it, with the reasons:
  `{:error, %{node => {:refused, sentences} | :timeout}}`.
  """
  @spec await(service(), non_neg_integer()) ::
          :ok | {:error, :no_gateway | %{node() => reason()}}
  def await(service, timeout \\ 5_000) do
    deadline = System.monotonic_time(:millisecond) + timeout
    service |> to_string() |> await_until(deadline)
  end

  defp await_until(service, deadline) do
    left = max(deadline - System.monotonic_time(:millisecond), 0)

    case Scope.local(service) do
      [] when left == 0 ->
        {:error, :no_gateway}

      [] ->
        Process.sleep(min(@look_ms, left))
        await_until(service, deadline)

      pids ->
        pids |> Enum.map(&Offer.await(&1, service, left)) |> Enum.reduce(&worse/2)
    end
  end

  defp worse({:error, reasons}, {:error, others}) when is_map(reasons) and is_map(others),
    do: {:error, Map.merge(others, reasons)}

  defp worse(:ok, answer), do: answer
  defp worse(error, _answer), do: error

  @doc """
  The nodes of a service, as this gateway sees them.

      PhoenixGenApi.Service.nodes("shop")
      #=> %{:"shop@10.0.0.7" => %{version: "9f86d081", functions: 12, since: ~U[2026-01-01 00:00:00Z], state: :up}}

  `version` is the first part of the content's hash. A node that stops is `:draining` until its last call has ended.
  """
  @spec nodes(service()) :: %{
          node() => %{
            version: String.t(),
            functions: non_neg_integer(),
            since: DateTime.t(),
            state: :up | :draining
          }
        }
  def nodes(service) do
    Gateway.handle!(:config_db)
    service |> to_string() |> Offers.nodes()
  end
end
