defmodule PhoenixGenApi.Service.GuardRegistry do
  @moduledoc false
  # What a guarded service node runs for gateways. The table belongs to the supervisor; it is
  # read by the calls, and written by this process alone.
  #
  # Rows:
  #   {{module, function, arity}, [shape]}    shape: {how many arguments are fixed, request?}
  #   {{{module, function, arity}, request?, fixed}, [service]}
  #   {{:listing, module, function}, [{args, service}]}
  #   {{:module, module}, [service]}                              of the functions
  #   {:refreshed_at, ms}, {:logged_at, second}, {:left_out, n}, {:full, true}
  use GenServer

  require Logger

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.{FunConfig, Request, ServiceConfig, StreamHelper}

  @table __MODULE__
  # How often a call of what is not registered makes the node ask its own listings.
  @refresh_ms 1_000
  # Rows at most, some 300 bytes each.
  @max_rows 100_000
  # Of what the option declares.
  @declared nil

  @doc "Creates the table, owned by the calling process, unless it is there."
  @spec new() :: :ok
  def new do
    if :ets.whereis(@table) == :undefined,
      do: :ets.new(@table, [:named_table, :set, :public, read_concurrency: true])

    :ok
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @spec running?() :: boolean()
  def running?, do: :ets.whereis(@table) != :undefined

  @doc "Registers functions, and where to pull them from."
  @spec add(term(), ServiceConfig.t() | nil) :: :ok
  def add(configs, source), do: write({:add, functions(configs) ++ sources(source)})

  @doc "Registers what a listing function has returned, if it is a list of functions."
  @spec register_listed(term()) :: :ok
  def register_listed({:ok, configs}) when is_list(configs), do: add(configs, nil)
  def register_listed(_version_or_failure), do: :ok

  @spec withdraw(String.t()) :: :ok
  def withdraw(service), do: write({:withdraw, service})

  @spec registered() :: [mfa()]
  def registered do
    Enum.sort(
      select([{{{:"$1", :"$2", :"$3"}, :_}, [{:is_integer, :"$3"}], [{{:"$1", :"$2", :"$3"}}]}])
    )
  end

  @doc "Whether a gateway may have this called, and if so, whether it is a listing."
  @spec permit(module(), atom(), [term()]) :: :ok | :listing | :unknown
  def permit(:code, :ensure_modules_loaded, [modules]) when is_list(modules) do
    # What a gateway asks the node that it has pulled from.
    if Enum.all?(modules, &(lookup({:module, &1}) != [])), do: :ok, else: :unknown
  end

  def permit(module, function, args) do
    cond do
      registered?({module, function, length(args)}, args) -> :ok
      Enum.any?(lookup({:listing, module, function}), &matches_listing?(&1, args)) -> :listing
      allowed?(module, function) -> :ok
      true -> :unknown
    end
  end

  # Looked up by what is fixed: a service may have thousands of functions that are one function
  # with another fixed argument.
  defp registered?({_module, _function, arity} = mfa, args) do
    Enum.any?(lookup(mfa), fn {count, request?} ->
      # The fixed arguments stand behind those of the client, and before the request.
      others = if request?, do: 1, else: 0
      {fixed, rest} = args |> Enum.drop(arity - count - others) |> Enum.split(count)
      request?(rest) == request? and lookup({mfa, request?, fixed}) != []
    end)
  end

  defp request?([%struct{}]), do: struct in [Request, StreamHelper]
  defp request?(_none), do: false

  # As the puller asks: as configured, with its node, without arguments.
  defp matches_listing?({declared, _service}, args) do
    args in [declared, []] or
      (length(args) == length(declared) + 1 and List.starts_with?(args, declared) and
         is_atom(List.last(args)))
  end

  defp allowed?(module, function) do
    allow = Config.get(:service_guard, :allow)
    module in allow or {module, function} in allow
  end

  @doc "Asks the declared listings again, unless that was done just now."
  @spec refresh() :: :ok
  def refresh do
    if fresh?(), do: :ok, else: write(:refresh)
  end

  @doc "Whether a refusal may be logged, and how many were not since the last that was."
  @spec log() :: {:log, non_neg_integer()} | :left_out
  def log do
    now = System.monotonic_time(:second)

    case :ets.lookup(@table, :logged_at) do
      [{_key, ^now}] ->
        :ets.update_counter(@table, :left_out, 1, {:left_out, 0})
        :left_out

      _ ->
        :ets.insert(@table, {:logged_at, now})
        left_out = for {_key, count} <- :ets.take(@table, :left_out), do: count
        {:log, Enum.sum(left_out)}
    end
  rescue
    # The application is not running, or not yet.
    ArgumentError -> {:log, 0}
  end

  # A push must go out, and a pull be answered, also while this process is being restarted.
  defp write(request) do
    GenServer.call(__MODULE__, request, :infinity)
  catch
    :exit, _reason -> :ok
  end

  defp lookup(key) do
    :ets.lookup_element(@table, key, 2, [])
  rescue
    ArgumentError -> []
  end

  defp select(spec) do
    :ets.select(@table, spec)
  rescue
    ArgumentError -> []
  end

  @impl true
  def init(_opts) do
    :ok = store(declared())
    {:ok, nil}
  end

  @impl true
  def handle_call({:add, rows}, _from, state), do: {:reply, store(rows), state}

  def handle_call({:withdraw, service}, _from, state) do
    for {key, registered} <- :ets.tab2list(@table), per_service?(key) do
      put_or_delete(key, registered, Enum.reject(registered, &(service_of(&1) == service)))
    end

    rows = :ets.tab2list(@table)

    used =
      for {{mfa, request?, fixed}, _} when is_tuple(mfa) <- rows,
          into: MapSet.new(),
          do: {mfa, {length(fixed), request?}}

    for {{_, _, arity} = mfa, shapes} when is_integer(arity) <- rows,
        do: put_or_delete(mfa, shapes, Enum.filter(shapes, &({mfa, &1} in used)))

    :ets.delete(@table, :full)

    {:reply, :ok, state}
  end

  # Those that wait for an answer while the listings are asked find them fresh.
  def handle_call(:refresh, _from, state) do
    unless fresh?() do
      for {module, function, args} <- listings(), do: ask(module, function, args)
      :ets.insert(@table, {:refreshed_at, now()})
    end

    {:reply, :ok, state}
  end

  # Whether what is in a row belongs to services.
  defp per_service?({_module, _function, arity}) when is_integer(arity), do: false
  defp per_service?(key), do: is_tuple(key)

  defp put_or_delete(_key, same, same), do: :ok
  defp put_or_delete(key, _registered, []), do: :ets.delete(@table, key)
  defp put_or_delete(key, _registered, left), do: :ets.insert(@table, {key, left})

  defp ask(module, function, args) do
    timeout = Config.get(:gen_api, :pull_timeout)

    with {:module, _module} <- Code.ensure_loaded(module),
         args when args != nil <-
           Enum.find([args, args ++ [node()], []], &exported?(module, function, &1)),
         {:return, {:ok, configs}} when is_list(configs) <-
           RPC.Local.call(module, function, args, timeout) do
      configs |> functions() |> store()
    end
  end

  defp exported?(module, function, args), do: function_exported?(module, function, length(args))

  defp listings do
    for {{:listing, module, function}, asked} <- :ets.tab2list(@table),
        {args, _service} <- asked,
        do: {module, function, args}
  end

  defp declared do
    for declared <- Config.get(:service_guard, :listings) do
      case declared do
        {module, function} -> {{:listing, module, function}, {[], @declared}}
        {module, function, args} -> {{:listing, module, function}, {args, @declared}}
      end
    end
  end

  defp store(rows) do
    for {key, registered} <- rows, before = lookup(key), registered not in before, room?() do
      :ets.insert(@table, {key, [registered | before]})
    end

    :ok
  end

  # A listing that fixes another argument each time it is asked would fill the memory.
  defp room? do
    room? = :ets.info(@table, :size) < @max_rows

    if not room? and :ets.insert_new(@table, {:full, true}) do
      Logger.error(
        "service guard: #{@max_rows} registrations, no more are taken until a service is withdrawn; " <>
          "a listing that fixes other arguments each time it is asked would do this"
      )
    end

    room?
  end

  defp functions(configs) when length(configs) >= 0,
    do: Enum.flat_map(configs, &rows/1)

  defp functions(_no_list), do: []

  # A local function, and its callback, run on the gateway.
  defp rows(%FunConfig{nodes: :local}), do: []

  # The module also of one that is invalid: a gateway that pulls asks about all modules.
  defp rows(%FunConfig{mfa: {module, _function, fixed}, service: service} = config)
       when is_atom(module) and is_list(fixed) and (is_atom(service) or is_binary(service)) do
    service = to_string(service)
    module_row = {{:module, module}, service}

    case arguments(config) do
      nil -> [module_row]
      count -> [module_row | function_rows(config, count, service) ++ callback(config, service)]
    end
  end

  defp rows(_other), do: []

  defp function_rows(%{mfa: {module, function, fixed}} = config, count, service) do
    request? = config.request_info == true
    others = count + if(request?, do: 1, else: 0)
    registration(module, function, others, fixed, request?, service)
  end

  # It gets the request before its own arguments.
  defp callback(%{permission_callback: {module, function, fixed}}, service) when is_list(fixed),
    do: registration(module, function, 1, fixed, false, service)

  defp callback(_none, _service), do: []

  defp registration(module, function, others, fixed, request?, service) do
    mfa = {module, function, others + length(fixed)}
    [{{mfa, request?, fixed}, service}, {mfa, {length(fixed), request?}}]
  end

  # How many arguments come from the client.
  defp arguments(%{arg_orders: :map}), do: 1
  defp arguments(%{arg_types: nil}), do: 0
  defp arguments(%{arg_types: types}) when is_map(types), do: map_size(types)
  defp arguments(%{arg_types: types}) when is_list(types), do: length(types)
  defp arguments(_invalid), do: nil

  defp sources(nil), do: []

  defp sources(source) do
    case ServiceConfig.resolve(source) do
      {:ok, source} ->
        version =
          {{:listing, source.version_module, source.version_function},
           {source.version_args, source.service}}

        [{{:listing, source.module, source.function}, {source.args, source.service}}] ++
          if(ServiceConfig.version_check_enabled?(source), do: [version], else: [])

      {:error, _sentences} ->
        []
    end
  end

  defp service_of({_args, service}), do: service
  defp service_of(service), do: service

  defp fresh? do
    case lookup(:refreshed_at) do
      [] -> false
      at -> now() - at < @refresh_ms
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
