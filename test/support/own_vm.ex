defmodule PhoenixGenApi.Test.OwnVM do
  @moduledoc false
  # Runs the tests of a module in a VM of their own, beside those of other modules:
  #
  #     use PhoenixGenApi.Test.OwnVM
  #
  # stands in place of `use ExUnit.Case`. For tests that change the configuration of the
  # application, restart or count what all requests share, or measure the VM: there, all of that
  # is theirs. It is for modules that take seconds; the VM costs about half of one.
  #
  # The VM comes from the pool of the cluster tests and runs the library. ExUnit runs the module
  # there; in the suite stands another one, with a test of the same name, tags and line for each,
  # which ends as that does. The VM has the code of the library, of `test/support` and of the
  # module itself: other modules that its tests need belong to `test/support`. `mix test --cover`
  # does not see what runs there.
  use GenServer

  alias PhoenixGenApi.Test.Cluster.Pool
  alias PhoenixGenApi.Test.Options

  # What the suite runs with and the VM does, too.
  @options [
    :assert_receive_timeout,
    :exclude,
    :include,
    :refute_receive_timeout,
    :seed,
    :timeout,
    :trace
  ]

  # Tests end there by their own timeouts.
  @timeout_ms 1_200_000

  # What is captured or made for a test belongs to where it runs; the others are set anew.
  @own_tags [:async, :capture_log, :case, :describe, :describe_line, :file, :line, :module] ++
              [:registered, :test, :test_group, :test_type, :timeout, :tmp_dir]

  defmacro __using__(_options) do
    quote do
      use ExUnit.Case, register: false
      @after_compile PhoenixGenApi.Test.OwnVM
    end
  end

  @doc false
  def __after_compile__(%{module: module, file: file}, binary) do
    tests =
      module.__ex_unit__().tests
      |> Enum.group_by(&{&1.tags.describe, &1.tags.describe_line})
      |> Enum.map(fn {described, tests} -> described(described, Enum.map(tests, &stand_in/1)) end)

    contents =
      quote do
        use ExUnit.Case, async: true
        @moduletag timeout: unquote(@timeout_ms)
        setup_all do: %{vm: unquote(__MODULE__).start(unquote(module), unquote(binary))}
        unquote_splicing(tests)
      end

    Module.create(Module.concat(module, OwnVM), contents, file: file)
  end

  defp described({nil, nil}, tests), do: {:__block__, [], tests}

  defp described({name, line}, tests) do
    quote line: line do
      describe unquote(name) do
        (unquote_splicing(tests))
      end
    end
  end

  defp stand_in(%ExUnit.Test{name: name, tags: tags}) do
    prefix = if tags.describe, do: "test #{tags.describe} ", else: "test "
    tag = tags |> Map.drop(@own_tags) |> Map.to_list() |> Macro.escape()

    quote line: tags.line do
      @tag unquote(tag)
      test unquote(name |> Atom.to_string() |> String.replace_prefix(prefix, "")), context do
        unquote(__MODULE__).await(context.vm, unquote(name))
      end
    end
  end

  @doc "A VM that runs the tests of the module, until the end of the calling test or module."
  @spec start(module(), binary(), keyword()) :: pid()
  def start(module, binary, options \\ ExUnit.configuration()) do
    vm = Pool.take(true)
    ExUnit.Callbacks.on_exit(fn -> stop(vm) end)
    paths = for app <- [:eex, :ex_unit, :mix], do: :code.lib_dir(app) ++ ~c"/ebin"
    :ok = :peer.call(vm, :code, :add_pathsa, [paths])
    options = Keyword.take(options, @options)
    :ok = :peer.call(vm, __MODULE__, :run, [module, binary, options], 120_000)
    vm
  end

  @doc "Ends as that test of the module has ended, once it has."
  @spec await(pid(), atom()) :: :ok
  def await(vm, test) do
    case :peer.call(vm, GenServer, :call, [__MODULE__, {:await, test}, :infinity], :infinity) do
      {:passed, _logs} ->
        :ok

      {{:failed, errors}, logs} ->
        if logs != "", do: IO.write(logs)
        raise ExUnit.MultiError, errors: errors
    end
  end

  defp stop(vm) do
    :peer.stop(vm)
  catch
    :exit, _gone -> :ok
  end

  @doc false
  # From here on in that VM.
  def run(module, binary, options) do
    {:module, ^module} = :code.load_binary(module, ~c"#{module}", binary)
    Logger.configure(level: :debug)
    :ok = :logger.set_handler_config(:default, :level, :emergency)
    {:ok, _started} = Application.ensure_all_started(:phoenix_gen_api)
    Options.open_no_pool_circuits()
    ExUnit.start([autorun: false, formatters: [__MODULE__.Results]] ++ options)
    {:ok, _pid} = GenServer.start(__MODULE__, module, name: __MODULE__)
    :ok
  end

  @impl true
  def init(module) do
    Process.group_leader(self(), Process.whereis(:user))
    {_pid, monitor} = spawn_monitor(fn -> ExUnit.run([module]) end)
    {:ok, %{monitor: monitor, over: nil, results: %{}, waiting: %{}}}
  end

  @impl true
  def handle_call({:await, test}, from, state) do
    case state do
      %{results: %{^test => result}} -> {:reply, result, state}
      %{over: nil} -> {:noreply, put_in(state.waiting[test], from)}
      %{over: reason} -> {:reply, not_run(reason), state}
    end
  end

  @impl true
  def handle_cast({:result, %ExUnit.Test{} = test}, state) do
    {waiting, state} = pop_in(state.waiting[test.name])
    result = {outcome(test.state), test.logs}
    if waiting, do: GenServer.reply(waiting, result)
    {:noreply, put_in(state.results[test.name], result)}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, reason}, %{monitor: monitor} = state) do
    for {_test, from} <- state.waiting, do: GenServer.reply(from, not_run(reason))
    {:noreply, %{state | over: reason, waiting: %{}}}
  end

  defp outcome(nil), do: :passed
  defp outcome({:failed, errors}), do: {:failed, errors}
  defp outcome({:invalid, %{state: {:failed, errors}}}), do: {:failed, errors}
  defp outcome(not_run), do: {:failed, [{:exit, not_run, []}]}

  defp not_run(reason), do: {outcome({:not_run, reason}), ""}

  defmodule Results do
    @moduledoc false
    # The formatter of that VM.
    use GenServer

    @impl true
    def init(_options), do: {:ok, nil}

    @impl true
    def handle_cast({:test_finished, test}, nil) do
      GenServer.cast(PhoenixGenApi.Test.OwnVM, {:result, test})
      {:noreply, nil}
    end

    def handle_cast(_event, nil), do: {:noreply, nil}
  end
end
