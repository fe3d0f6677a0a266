defmodule PhoenixGenApi.Channel.ModelTest do
  # Random requests, cancels, deadlines and deaths over one channel, against what may be said of each
  # request whatever happens: it has exactly one final answer, a function of which an answer said that
  # it did not run has not run, and nothing is left behind.
  use PhoenixGenApi.ChannelCase, async: true

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Structs.StreamHelper

  @steps 150

  defmodule Ordered do
    use PhoenixGenApi, event: "api", max_pending: 5, max_running: 6
  end

  defmodule Parallel do
    use PhoenixGenApi, event: "api", concurrency: 3, max_pending: 5, max_running: 6
  end

  defmodule Pushing do
    use PhoenixGenApi, event: "api", concurrency: 3, max_pending: 5, deliver: :push
  end

  defmodule Functions do
    def run(name, test) do
      send(test, {:ran, name, self()})
      obey()
    end

    def feed(name, test, %StreamHelper{} = out) do
      send(test, {:ran, name, self()})
      StreamHelper.send_result(out, 1)
      obey()
      StreamHelper.send_complete(out)
    end

    defp obey do
      receive do
        :return ->
          "done"

        :raise ->
          raise "on purpose"

        :exit ->
          exit(:on_purpose)

        :die ->
          Process.exit(self(), :kill)

        :link ->
          spawn_link(fn -> exit(:on_purpose) end)
          Process.sleep(:infinity)
      end
    end
  end

  setup %{service: service} do
    names = [arg_types: %{"name" => :string}]
    feed = [request_info: true, response_type: :stream] ++ names

    for {type, fields} <- [
          sync: names,
          async: [response_type: :async] ++ names,
          none: [response_type: :none] ++ names,
          # Its function has a process of its own.
          retried: [retry: 1, retry_on: [:node_down]] ++ names,
          stream: feed
        ] do
      function = if type == :stream, do: :feed, else: :run

      mfa = {Functions, function, [self()]}
      register(service, "#{type}", [function: nil, mfa: mfa, timeout: :infinity] ++ fields)
    end

    :ok
  end

  for module <- [Ordered, Parallel, Pushing], round <- 1..4 do
    test "each request has one final answer, whatever happens (#{inspect(module)}, #{round})", %{
      service: service
    } do
      :rand.seed(:exsss, {ExUnit.configuration()[:seed], unquote(round), 0})
      channel = join(unquote(module), %{user_id: "ann"})
      state = state(channel, service, unquote(module))
      state = Enum.reduce(1..@steps, state, fn _step, state -> step(state) end)
      state |> finish() |> check()
    end

    test "nothing outlives its channel (#{inspect(module)}, #{round})", %{service: service} do
      :rand.seed(:exsss, {ExUnit.configuration()[:seed], unquote(round), 1})
      transport = spawn(fn -> Process.sleep(:infinity) end)
      channel = join(unquote(module), %{user_id: "ann"}, Verbatim, transport)
      state = state(channel, service, unquote(module))
      state = Enum.reduce(1..30, state, fn _step, state -> step(state) end)
      in_channel(channel)
      end_channel(unquote(round), channel, transport)
      until(fn -> request_processes(channel) == [] and queues(channel) == [] end)
      state = take(state)
      kept = for {_ref, %{type: type, name: name}} <- state.sent, type == "none", do: name

      for {name, pid} <- state.ran do
        if name in kept, do: send(pid, :return)
        until(fn -> not Process.alive?(pid) end)
      end
    end
  end

  defp state(channel, service, module) do
    %{
      channel: channel,
      service: service,
      # Answers that are pushed are known by their ids alone.
      pushes?: module == Pushing,
      sent: %{},
      cancels: %{},
      ran: %{},
      n: 0
    }
  end

  defp end_channel(round, channel, _transport) when round in [1, 2],
    do: Process.exit(channel, :kill)

  # The requests of a client that has gone end ahead of its channel.
  defp end_channel(_round, _channel, transport), do: Process.exit(transport, :kill)

  defp step(state) do
    state = take(state)

    case :rand.uniform(20) do
      n when n <= 9 -> request(state)
      n when n <= 13 -> tell_one(state, Enum.random([:return, :return, :raise, :exit]))
      14 -> tell_one(state, Enum.random([:die, :link]))
      n when n <= 17 -> cancel(state)
      18 -> kill(state, request_processes(state.channel))
      19 -> kill(state, queues(state.channel))
      20 -> in_channel(state.channel, fn -> state end)
    end
  end

  defp request(%{n: n, channel: channel} = state) do
    type = Enum.random(~w(sync sync retried async stream none))
    name = "#{n}"
    id = if type in ["sync", "none"], do: shared_id(state), else: "id#{n}"
    deadline = Enum.random([%{}, %{}, %{"deadline_ms" => 1}, %{"deadline_ms" => 600_000}])
    fields = Map.merge(%{"args" => %{"name" => name}}, deadline)
    ref = push_in(channel, payload(state.service, type, id, fields))
    sent = Map.put(state.sent, ref, %{type: type, id: id, name: name})
    %{state | n: n + 1, sent: sent}
  end

  # Also that of another request, which may be unfinished.
  defp shared_id(%{pushes?: false, n: n}) when n > 0 and rem(n, 3) == 0, do: "id#{n - 1}"
  defp shared_id(_state), do: "s#{:rand.uniform(4)}"

  defp cancel(%{sent: sent} = state) when sent == %{}, do: state

  defp cancel(state) do
    id = (state.sent |> Map.values() |> Enum.random()).id
    ref = push_in(state.channel, %{"request_id" => id, "cancel" => true})
    put_in(state.cancels[ref], id)
  end

  defp tell_one(%{ran: ran} = state, word) do
    if ran != %{}, do: send(ran |> Map.values() |> Enum.random(), word)
    state
  end

  defp kill(state, []), do: state

  defp kill(state, pids) do
    Process.exit(Enum.random(pids), :kill)
    state
  end

  # The functions that have begun meanwhile.
  defp take(state) do
    receive do
      {:ran, name, pid} -> take(put_in(state.ran[name], pid))
    after
      0 -> state
    end
  end

  # Functions return until nothing is left to do.
  defp finish(%{channel: channel} = state) do
    state = take(state)
    for {_name, pid} <- state.ran, do: send(pid, :return)

    if requests(channel) == nil or counts(channel) == {0, 0, 0} do
      # What a function of the pools still does, which nobody waits for.
      for {_name, pid} <- state.ran, do: until(fn -> not Process.alive?(pid) end)
      take(state)
    else
      finish(state)
    end
  end

  defp check(%{channel: channel} = state) do
    until(fn -> request_processes(channel) == [] end)
    await(state, %{}, %{})
    %{delivery: %{connection: {share, _transport, _channel}}} = requests(channel)
    assert Native.client_connection_unfinished(share) == 0
    assert counts(channel) == {0, 0, 0}
  end

  # Until everything has its answers, which may be on their way; then there are no more.
  defp await(state, replies, pushes) do
    case problems(state, replies, pushes) do
      [] ->
        in_channel(state.channel)
        {replies, pushes} = answers(replies, pushes, 0)
        assert problems(state, replies, pushes) == []

      problems ->
        case answers(replies, pushes, 30_000) do
          {^replies, ^pushes} -> flunk(inspect({ExUnit.configuration()[:seed], problems}))
          {replies, pushes} -> await(state, replies, pushes)
        end
    end
  end

  defp problems(state, replies, pushes) do
    cancelled =
      for {ref, id} <- state.cancels, match?([%{cancelled: true}], replies[ref]), do: id

    for(
      {ref, id} <- state.cancels,
      not match?([%{cancelled: _}], replies[ref]),
      do: {:cancel, id, replies[ref]}
    ) ++
      for {ref, sent} <- state.sent,
          got = {replies[ref], Map.get(pushes, sent.id, [])},
          not right?(sent, got, sent.id in cancelled, Map.has_key?(state.ran, sent.name)),
          do: {sent, got}
  end

  # Others may share their id.
  defp right?(%{type: type}, {replies, _pushed}, _cancelled?, _ran?)
       when type in ["sync", "none"],
       do: match?([_reply], replies)

  defp right?(%{type: type}, {[reply], pushed}, cancelled?, ran?) do
    {acknowledgements, others} = Enum.split_with([reply | pushed], &acknowledgement?(&1, type))
    # Items of streams, and receipts, are no final answers.
    finals = Enum.count(others, &match?(%Response{has_more: false}, &1))
    # A cancelled async request sends nothing more, unless its result was on its way.
    none? = type == "async" and acknowledgements != [] and cancelled?

    length(acknowledgements) <= 1 and (finals == 1 or (none? and finals == 0)) and
      not (ran? and Enum.any?(others, &not_run?/1))
  end

  defp right?(_sent, _got, _cancelled?, _ran?), do: false

  defp acknowledgement?(%Response{async: true} = response, "stream"), do: response.result == :init
  defp acknowledgement?(response, "async"), do: match?(%Response{async: true}, response)
  defp acknowledgement?(_response, _type), do: false

  defp not_run?(%Response{details: [%{"executed" => "no"}]}), do: true
  defp not_run?(%Response{code: "duplicate_request_id"}), do: true
  defp not_run?(_response), do: false

  # By ref, and by id.
  defp answers(replies, pushes, wait_ms) do
    receive do
      {:reply, ref, _status, reply} ->
        answers(Map.update(replies, ref, [reply], &[reply | &1]), pushes, 0)

      {:push, "api", %{request_id: id} = response} ->
        answers(replies, Map.update(pushes, id, [response], &[response | &1]), 0)
    after
      wait_ms -> {replies, pushes}
    end
  end
end
