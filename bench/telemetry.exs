Code.require_file("support/harness.ex", __DIR__)
Code.require_file("support/gateway.ex", __DIR__)

defmodule Bench.Telemetry do
  @moduledoc """
  What the events cost: a build with `:telemetry` and one without it take turns, as the same
  modules loaded in two versions. Without a Hex repository the `:telemetry` is the stand-in of
  the tests, which does as much as the library does for an event that nobody listens to.
  """

  import Bench.Harness

  alias Bench.Gateway
  alias PhoenixGenApi.{ConfigDb, Executor, Hooks, RateLimiter, Telemetry, WorkerPool}
  alias PhoenixGenApi.Structs.Request

  # The modules that are compiled differently with and without the library.
  @sources [telemetry: Telemetry, rate_limiter: RateLimiter]
  @handler "bench-telemetry"
  @event [:phoenix_gen_api, :executor, :request, :stop]

  def run do
    unless Code.ensure_loaded?(:telemetry),
      do: Code.require_file("../test/support/telemetry.ex", __DIR__)

    builds = %{without: build("no_telemetry_here"), with: build("telemetry")}
    load(builds.with)
    # Somebody always listens to something: an empty table is no measure.
    :ok = :telemetry.attach("bench-other", [:other], &__MODULE__.ignore/4, nil)
    delivers!()

    subjects = subjects()
    figures(Enum.flat_map(subjects, &measure(&1, builds)) ++ event())
  end

  defp measure({name, fun, input, limit}, builds) do
    # The same work in all builds.
    load(builds.without)
    before = shape(fun.(input))
    load(builds.with)
    ^before = shape(fun.(input))

    results =
      compare(
        [
          {"no telemetry", fun, fn -> listen(builds.without, false) end},
          {"nobody listens", fun, fn -> listen(builds.with, false) end},
          {"one handler", fun, fn -> listen(builds.with, true) end}
        ],
        List.duplicate(input, 100)
      )

    listen(builds.with, false)
    times(name, results)

    [
      {"#{name}, nobody listens, against a build without telemetry",
       {:times, ratio(results, "nobody listens", "no telemetry")}, {:at_most, limit}}
    ]
  end

  defp event do
    metadata = %{request_id: "r", request_type: "t", service: "s", user_id: nil}
    measurements = Telemetry.stop_measurements(System.monotonic_time())

    results =
      compare(
        [
          {":telemetry.execute/3", &:telemetry.execute(@event, measurements, &1)},
          {"Telemetry.execute/3", &Telemetry.execute(@event, measurements, &1)},
          {"measurements of a start", fn _ -> Telemetry.start_measurements() end},
          {"measurements of a stop", fn _ -> Telemetry.stop_measurements(0) end}
        ],
        List.duplicate(metadata, 100)
      )

    times("one event that nobody listens to, and its parts", results)

    [
      {"one event that nobody listens to", {:ns, result(results, "Telemetry.execute/3").median},
       nil},
      {"one event, against :telemetry.execute/3",
       {:times, ratio(results, "Telemetry.execute/3", ":telemetry.execute/3")}, {:at_most, 1.25}}
    ]
  end

  # {name, what is done, to what, at most so many times what it takes without telemetry}
  defp subjects do
    :ok = ConfigDb.add(config("plain", []))
    :ok = ConfigDb.add(config("hooked", before_execute: {__MODULE__, :pass}))
    limit = %{service: "bench", request_type: "limited", key: :user_id}
    limit = Map.merge(limit, %{max_requests: 1_000_000, window_ms: 1})
    :ok = RateLimiter.update_config(%{api_limits: [limit]})
    hooked = config("hooked", before_execute: {__MODULE__, :pass})

    [
      {"execute!", &Executor.execute!/1, request("plain"), 1.2},
      {"execute! of a function that is not registered", &Executor.execute!/1, request("none"),
       2.5},
      {"check_rate_limit, one limit", &RateLimiter.check_rate_limit/1, request("limited"), 2.5},
      {"a before hook", &Hooks.run_before({__MODULE__, :pass}, &1, hooked), request("hooked"),
       1.2},
      {"ConfigDb.add", &ConfigDb.add/1, hooked, 1.1},
      {"WorkerPool.execute_async", &task/1, self(), 1.2}
    ]
  end

  def pass(request, config), do: {:ok, request, config}
  def ignore(_event, _measurements, _metadata, _config), do: :ok

  defp task(_input) do
    me = self()
    :ok = WorkerPool.execute_async(:async_pool, fn -> send(me, :done) end)

    receive do
      :done -> :ok
    end
  end

  defp config(type, fields) do
    Gateway.config(
      [
        service: "bench",
        request_type: type,
        nodes: :local,
        arg_types: %{"text" => :string},
        arg_orders: ["text"]
      ] ++ fields
    )
  end

  defp request(type) do
    %Request{
      request_id: "r1",
      service: "bench",
      request_type: type,
      user_id: "user-17",
      args: %{"text" => "grace"}
    }
  end

  defp shape(%{success: success}), do: success
  defp shape({:ok, _request, _config}), do: :ok
  defp shape(other), do: other

  # The modules as they are compiled where `telemetry` is the name of the library.
  defp build(telemetry) do
    Code.put_compiler_option(:ignore_module_conflict, true)

    for {name, module} <- @sources do
      code = name |> path() |> File.read!() |> String.replace("(:telemetry)", "(:#{telemetry})")
      {^module, beam} = code |> Code.compile_string(path(name)) |> List.keyfind(module, 0)
      {name, module, beam}
    end
  end

  defp path(name), do: Path.expand("../lib/phoenix_gen_api/#{name}.ex", __DIR__)

  defp listen(build, listen?) do
    load(build)
    :telemetry.detach(@handler)
    names = Telemetry.list_events()
    if listen?, do: :telemetry.attach_many(@handler, names, &__MODULE__.ignore/4, nil)
  end

  defp load(build) do
    for {name, module, beam} <- build do
      :code.purge(module)
      {:module, ^module} = :code.load_binary(module, String.to_charlist(path(name)), beam)
    end
  end

  defp delivers! do
    me = self()
    :ok = :telemetry.attach(@handler, @event, fn _, _, _, _ -> send(me, :seen) end, nil)
    Executor.execute!(request("none"))

    receive do
      :seen -> :telemetry.detach(@handler)
    after
      0 -> raise "the build with telemetry emits nothing"
    end
  end
end

Bench.Telemetry.run()
