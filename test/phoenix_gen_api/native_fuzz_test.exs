defmodule PhoenixGenApi.NativeFuzzTest do
  # In a VM of its own, which would not survive what this looks for.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.NativeFuzz

  # `FUZZ_CALLS=10000000 FUZZ_SEED=1 mix test test/phoenix_gen_api/native_fuzz_test.exs` makes more of them.
  @calls String.to_integer(System.get_env("FUZZ_CALLS") || "100000")
  @readme Path.expand("../../native/README.md", __DIR__)

  # Some twenty seconds on an idle machine.
  @tag timeout: if(@calls > 100_000, do: :infinity, else: 600_000)
  test "no NIF ends, holds up or confuses the VM, whatever it is called with" do
    seed = String.to_integer(System.get_env("FUZZ_SEED") || "#{ExUnit.configuration()[:seed]}")
    report = run(seed, 1..@calls)

    if @calls > 100_000, do: IO.inspect(Map.delete(report, :failures), label: "seed #{seed}")
    assert report.failures == [], "seed #{seed}: #{inspect(report.failures, limit: 20)}"
    assert Enum.sum(Map.values(report.calls)) == @calls
    # Neither of them is everything.
    assert report.calls.badarg > @calls / 5
    assert report.calls.returned > @calls / 5
  end

  defp run(seed, range) do
    Process.flag(:trap_exit, true)
    NativeFuzz.run(NativeFuzz.start_link(), seed, range, normal())
  catch
    :exit, _reason -> flunk("the VM has ended: seed #{seed}, call #{last_call(seed, range)}")
  end

  # The same again, with each call written down.
  defp last_call(seed, range) do
    log = Path.join(System.tmp_dir!(), "native_fuzz_#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm(log) end)

    try do
      NativeFuzz.run(NativeFuzz.start_link(), seed, range, normal(), log: log)
    catch
      :exit, _reason -> :ok
    end

    # What follows the first line is of longer ones before it.
    log |> File.read!() |> String.split("\n") |> hd() |> String.trim()
  end

  # As the table says, which another test compares with the source.
  defp normal do
    for [_, name] <- Regex.scan(~r/^\| `(\w+)` \| normal \|/m, File.read!(@readme)),
        do: String.to_atom(name)
  end
end
