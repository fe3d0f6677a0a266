defmodule PhoenixGenApi.ConfigTelemetryTest do
  # The events 22 to 30 of the contract: what each carries, and when it is fired.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, ConfigPuller, ConfigPusher, ConfigReceiver, Telemetry}
  alias PhoenixGenApi.Structs.{FunConfig, ServiceConfig}
  alias PhoenixGenApi.Test.Directory

  @moduletag :capture_log

  @service "observed"

  @doc false
  # Other services may be pulled meanwhile.
  def forward([:phoenix_gen_api, :config | name], measurements, metadata, pid) do
    if metadata.service in [@service, :all],
      do: send(pid, {:event, name, measurements, metadata})
  end

  setup do
    ConfigDb.clear()
    :ok = Telemetry.attach_config(__MODULE__, &__MODULE__.forward/4, self())

    on_exit(fn ->
      Telemetry.detach_all(__MODULE__)
      ConfigPuller.delete([@service])
      ConfigReceiver.delete_pushed_service(@service)
      ConfigDb.clear()
    end)
  end

  defp config(fields \\ []) do
    struct!(
      %FunConfig{
        service: :observed,
        request_type: "find",
        version: "1.0.0",
        nodes: :local,
        mfa: {String, :trim, []}
      },
      fields
    )
  end

  defp invalid, do: config(timeout: 1)

  defp key(type \\ "find"), do: %{service: @service, request_type: type, version: "1.0.0"}

  # Everything that was fired since the last time, without what differs from run to run.
  defp events do
    receive do
      {:event, name, measurements, metadata} -> [{name, measurements, metadata} | events()]
    after
      0 -> []
    end
  end

  defp push(configs, opts \\ []) do
    pushed = ConfigPusher.from_service_config(@service, [node()], configs, config_version: "7")
    ConfigReceiver.push(pushed, opts)
  end

  defp source(answer, fields \\ []) do
    agent = start_supervised!({Agent, fn -> %{list: answer, version: fn -> "v1" end} end})

    struct!(
      %ServiceConfig{
        service: @service,
        nodes: [node()],
        module: Directory,
        function: :answer,
        args: [agent, :list],
        version_module: Directory,
        version_function: :answer,
        version_args: [agent, :version]
      },
      fields
    )
  end

  defp pulled do
    assert_receive {:event, [:pull, :start], start, started}
    assert_receive {:event, [:pull, :stop], stop, stopped}
    assert Enum.sort(Map.keys(start)) == [:monotonic_time, :system_time]
    assert started == %{service: @service}
    assert Enum.sort(Map.keys(stop)) == [:count, :duration, :duration_us, :monotonic_time]
    assert %{service: @service, version: _, result: _} = stopped
    assert stop.duration_us == System.convert_time_unit(stop.duration, :native, :microsecond)
    {stop.count, stopped.version, stopped.result}
  end

  describe "config, pull" do
    test "starts and stops once, with the number of functions and the version" do
      :ok = ConfigPuller.add([source(fn -> {:ok, [config(), config(request_type: "buy")]} end)])
      assert pulled() == {2, "v1", :ok}
      assert events() == []
    end

    test "stops as skipped when the version is the same" do
      :ok = ConfigPuller.add([source(fn -> {:ok, [config()]} end)])
      assert pulled() == {1, "v1", :ok}
      :ok = ConfigPuller.pull()
      assert pulled() == {0, "v1", :skipped}
    end

    test "stops as an error when the service fails, and counts only what was stored" do
      :ok = ConfigPuller.add([source(fn -> :broken end)])
      assert pulled() == {0, nil, :error}
    end

    test "counts no function that was rejected" do
      :ok =
        ConfigPuller.add([source(fn -> {:ok, [config(), invalid()]} end, version_module: nil)])

      # The last of two with the same key counts, and that one is invalid.
      assert pulled() == {0, nil, :ok}
    end
  end

  describe "config, push" do
    test "is fired once for an accepted push, with the number of functions and the version" do
      assert push([config(), config(request_type: "buy")]) == {:ok, :accepted}
      # Further keys may be added.
      assert [{[:push], %{count: 2}, %{service: @service, version: "7"}}] = events()
    end

    test "is fired again only when the push is stored again" do
      {:ok, :accepted} = push([config()])
      [_] = events()
      {:ok, :skipped, :version_matches} = push([config()])
      assert events() == []
      {:ok, :accepted} = push([config()], force: true)
      assert [{[:push], %{count: 1}, _}] = events()
    end

    test "is not fired for a push that is refused" do
      {:error, _} = push([config(), invalid()])
      {:error, _} = ConfigReceiver.push(:junk)
      assert events() == []
    end
  end

  test "config, add is fired for each config stored by add or update, and for no other" do
    :ok = ConfigDb.add(config())
    assert events() == [{[:add], %{}, key()}]
    :ok = ConfigDb.update(config(timeout: 1_000))
    assert events() == [{[:add], %{}, key()}]
    {:error, _} = ConfigDb.add(invalid())
    {:error, _} = ConfigDb.add(config(mfa: {:os, :cmd, []}))
    assert events() == []
  end

  test "config, batch_add is fired once, with the number stored and the service of the first" do
    {:ok, 2} = ConfigDb.batch_add([invalid(), config(), config(service: "other")])
    assert events() == [{[:batch_add], %{count: 2}, %{service: @service}}]
    {:error, :all_invalid} = ConfigDb.batch_add([invalid()])
    {:error, :all_invalid} = ConfigDb.batch_add([])
    assert events() == []
  end

  for {event, undo} <- [delete: nil, disable: :enable, enable: :disable] do
    test "config, #{event} is fired when something changed, and not otherwise" do
      apply(ConfigDb, unquote(event), [@service, "find", "1.0.0"])
      assert events() == []

      :ok = ConfigDb.add(config())
      if unquote(undo), do: apply(ConfigDb, unquote(undo), [@service, "find", "1.0.0"])
      _ = events()
      :ok = apply(ConfigDb, unquote(event), [:observed, "find", "1.0.0"])
      assert events() == [{[unquote(event)], %{}, key()}]
      apply(ConfigDb, unquote(event), [@service, "find", "1.0.0"])
      assert events() == []
    end
  end

  test "config, clear is fired when something was removed, and says :all" do
    :ok = ConfigDb.clear()
    assert events() == []
    :ok = ConfigDb.add(config())
    _ = events()
    :ok = ConfigDb.clear()
    all = %{service: :all, request_type: :all, version: :all}
    assert events() == [{[:clear], %{}, all}]
  end

  test "what a pull or a push stores and removes is no add, delete or clear" do
    {:ok, :accepted} = push([config(), config(request_type: "buy")])
    {:ok, :accepted} = push([config()], force: true)
    :ok = ConfigReceiver.delete_pushed_service(@service)
    assert Enum.map(events(), &elem(&1, 0)) == [[:push], [:push]]
  end

  test "an unversioned config is 0.0.0 in its events" do
    :ok = ConfigDb.add(config(version: nil))
    :ok = ConfigDb.disable(@service, "find")
    :ok = ConfigDb.enable(@service, "find")
    :ok = ConfigDb.delete(@service, "find")

    for {name, _, metadata} <- events(),
        do: assert({name, metadata.version} == {name, "0.0.0"})
  end
end
