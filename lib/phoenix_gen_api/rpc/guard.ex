defmodule PhoenixGenApi.RPC.Guard do
  @moduledoc false
  # Where a call of a gateway is let through or refused, on the node that it is for. See
  # `PhoenixGenApi.ServiceGuard`; `Service.GuardRegistry` writes the table and has its rows.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.ServiceGuard.Refused
  alias PhoenixGenApi.Structs.{Request, StreamHelper}
  alias PhoenixGenApi.Log

  require Log

  @table __MODULE__
  # How often a call of what is not registered makes the node ask its own listings.
  @refresh_ms 1_000

  @doc "Creates the table, owned by the calling process, unless it is there. Returns its name."
  @spec new() :: atom()
  def new do
    if :ets.whereis(@table) == :undefined,
      do: :ets.new(@table, [:named_table, :set, :public, read_concurrency: true])

    @table
  end

  @doc "Whether this node is guarded."
  @spec guarded?() :: boolean()
  def guarded?, do: :ets.whereis(@table) != :undefined or configured?()

  # Without the table: before the application has started, while it starts, or after it has
  # stopped. The node is guarded then, too: nothing is registered.
  defp configured?,
    do: if(Config.loaded?(), do: Config.get(:service_guard, :enabled), else: wanted?())

  # A setting that is wrong will stop the boot.
  defp wanted? do
    case Config.validate(
           Keyword.take(Application.get_all_env(:phoenix_gen_api), [:service_guard])
         ) do
      {:ok, %{service_guard: guard}} -> guard.enabled
      {:error, _sentences} -> true
    end
  end

  @doc """
  A gateway's call, in the process that the gateway has spawned here. It ends as
  `:erpc.execute_call/4` does: with the result as its exit reason.
  """
  @spec execute_call(term(), module(), atom(), [term()]) :: no_return()
  def execute_call(result, module, function, args) do
    case permit_or_refresh(module, function, args) do
      :ok -> :erpc.execute_call(result, module, function, args)
      :listing -> :erpc.execute_call(result, __MODULE__, :list, [module, function, args])
      {:error, refused} -> exit({result, :error, refused, []})
    end
  end

  @doc "For what else of the library runs a function for a gateway. The exception is not raised."
  @spec check(module(), atom(), [term()]) :: :ok | {:error, Exception.t()}
  def check(module, function, args) do
    if guarded?() and permit_or_refresh(module, function, args) != :ok,
      do: {:error, refusal(module, function, args)},
      else: :ok
  end

  @doc "Runs a listing function, and has what it returns registered."
  @spec list(module(), atom(), [term()]) :: term()
  def list(module, function, args) do
    answer = apply(module, function, args)
    # Others return a version, or have failed.
    with {:ok, configs} when is_list(configs) <- answer, do: write({:listed, configs})
    answer
  end

  defp permit_or_refresh(module, function, args) do
    case permit(module, function, args) do
      :unknown ->
        unless fresh?(), do: write(:refresh)

        with :unknown <- permit(module, function, args) do
          refused = refusal(module, function, args)
          warn(refused)
          {:error, refused}
        end

      permitted ->
        permitted
    end
  end

  @doc "Whether a gateway may have this called, and if so, whether it is a listing."
  @spec permit(module(), atom(), [term()]) :: :ok | :listing | :unknown
  def permit(:code, :ensure_modules_loaded, [modules]) when is_list(modules) do
    # What a gateway asks the node that it has pulled from.
    if Enum.all?(modules, &(lookup({:module, &1}) != [])), do: :ok, else: :unknown
  end

  # And which of the functions it has.
  def permit(:lists, :zipwith3, [exported?, modules | _] = args) when is_list(modules) do
    if exported? == (&:erlang.function_exported/3),
      do: permit(:code, :ensure_modules_loaded, [modules]),
      else: permit_call(:lists, :zipwith3, args)
  end

  def permit(module, function, args), do: permit_call(module, function, args)

  defp permit_call(module, function, args) do
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

  defp refusal(module, function, args),
    do: %Refused{module: module, function: function, arity: length(args), node: node()}

  defp warn(refused) do
    with {:log, left_out} <- log() do
      more = if left_out > 0, do: " (and #{left_out} more since the last line)", else: ""
      # The gateway has spawned this process: its lines would go there, and it is named by them.
      gateway = node(Process.group_leader())
      text = SafeInspect.printable(Exception.message(refused)) <> more

      Log.warning("service guard: refused a call from #{gateway}: " <> text,
        gl: Process.whereis(:init)
      )
    end
  end

  # Whether a refusal may be logged, and how many were not since the last that was.
  defp log do
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

  @doc "Whether the node has asked its own listings just now."
  @spec fresh?() :: boolean()
  def fresh? do
    case lookup(:refreshed_at) do
      [] -> false
      at -> System.monotonic_time(:millisecond) - at < @refresh_ms
    end
  end

  @doc "Has the process that writes the table carry something out."
  # A push must go out, and a pull be answered, also while that process is being restarted.
  @spec write(term()) :: :ok
  def write(request) do
    with pid when is_pid(pid) <- lookup(:writer) do
      GenServer.call(pid, request, :infinity)
    end

    :ok
  catch
    :exit, _reason -> :ok
  end

  @doc "What stands in the table under a key."
  @spec lookup(term()) :: term()
  def lookup(key) do
    :ets.lookup_element(@table, key, 2, [])
  rescue
    ArgumentError -> []
  end
end
