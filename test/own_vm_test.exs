defmodule PhoenixGenApi.OwnVMTest do
  # Tests that run in a VM of their own count here as what they were there.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Test.OwnVM

  defp start(name, tests) do
    contents = [quote(do: use(ExUnit.Case, register: false)), tests]
    {:module, module, binary, _last} = Module.create(name, contents, __ENV__)
    options = Keyword.merge(ExUnit.configuration(), exclude: [], include: [], trace: false)
    OwnVM.start(module, binary, options)
  end

  test "a test that runs in a VM of its own passes or fails as it did there" do
    vm =
      start(
        __MODULE__.Mixed,
        quote do
          setup_all do: %{here: unquote(System.pid())}
          test("is elsewhere", %{here: here}, do: assert(System.pid() != here))
          test("fails", %{here: here}, do: assert(System.pid() == here))
          test "exits", do: exit(:early)
          test "is killed", do: Process.exit(self(), :kill)
          @tag timeout: 1
          test "takes too long", do: Process.sleep(:infinity)
        end
      )

    assert OwnVM.await(vm, :"test is elsewhere") == :ok

    assert [{:error, %ExUnit.AssertionError{left: left}, stacktrace}] = errors(vm, "fails")
    assert left != System.pid()
    assert Enum.any?(stacktrace, &(elem(&1, 0) == __MODULE__.Mixed))
    assert [{:exit, :early, _}] = errors(vm, "exits")
    assert [{{:EXIT, _pid}, :killed, []}] = errors(vm, "is killed")
    assert [{:error, %ExUnit.TimeoutError{}, _}] = errors(vm, "takes too long")
    assert [{:exit, {:not_run, :normal}, []}] = errors(vm, "does not exist")
  end

  test "a test whose setup failed in the VM, or whose VM ended, fails" do
    vm =
      start(
        __MODULE__.Failing,
        quote do
          setup_all do: raise("not today")
          test "never runs", do: :ok
        end
      )

    assert [{:error, %RuntimeError{message: "not today"}, _}] = errors(vm, "never runs")

    vm = start(__MODULE__.Ending, quote(do: test("ends it", do: System.halt(0))))
    assert catch_exit(OwnVM.await(vm, :"test ends it"))
  end

  defp errors(vm, name),
    do: assert_raise(ExUnit.MultiError, fn -> OwnVM.await(vm, :"test #{name}") end).errors
end
