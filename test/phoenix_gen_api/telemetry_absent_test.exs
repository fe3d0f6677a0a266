defmodule PhoenixGenApi.TelemetryAbsentTest do
  # What a build without :telemetry does: the module compiled once more, looking for a
  # library that is not there.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Telemetry

  @id "telemetry-absent-test"

  @doc false
  def forward(event, _measurements, _metadata, pid), do: send(pid, {:event, event})

  setup_all do
    source =
      Telemetry.module_info(:compile)[:source]
      |> File.read!()
      |> String.replace(
        "defmodule PhoenixGenApi.Telemetry do",
        "defmodule #{__MODULE__}.Absent do"
      )
      |> String.replace("ensure_compiled(:telemetry)", "ensure_compiled(:no_telemetry_here)")

    [{absent, _}] = Code.compile_string(source)
    %{absent: absent}
  end

  test "attaching is an error, detaching is :ok", %{absent: absent} do
    handler = &__MODULE__.forward/4

    for name <- [
          :attach_all,
          :attach_executor,
          :attach_rate_limiter,
          :attach_hooks,
          :attach_worker_pool,
          :attach_config
        ] do
      assert apply(absent, name, ["id", handler]) == {:error, :telemetry_not_available}
    end

    assert absent.attach_many("id", [[:a]], handler) == {:error, :telemetry_not_available}
    assert absent.attach_default_logger() == {:error, :telemetry_not_available}
    assert absent.detach_all("id") == :ok
    assert absent.detach_default_logger() == :ok
  end

  test "execute and span do their work without events", %{absent: absent} do
    on_exit(fn -> Telemetry.detach_all(@id) end)
    :ok = Telemetry.attach_many(@id, [[:a], [:a, :start]], &__MODULE__.forward/4, self())
    assert absent.execute([:a], %{}, %{}) == :ok
    assert absent.span([:a], %{}, fn -> {:done, %{}} end) == :done
    assert_raise RuntimeError, "boom", fn -> absent.span([:a], %{}, fn -> raise "boom" end) end
    refute_received {:event, _}
    assert length(absent.list_events()) == 32
  end
end
