defmodule PhoenixGenApi.Service.GuardRegistry do
  @moduledoc false
  # Registers what a guarded service node runs for gateways. The table is that of `RPC.Guard`,
  # which reads it for each call. It belongs to the supervisor and is written by this process.
  #
  # Rows:
  #   {{module, function, arity}, [shape]}    shape: {how many arguments are fixed, request?}
  #   {{{module, function, arity}, request?, fixed}, [service]}
  #   {{:listing, module, function}, [{args, service}]}
  #   {{:module, module}, [service]}                              of the functions
  #   {:writer, pid}, {:refreshed_at, ms}, {:full, true}, {:bytes, n}
  #   {:logged_at, second}, {:left_out, n}                        of refusals, by `RPC.Guard`
  use GenServer

  alias PhoenixGenApi.Log

  require Log

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.RPC.Guard
  alias PhoenixGenApi.Structs.{FunConfig, ServiceConfig}

  @table Guard
  # Rows at most, some 300 bytes each, and bytes in all: fixed arguments may be of any size.
  @max_rows 100_000
  @max_bytes 67_108_864
  # Of what the option declares.
  @declared nil

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Registers functions, and where to pull them from."
  @spec add(term(), ServiceConfig.t() | nil) :: :ok
  def add(configs, source), do: Guard.write({:add, functions(configs) ++ sources(source)})

  @spec withdraw(String.t()) :: :ok
  def withdraw(service), do: Guard.write({:withdraw, service})

  @spec registered() :: [mfa()]
  def registered do
    Enum.sort(
      select([{{{:"$1", :"$2", :"$3"}, :_}, [{:is_integer, :"$3"}], [{{:"$1", :"$2", :"$3"}}]}])
    )
  end

  defp select(spec) do
    :ets.select(@table, spec)
  rescue
    ArgumentError -> []
  end

  @impl true
  def init(_opts) do
    :ets.insert(@table, {:writer, self()})
    :ok = store(declared())
    {:ok, nil}
  end

  @impl true
  def handle_call({:add, rows}, _from, state), do: {:reply, store(rows), state}

  def handle_call({:listed, configs}, _from, state),
    do: {:reply, configs |> functions() |> store(), state}

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
    :ets.insert(@table, {:bytes, bytes(:ets.tab2list(@table))})

    {:reply, :ok, state}
  end

  # Those that wait for an answer while the listings are asked find them fresh.
  def handle_call(:refresh, _from, state) do
    unless Guard.fresh?() do
      for {module, function, args} <- listings(), do: ask(module, function, args)
      :ets.insert(@table, {:refreshed_at, System.monotonic_time(:millisecond)})
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
    for {key, registered} <- rows,
        before = Guard.lookup(key),
        registered not in before,
        size = :erlang.external_size({key, registered}),
        room?(size) do
      :ets.update_counter(@table, :bytes, size, {:bytes, 0})
      :ets.insert(@table, {key, [registered | before]})
    end

    :ok
  end

  # A listing that fixes another argument each time it is asked would fill the memory.
  defp room?(size) do
    rows = :ets.info(@table, :size)
    bytes = :ets.lookup_element(@table, :bytes, 2, 0) + size
    room? = rows < @max_rows and bytes <= @max_bytes

    if not room? and :ets.insert_new(@table, {:full, true}) do
      Log.error(
        "service guard: full with #{rows} registrations, no more are taken until a service is withdrawn; " <>
          "a listing that fixes other arguments each time it is asked would do this"
      )
    end

    room?
  end

  defp bytes(rows) do
    Enum.sum(
      for {key, all} <- rows, is_list(all), registered <- all do
        :erlang.external_size({key, registered})
      end
    )
  end

  defp functions(configs) when length(configs) >= 0,
    do: Enum.flat_map(configs, &rows(FunConfig.complete(&1)))

  defp functions(_no_list), do: []

  # A local function, and its callback, run on the gateway.
  defp rows(%FunConfig{nodes: :local}), do: []

  # The module also of one that is invalid: a gateway that pulls asks about all modules.
  defp rows(%FunConfig{mfa: {module, _function, fixed}, service: service} = config)
       when is_atom(module) and length(fixed) >= 0 and (is_atom(service) or is_binary(service)) do
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
  defp callback(%{permission_callback: {module, function, fixed}}, service)
       when length(fixed) >= 0,
       do: registration(module, function, 1, fixed, false, service)

  defp callback(%{check_permission: {:callback, callback}}, service),
    do: callback(%{permission_callback: callback}, service)

  defp callback(_none, _service), do: []

  defp registration(module, function, others, fixed, request?, service) do
    mfa = {module, function, others + length(fixed)}
    [{{mfa, request?, fixed}, service}, {mfa, {length(fixed), request?}}]
  end

  # How many arguments come from the client.
  defp arguments(%{arg_orders: :map}), do: 1
  defp arguments(%{arg_types: nil}), do: 0
  defp arguments(%{arg_types: types}) when is_map(types), do: map_size(types)
  defp arguments(%{arg_types: types}) when length(types) >= 0, do: length(types)
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
end
