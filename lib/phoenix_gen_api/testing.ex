defmodule PhoenixGenApi.Testing do
  @moduledoc """
  Helps to test what uses this library: services, channels and HTTP, each test with functions of its own.

      defmodule Shop.CheckoutTest do
        use ExUnit.Case, async: true
        import PhoenixGenApi.Testing

        setup do
          %{shop: service("shop", apis: [Shop.Prices])}
        end

        test "asks for the price", %{shop: shop} do
          stub(shop, "price", {:ok, %{item: "tea", total: 15}})

          assert %{success: true} = call(shop, "price", %{"item" => "tea", "quantity" => 3}, user_id: "ann")
          assert_called(shop, "price", %{"item" => "tea"})
        end
      end

  `service/2` gives a test a service with a name of its own, so that tests run beside each other though there
  is one table of functions. `stub/4` replaces a function, or adds one. Requests of every kind (`call/4`,
  a channel, HTTP) then reach the stub through the whole pipeline: limits, permissions, validation
  of the arguments.

  Everything that a process has made is taken away when it ends, and what was there before is put back. A test
  need not clean up; `reset/0` does it earlier.

  It needs a gateway on the node of the tests. An application that is a service node, with
  `config :phoenix_gen_api, :client_mode, true`, sets that to `false` in `config/test.exs`.

  The guide *Testing* has recipes.
  """

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response, StreamHelper}
  alias PhoenixGenApi.Testing.Stubs

  # Where stubs are, ExUnit is.
  @compile {:no_warn_undefined, ExUnit.AssertionError}

  @typedoc "A call of a stub: its arguments after validation, by name, and who sent the request."
  @type call :: %{
          args: %{String.t() => term()},
          user_id: String.t() | nil,
          request_id: String.t() | nil
        }

  @doc """
  Gives the calling test a service of its own and returns its name: `"shop"` becomes `"shop-4711"`.

  Options:

    * `:apis` - modules with `use PhoenixGenApi.Service`, whose functions of the service `name` it has. They run on
      this node, and keep everything else that is declared about them.
    * `:functions` - `FunConfig` structs, whose `service` is replaced

  Raises `ArgumentError` if a function is invalid, or if no gateway runs.
  """
  @spec service(String.t() | atom(), apis: [module()], functions: [FunConfig.t()]) :: String.t()
  def service(name \\ "service", opts \\ []) do
    opts = Keyword.validate!(opts, apis: [], functions: [])
    own = "#{name}-#{System.unique_integer([:positive])}"

    declared =
      for api <- opts[:apis], config <- api.__gen_api__(), named?(config, name), do: config

    if opts[:apis] != [] and declared == [],
      do: raise(ArgumentError, no_functions(opts[:apis], name))

    for config <- declared ++ opts[:functions],
        do: put!(%{FunConfig.complete(config) | service: own, nodes: :local}, :real)

    own
  end

  defp named?(config, name), do: to_string(config.service) == to_string(name)

  defp no_functions(apis, name) do
    services =
      for api <- apis, config <- api.__gen_api__(), uniq: true, do: to_string(config.service)

    "#{inspect(apis)} have no functions of #{inspect(name)}, but of #{inspect(services)}"
  end

  @doc """
  Answers requests for a function with `answer` until the calling test ends.

  `answer` is what the function returns (`{:ok, value}`, a value, a `PhoenixGenApi.Structs.Response`, for a
  stream an enumerable), or a function that gets what the real one gets:

      stub(shop, "price", fn item, quantity -> {:ok, %{item: item, total: quantity * 5}} end)
      stub(shop, "price", fn _item, _quantity, request -> {:ok, request.user_id} end)
      stub(shop, "price", fn -> raise "out of order" end)

  One argument more than the function has is the request, for a stream the
  `PhoenixGenApi.Structs.StreamHelper`; none at all is enough where they do not matter.

  A function that exists keeps everything but its code: argument types, permission, response type. `fields` are
  fields of `PhoenixGenApi.Structs.FunConfig` that replace its own. A function that does not exist is declared by
  them, and takes no arguments and needs no permission unless they say so:

      stub(shop, "find", fn isbn -> {:ok, %{isbn: isbn}} end, arg_types: [isbn: :string], version: "2.0.0")

  Without `version:` it replaces the version that a request without one gets.

  Raises `ArgumentError` if the fields are invalid, if the answer takes another number of arguments, or if another
  test that runs has stubbed the same function: use `service/2`.
  """
  @spec stub(String.t() | atom(), String.t(), term(), keyword()) :: :ok
  def stub(service, request_type, answer, fields \\ []) do
    service = to_string(service)
    config = struct!(existing(service, request_type, fields[:version]), fields)
    config = FunConfig.complete(%{config | service: service, request_type: request_type})
    names = names(config)
    check_arity!(answer, names)

    mfa = {__MODULE__, :__stub__, [{service, request_type, FunConfig.version(config)}]}
    # Where the order is missing, storing it says so.
    order = if names, do: :map
    stub = %{config | mfa: mfa, nodes: :local, request_info: true, arg_orders: order}
    put!(stub, {:answer, answer, names})
  end

  defp existing(service, type, version) do
    stored =
      if version,
        do: ConfigDb.get(service, type, version),
        else: ConfigDb.resolve(service, type, nil)

    case stored do
      {:ok, %{mfa: {__MODULE__, :__stub__, _key}} = config} ->
        %{config | arg_orders: order(config)}

      {:ok, config} ->
        config

      {:error, _none} ->
        %FunConfig{}
    end
  end

  # That of the function which a stub has replaced.
  defp order(config), do: Stubs.names({config.service, config.request_type, config.version})

  defp names(%{arg_types: types}) when types in [nil, []] or types == %{}, do: []
  defp names(%{arg_orders: :map}), do: :map
  defp names(%{arg_orders: [_ | _] = order}), do: Enum.map(order, &to_string/1)

  defp names(%{arg_types: types}) when is_list(types) or map_size(types) == 1,
    do: for({name, _type} <- types, do: to_string(name))

  defp names(_config), do: nil

  defp check_arity!(answer, names) when is_function(answer) and names != nil do
    count = if names == :map, do: 1, else: length(names)
    {:arity, arity} = Function.info(answer, :arity)

    if arity not in [0, count, count + 1] do
      raise ArgumentError,
            "the stub takes #{arity} arguments, and the function has #{count}" <>
              if(count > 0 and names != :map, do: ": " <> Enum.join(names, ", "), else: "")
    end
  end

  defp check_arity!(_value, _names), do: :ok

  defp put!(config, answer) do
    with {:error, reason} <- Stubs.put(config, answer), do: raise(ArgumentError, reason)
  end

  @doc """
  Sends a request as a client would, and returns the response.

  Options: `:user_id`, `:user_roles`, `:device_id` and `:ip_address` say who sends it, nobody by default; `:version`
  and `:request_id` (a random one) are those of the request. Later messages of `:async` and `:stream` functions,
  `{:async_call, response}` and `{:stream_response, response}`, come to the calling process.

      assert %{success: true, result: %{total: 15}} = call(shop, "price", %{"item" => "tea"}, user_id: "ann")
      assert %{code: "unauthenticated"} = call(shop, "price", %{"item" => "tea"})
  """
  @spec call(String.t() | atom(), String.t(), map(), keyword()) :: Response.t() | {:ok, :none}
  def call(service, request_type, args \\ %{}, opts \\ []) do
    identity = [:user_id, :user_roles, :device_id, :ip_address]
    opts = Keyword.validate!(opts, identity ++ [:version, :request_id])

    request = %{
      "service" => to_string(service),
      "request_type" => request_type,
      "request_id" => opts[:request_id] || "test-#{System.unique_integer([:positive])}",
      "args" => args
    }

    request = if opts[:version], do: Map.put(request, "version", opts[:version]), else: request
    Executor.execute_params(request, identity: opts |> Keyword.take(identity) |> Map.new())
  end

  @doc "The calls of a stub since it was made, oldest first, the last 10,000 of them."
  @spec calls(String.t() | atom(), String.t()) :: [call()]
  def calls(service, request_type) do
    Stubs.calls(to_string(service), request_type) ||
      raise ArgumentError,
            "#{service} #{request_type} is not stubbed, so its calls are not recorded"
  end

  @doc """
  Asserts that a stub was called, with arguments that match a pattern, and returns that call.

  Arguments are those after validation, by their names. A variable of the pattern that is pinned keeps its
  value. Waits `timeout` milliseconds (100) for it.

      assert_called(shop, "price")
      assert %{user_id: "ann"} = assert_called(shop, "price", %{"item" => "tea"})
      assert_called(shop, "notify", %{"to" => ^user}, 1_000)
  """
  defmacro assert_called(service, request_type, args \\ {:_, [], nil}, timeout \\ 100) do
    quote do
      PhoenixGenApi.Testing.__assert_called__(
        {unquote(service), unquote(request_type)},
        fn args -> match?(unquote(args), args) end,
        unquote(Macro.to_string(args)),
        unquote(timeout)
      )
    end
  end

  @doc "Asserts that a stub was not called with arguments that match, up to now."
  defmacro refute_called(service, request_type, args \\ {:_, [], nil}) do
    quote do
      PhoenixGenApi.Testing.__refute_called__(
        {unquote(service), unquote(request_type)},
        fn args -> match?(unquote(args), args) end,
        unquote(Macro.to_string(args))
      )
    end
  end

  @doc """
  Takes away the services and stubs of the calling process, and puts back what they replaced.

  This also happens when the process ends.
  """
  @spec reset() :: :ok
  def reset, do: Stubs.reset()

  # How often `assert_called` looks.
  @look_ms 5

  @doc false
  @spec __assert_called__({term(), String.t()}, (map() -> boolean()), String.t(), timeout()) ::
          call()
  def __assert_called__({service, type} = function, matches?, pattern, timeout) do
    found = Enum.find(calls(service, type), &matches?.(&1.args))

    cond do
      found ->
        found

      timeout > 0 ->
        Process.sleep(@look_ms)
        __assert_called__(function, matches?, pattern, timeout - @look_ms)

      true ->
        fail("#{service} #{type} was not called with #{pattern}. #{listed(calls(service, type))}")
    end
  end

  @doc false
  @spec __refute_called__({term(), String.t()}, (map() -> boolean()), String.t()) :: :ok
  def __refute_called__({service, type}, matches?, pattern) do
    case Enum.filter(calls(service, type), &matches?.(&1.args)) do
      [] -> :ok
      calls -> fail("#{service} #{type} was called with #{pattern}. #{listed(calls)}")
    end
  end

  defp listed([]), do: "It was not called at all."
  defp listed(calls), do: "Calls:\n\n" <> Enum.map_join(calls, "\n", &("    " <> inspect(&1)))

  @spec fail(String.t()) :: no_return()
  defp fail(message), do: raise(ExUnit.AssertionError.exception(message: message))

  @doc false
  # What the config of a stub names. Without arguments there is no map of them.
  @spec __stub__(map(), Stubs.key(), Request.t() | StreamHelper.t()) :: term()
  def __stub__(args \\ %{}, key, info), do: Stubs.run(key, args, info)
end
