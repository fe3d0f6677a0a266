defmodule PhoenixGenApi.GatewaysConvergeClusterTest do
  # Three gateways under 200 random steps, compared after each of them with each other and
  # with an oracle that knows which pushes each gateway has heard of.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{ConfigDb, ConfigReceiver, ConfigSync}
  alias PhoenixGenApi.Test.{Cluster, Gateways}

  @moduletag :capture_log
  @moduletag timeout: 300_000

  @steps 200
  @services ["a", "b", "c"]
  @versions ["1.0.0", "1.2.0", "1.10.0", "2.0.0"]

  # The state: `gateways` by number, nil for one that is dead; `sides`, which numbers are
  # connected; and per gateway what it has heard of, as sets that only grow: pushes, and those
  # that were replaced or deleted. A push is {service, id, version}; its function is named
  # after its id.

  test "three gateways agree, and lose nothing, after every one of #{@steps} random steps" do
    # Another run: CONVERGE_SEED=n mix test …
    seed = String.to_integer(System.get_env("CONVERGE_SEED") || "#{:rand.uniform(1_000_000)}")
    :rand.seed(:exsss, seed)
    gateways = Gateways.start(3)

    state = %{
      gateways: Map.new(Enum.with_index(gateways, 1), fn {gateway, n} -> {n, gateway} end),
      names: Map.new(Enum.with_index(gateways, 1), fn {{_, name}, n} -> {n, name} end),
      sides: [[1, 2, 3]],
      heard: Map.new(1..3, &{&1, nothing()})
    }

    try do
      Enum.reduce(1..@steps, state, fn step, state ->
        {action, state} = step |> step(:rand.uniform(100), state)
        check(share(state), {seed, step, action})
      end)
    rescue
      error ->
        IO.puts("CONVERGE_SEED=#{seed}")
        reraise error, __STACKTRACE__
    end
  end

  defp step(id, chance, state) when chance <= 40 do
    n = Enum.random(alive(state))
    {{:push, n}, push(state, n, id)}
  end

  # Two services at once, through different gateways where there are two.
  defp step(id, chance, state) when chance <= 55 do
    service = Enum.random(@services)

    pushes =
      for n <- Enum.take_random(alive(state), 2), do: {n, {service, "#{id}-#{n}", version()}}

    pushes
    |> Enum.map(fn {n, push} -> Task.async(fn -> send_push(state, n, push) end) end)
    |> Task.await_many(:infinity)

    # Whether one had seen the other is not known from here; neither may be lost to a third.
    {{:two, pushes}, Enum.reduce(pushes, state, fn {n, push}, state -> hear(state, n, push) end)}
  end

  defp step(_id, chance, state) when chance <= 62 do
    n = Enum.random(alive(state))
    service = Enum.random(@services)
    gateway = state.gateways[n]
    :ok = Gateways.call(gateway, ConfigReceiver, :delete_pushed_service, [service])

    {{:delete, n, service},
     update_in(state.heard[n], fn %{pushes: pushes, gone: gone} ->
       seen = for {^service, _, _} = push <- pushes, into: gone, do: push
       %{pushes: pushes, gone: seen}
     end)}
  end

  defp step(_id, chance, state) when chance <= 73 do
    case state do
      %{sides: [[_, _ | _] = all]} ->
        {left, right} = all |> Enum.shuffle() |> Enum.split(1)
        Gateways.cut(on(state, left), on(state, right))
        {{:cut, left}, %{state | sides: [left, right]}}

      _cut_already ->
        {:heal, heal(state)}
    end
  end

  defp step(_id, chance, state) when chance <= 83, do: {:heal, heal(state)}

  # The application alone: what it knew is gone.
  defp step(_id, chance, state) when chance <= 90 do
    n = Enum.random(alive(state))
    gateway = state.gateways[n]
    :ok = Gateways.call(gateway, :application, :stop, [:phoenix_gen_api])
    :ok = Gateways.call(gateway, :application, :start, [:phoenix_gen_api])
    for side <- state.sides, do: Gateways.await_membership(on(state, side))
    {{:restart, n}, put_in(state.heard[n], nothing())}
  end

  # The gateway that has just accepted a push dies.
  defp step(id, chance, state) when chance <= 97 do
    n = Enum.random(alive(state))
    state = push(state, n, id) |> share()
    {{:push_and_kill, n}, if(length(alive(state)) > 1, do: kill(state, n), else: state)}
  end

  defp step(_id, _chance, state) do
    case for {n, nil} <- state.gateways, do: n do
      [n | _] -> {{:start, n}, revive(state, n)}
      [] -> {:heal, heal(state)}
    end
  end

  defp push(state, n, id) do
    push = {Enum.random(@services), "#{id}", version()}
    send_push(state, n, push)
    hear(state, n, push)
  end

  defp send_push(state, n, {service, id, version}) do
    push_config = Gateways.push_config(service, version, ["f" <> id])
    {:ok, :accepted} = Gateways.push(state.gateways[n], push_config, force: true)
  end

  # It replaces what the gateway had heard of.
  defp hear(state, n, {service, _, _} = push) do
    update_in(state.heard[n], fn %{pushes: pushes, gone: gone} ->
      seen = for {^service, _, _} = other <- pushes, into: gone, do: other
      %{pushes: MapSet.put(pushes, push), gone: seen}
    end)
  end

  defp kill(state, n) do
    :ok = Cluster.stop_peer(state.gateways[n])
    sides = for side <- state.sides, rest = side -- [n], rest != [], do: rest
    state = %{state | sides: sides, gateways: %{state.gateways | n => nil}}
    for side <- sides, do: Gateways.await_membership(on(state, side))
    put_in(state.heard[n], nothing())
  end

  defp revive(state, n) do
    gateway = Gateways.start_one(state.names[n])
    heal(%{state | gateways: %{state.gateways | n => gateway}})
  end

  defp heal(state) do
    everyone = alive(state)
    Gateways.heal(on(state, everyone))
    %{state | sides: [everyone]}
  end

  # Connected gateways have heard of the same.
  defp share(state) do
    Enum.reduce(state.sides, state, fn side, state ->
      heard = for n <- side, do: state.heard[n]

      shared = %{
        pushes: Enum.reduce(heard, MapSet.new(), &MapSet.union(&1.pushes, &2)),
        gone: Enum.reduce(heard, MapSet.new(), &MapSet.union(&1.gone, &2))
      }

      %{state | heard: Map.merge(state.heard, Map.new(side, &{&1, shared}))}
    end)
  end

  defp check(state, context) do
    Enum.reduce(state.sides, state, fn side, state ->
      {versions, functions, _stamps} = agreed(on(state, side), context)

      Enum.reduce(@services, state, fn service, state ->
        %{pushes: pushes, gone: gone} = state.heard[hd(side)]
        live = for {^service, _, _} = push <- MapSet.difference(pushes, gone), do: push
        check_service(state, side, service, live, versions, functions, context)
      end)
    end)
  end

  defp agreed(gateways, context) do
    Gateways.await_agreement(gateways)
  rescue
    _error ->
      flunk(
        "#{inspect(context)}: no agreement: #{inspect(Enum.map(gateways, &Gateways.knows/1))}"
      )
  end

  defp check_service(state, _side, service, [], versions, functions, context) do
    assert {versions[service], functions[service]} == {nil, nil}, inspect(context)
    state
  end

  defp check_service(state, side, service, live, versions, functions, context) do
    assert [{"f" <> id, ["0.0.0"]}] = Map.to_list(functions[service] || %{}), inspect(context)
    winner = Enum.find(live, fn {_, other, _} -> other == id end)
    assert winner, "#{inspect(context)}: #{id} of #{service} is not among #{inspect(live)}"
    assert versions[service] == elem(winner, 2), inspect(context)

    settle(state, side, context, winner, live)
  end

  # Of two pushes at once the later may have seen the earlier one; which it was is now known, if
  # the lower version has won.
  defp settle(state, side, {_seed, _step, {:two, pushes}} = context, winner, live) do
    made = for {_n, push} <- pushes, push in live, do: push
    higher = for push <- live, compare(push, winner) == :gt, do: push
    assert higher -- made == [], inspect({context, live, winner})

    gone =
      if winner in made and length(made) == 2, do: seen_by(winner, side, state, context), else: []

    replace(state, side, gone)
  end

  defp settle(state, _side, context, winner, live) do
    for push <- live, do: assert(compare(push, winner) != :gt, inspect({context, live, winner}))
    state
  end

  # What the vector of any gateway of this side still holds is live.
  defp seen_by({service, _, _}, [n | _] = _side, state, _context) do
    %{live: live} =
      Gateways.call(state.gateways[n], ConfigSync.PushStore, :entry, [service]).vector

    %{pushes: pushes, gone: gone} = state.heard[n]
    known = for {^service, _, _} = push <- MapSet.difference(pushes, gone), do: push

    held =
      for %{digest: digest} <- live do
        {:ok, content} =
          Gateways.call(state.gateways[n], ConfigSync.PushStore, :content, [service, digest])

        "f" <> id = hd(ConfigSync.PushStore.unpack(content).fun_configs).request_type
        id
      end

    for {_, id, _} = push <- known, id not in held, do: push
  end

  defp replace(state, side, gone) do
    Enum.reduce(side, state, fn n, state ->
      update_in(state.heard[n].gone, &MapSet.union(&1, MapSet.new(gone)))
    end)
  end

  defp compare({_, _, a}, {_, _, b}), do: ConfigDb.compare_versions(a, b)

  defp nothing, do: %{pushes: MapSet.new(), gone: MapSet.new()}
  defp version, do: Enum.random(@versions)
  defp alive(state), do: for({n, gateway} <- state.gateways, gateway != nil, do: n)
  defp on(state, numbers), do: for(n <- numbers, do: state.gateways[n])
end
