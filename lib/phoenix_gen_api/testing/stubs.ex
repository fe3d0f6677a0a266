defmodule PhoenixGenApi.Testing.Stubs do
  @moduledoc false
  # The functions that tests have put in place, and the calls of them. Started with the first one, under the
  # supervisor of the library's application, so that nothing of it runs where no test does.
  #
  # Rows:
  #   {{:stub, service, request_type, version}, answer, names, calls}
  #   {{:call, service, request_type, number}, call}
  #
  # Whatever a process has put in place is taken away when that process ends, which is how tests end.
  use GenServer

  alias PhoenixGenApi.ConfigDb.Swap
  alias PhoenixGenApi.ProcessNames
  alias PhoenixGenApi.Structs.{FunConfig, Request, StreamHelper}

  @table __MODULE__
  # The supervisor of the library's application, spelt so that this does not depend on all that it starts.
  @library Module.concat(["PhoenixGenApi", "Supervisor"])
  # Of one function; older ones are forgotten.
  @most_calls 10_000

  @type key :: {service :: String.t(), request_type :: String.t(), version :: String.t()}
  @typedoc "The arguments of a function in order, or `:map` if it gets them as one map."
  @type names :: [String.t()] | :map
  @type call :: %{
          args: %{String.t() => term()},
          user_id: String.t() | nil,
          request_id: String.t() | nil
        }

  @doc false
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(_opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, []}}

  @doc false
  @spec start_link() :: GenServer.on_start()
  def start_link do
    ProcessNames.await_free([__MODULE__])
    GenServer.start_link(__MODULE__, [], name: __MODULE__)
  end

  @doc "Stores a config for the calling process; with an answer, calls of it are recorded."
  @spec put(FunConfig.t(), {:answer, term(), names()} | :real) :: :ok | {:error, String.t()}
  def put(config, answer) do
    with :ok <- ensure(), do: GenServer.call(__MODULE__, {:put, config, answer, self()})
  end

  @doc "Takes away what the calling process has put in place."
  @spec reset() :: :ok
  def reset do
    if Process.whereis(__MODULE__), do: GenServer.call(__MODULE__, {:reset, self()}), else: :ok
  end

  @doc "The calls of a stub, oldest first; nil if there is no such stub."
  @spec calls(String.t(), String.t()) :: [call()] | nil
  def calls(service, type) do
    case :ets.match(@table, {{:stub, service, type, :_}, :_, :_, :"$1"}) do
      [] -> nil
      _stubs -> for [call] <- :ets.match(@table, {{:call, service, type, :_}, :"$1"}), do: call
    end
  rescue
    # No test has stubbed anything.
    ArgumentError -> nil
  end

  @doc "The arguments of the function that a stub has replaced, in order."
  @spec names(key()) :: names()
  def names({service, type, version}) do
    case :ets.lookup(@table, {:stub, service, type, version}) do
      [{_key, _answer, names, _calls}] -> names
      [] -> []
    end
  end

  @doc "Answers a call of a stub, in the process that runs the function."
  @spec run(key(), map(), Request.t() | StreamHelper.t()) :: term()
  def run({service, type, version}, args, info) do
    [{key, answer, names, _calls}] = :ets.lookup(@table, {:stub, service, type, version})
    number = :ets.update_counter(@table, key, {4, 1})
    :ets.insert(@table, {{:call, service, type, number}, call(args, info)})
    :ets.delete(@table, {:call, service, type, number - @most_calls})
    answer(answer, arguments(names, args), info)
  end

  # As the function that is replaced would get them.
  defp arguments(:map, args), do: [args]
  defp arguments(names, args), do: Enum.map(names, &Map.get(args, &1))

  defp answer(fun, _args, _info) when is_function(fun, 0), do: fun.()
  defp answer(fun, args, _info) when is_function(fun, length(args)), do: apply(fun, args)
  defp answer(fun, args, info) when is_function(fun), do: apply(fun, args ++ [info])
  defp answer(value, _args, _info), do: value

  defp call(args, %StreamHelper{request: request}) when request != nil, do: call(args, request)

  defp call(args, info) do
    %{args: args, user_id: Map.get(info, :user_id), request_id: Map.get(info, :request_id)}
  end

  defp ensure do
    case Process.whereis(@library) && Process.whereis(__MODULE__) do
      nil -> start()
      _pid -> :ok
    end
  end

  defp start do
    case Supervisor.start_child(@library, __MODULE__) do
      {:ok, _pid} -> :ok
      {:error, {:already_started, _pid}} -> :ok
      {:error, reason} -> {:error, "cannot start: #{inspect(reason)}"}
    end
  catch
    :exit, _reason -> {:error, "the application :phoenix_gen_api does not run"}
  end

  @impl true
  def init([]) do
    Process.flag(:trap_exit, true)
    :ets.new(@table, [:named_table, :public, :ordered_set])
    {:ok, %{owners: %{}, held: []}}
  end

  # `held` has the newest first, so that of several stubs of one function the oldest is put back last.
  @impl true
  def handle_call({:put, config, answer, owner}, _from, state) do
    key = key(config)
    state = without_dead(state)

    with nil <- other_owner(state, key, owner),
         {:ok, held} <- Swap.put(config) do
      forget(key)
      if answer != :real, do: insert(key, answer)
      {:reply, :ok, %{monitored(state, owner) | held: [{owner, key, held} | state.held]}}
    else
      {:error, _reason} = error -> {:reply, error, state}
      other -> {:reply, {:error, taken(key, other)}, state}
    end
  end

  def handle_call({:reset, owner}, _from, state), do: {:reply, :ok, taken_away(state, owner)}

  @impl true
  def handle_info({:DOWN, _monitor, :process, owner, _reason}, state),
    do: {:noreply, taken_away(state, owner)}

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    for {_owner, _key, held} <- state.held, do: Swap.put_back(held)
  end

  defp key(config),
    do: {to_string(config.service), config.request_type, FunConfig.version(config)}

  defp other_owner(state, key, owner) do
    Enum.find_value(state.held, fn {other, held_key, _held} ->
      if held_key == key and other != owner, do: other
    end)
  end

  # Their messages are on their way.
  defp without_dead(state) do
    state.owners
    |> Map.keys()
    |> Enum.reject(&Process.alive?/1)
    |> Enum.reduce(state, &taken_away(&2, &1))
  end

  defp taken({service, type, _version}, other) do
    "#{service} #{type} is stubbed by another process (#{inspect(other)}): use a service of the test's own, " <>
      "PhoenixGenApi.Testing.service/2, or `async: false`"
  end

  defp insert({service, type, version}, {:answer, answer, names}),
    do: :ets.insert(@table, {{:stub, service, type, version}, answer, names, 0})

  defp monitored(%{owners: owners} = state, owner) do
    %{state | owners: Map.put_new_lazy(owners, owner, fn -> Process.monitor(owner) end)}
  end

  defp taken_away(state, owner) do
    {own, others} = Enum.split_with(state.held, &match?({^owner, _key, _held}, &1))

    for {_owner, key, held} <- own do
      Swap.put_back(held)
      forget(key)
    end

    {monitor, owners} = Map.pop(state.owners, owner)
    if monitor, do: Process.demonitor(monitor, [:flush])
    %{state | held: others, owners: owners}
  end

  defp forget({service, type, version}) do
    :ets.delete(@table, {:stub, service, type, version})
    :ets.match_delete(@table, {{:call, service, type, :_}, :_})
  end
end
