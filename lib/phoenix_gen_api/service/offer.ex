defmodule PhoenixGenApi.Service.Offer do
  @moduledoc false
  # The process of a `PhoenixGenApi.Service` child: offers functions to gateways until it stops.
  #
  # It joins a `:pg` group for each service and its content. Gateways see that, ask for a proof and for the
  # content if they do not know it, and say what became of it. When it stops it leaves the groups first,
  # and ends only when its functions have: see `Service.Drain`.
  #
  # ## Protocol
  #
  #   gateway → service   call {@tag, {:hello, protocols, service, hash, nonce}}
  #                       {:ok, protocol, proof} | {:error, reason}
  #   gateway → service   call {@tag, {:fetch, service, hash}}     {:ok, bytes} | {:error, :unknown}
  #   gateway → service   {@tag, {:verdict, service, hash, gateway, :ok | {:refused, sentences}}}
  #   gateway → service   {@tag, {:left, service, hash, gateway}}  no request chooses this node any more
  use GenServer

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Service.{Content, Drain, Proof, Scope}
  alias PhoenixGenApi.ServiceGuard
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.UndefinedFunctions

  require Log

  # Also in `Offers.Protocol`, the other end.
  @tag :phoenix_gen_api_offer
  @protocols [1]
  # The supervisor of the library's application, spelt so that this does not depend on all that it starts.
  @library Module.concat(["PhoenixGenApi", "Supervisor"])

  @watch_ms 500
  @reconnect_ms 1_000
  # Sentences that a line shows.
  @named 5

  @enforce_keys [:apis, :functions, :gateways, :drain_ms, :watch]
  defstruct [
    :apis,
    :functions,
    :gateways,
    :drain_ms,
    :watch,
    :scope,
    :watched,
    :name,
    offers: %{},
    known: [],
    verdicts: %{},
    waiting: []
  ]

  @doc false
  @spec tag() :: atom()
  def tag, do: @tag

  @spec start_link(map(), GenServer.options()) :: GenServer.on_start()
  def start_link(opts, options \\ []), do: GenServer.start_link(__MODULE__, opts, options)

  @doc "What the gateways say of the service, when each of them has said something or time is up."
  @spec await(pid(), String.t(), non_neg_integer()) ::
          :ok | {:error, :no_gateway | %{node() => term()}}
  def await(pid, service, timeout) do
    GenServer.call(pid, {:await, service, timeout}, :infinity)
  catch
    :exit, _ended -> {:error, :no_gateway}
  end

  @impl true
  def init(opts) do
    Process.flag(:trap_exit, true)
    state = struct!(__MODULE__, Map.take(opts, [:apis, :functions, :gateways, :drain_ms, :watch]))

    with {:ok, offers} <- collect(state),
         {:ok, state} <- enter(%{state | name: node()}) do
      :ok = :net_kernel.monitor_nodes(true, node_type: :visible)
      if not Node.alive?(), do: say_unnamed()
      if state.watch, do: Process.send_after(self(), :look, @watch_ms)
      if is_list(state.gateways), do: send(self(), :connect)
      {:ok, offer(%{state | watched: fingerprints(state)}, offers)}
    else
      {:error, reason} -> {:stop, reason}
    end
  end

  defp say_unnamed do
    Log.warning(
      "distribution is off, this node has no name: only a gateway on this node sees what it offers, " <>
        "others once it has a name"
    )
  end

  # Also after the scope was restarted, which has forgotten who was in it.
  defp enter(state) do
    with {:ok, scope} <- Scope.ensure(@library) do
      Process.monitor(scope)
      {ref, gateways} = Scope.watch_gateways()
      {:ok, %{state | scope: ref, known: gateways}}
    end
  end

  # What the modules say now, checked.
  defp collect(%{apis: apis, functions: functions}) do
    functions =
      Enum.map(Enum.flat_map(apis, & &1.__gen_api__()) ++ functions, &FunConfig.complete/1)

    case {invalid(functions), UndefinedFunctions.here(own(functions))} do
      {[], []} ->
        ServiceGuard.register(functions)
        {:ok, functions |> Enum.group_by(&to_string(&1.service)) |> Map.new(&packed/1)}

      {[], undefined} ->
        names = for config <- undefined, uniq: true, do: UndefinedFunctions.name(config)
        {:error, {:undefined_functions, names}}

      {sentences, _undefined} ->
        {:error, {:invalid_functions, sentences}}
    end
  end

  defp packed({service, functions}) do
    {hash, bytes} = Content.pack(functions)
    {service, %{hash: hash, bytes: bytes, functions: functions}}
  end

  defp invalid([]), do: ["no function is offered"]

  defp invalid(functions) do
    broken =
      for config <- functions,
          {:error, sentences} <- [FunConfig.validate_with_details(config)],
          sentence <- sentences,
          do: "#{label(config)}: #{sentence}"

    keys = Enum.frequencies_by(functions, &{to_string(&1.service), Content.key(&1)})

    twice =
      for {{service, {type, version}}, n} when n > 1 <- keys,
          do: "#{service} #{type} #{version}: is listed more than once"

    broken ++ Enum.sort(twice)
  end

  defp label(config),
    do: SafeInspect.text("#{config.service} #{config.request_type} #{FunConfig.version(config)}")

  # What is to run on this node.
  defp own(functions) do
    Enum.filter(functions, fn
      %{nodes: :service} -> true
      %{nodes: nodes} when is_list(nodes) -> node() in nodes or Atom.to_string(node()) in nodes
      %{nodes: _elsewhere} -> false
    end)
  end

  defp offer(state, offers) do
    Drain.open(functions(offers))
    for {service, %{hash: hash}} <- changed(offers, state.offers), do: Scope.join({service, hash})

    for {service, %{hash: hash}} <- changed(state.offers, offers),
        do: Scope.leave({service, hash})

    kept = for {service, %{hash: hash}} <- offers, do: {service, hash}

    verdicts =
      Map.filter(state.verdicts, fn {{service, hash, _}, _} -> {service, hash} in kept end)

    settle(%{state | offers: offers, verdicts: verdicts})
  end

  defp changed(offers, others),
    do: Enum.reject(offers, fn {service, %{hash: hash}} -> others[service][:hash] == hash end)

  defp functions(offers),
    do: for({_service, offer} <- offers, config <- offer.functions, do: config)

  @impl true
  def handle_call({@tag, {:hello, _, service, hash, _} = request}, {caller, _tag}, state) do
    case answer(request, node(caller), state) do
      {:ok, _protocol, _proof} = answer ->
        # What it has said before does not count while it asks.
        verdicts = Map.delete(state.verdicts, {service, hash, node(caller)})
        {:reply, answer, %{state | verdicts: verdicts}}

      error ->
        {:reply, error, state}
    end
  end

  def handle_call({@tag, request}, {caller, _tag}, state),
    do: {:reply, answer(request, node(caller), state), state}

  def handle_call({:await, service, timeout}, from, state) do
    timer = Process.send_after(self(), {:give_up, from}, timeout)
    {:noreply, settle(%{state | waiting: [{from, service, timer} | state.waiting]})}
  end

  # Nonsense is answered, too: it must not end this process, nor show the token in the report of a crash.
  defp answer({:hello, protocols, service, hash, nonce}, gateway, state)
       when length(protocols) >= 0 and is_binary(nonce) do
    protocol = Enum.find(@protocols, &(&1 in protocols))

    cond do
      protocol == nil -> {:error, {:protocols, @protocols}}
      state.offers[service][:hash] != hash -> {:error, :unknown}
      not for_gateway?(state, gateway) -> {:error, :for_others}
      true -> {:ok, protocol, Proof.answer(token(), nonce, hash, node())}
    end
  end

  defp answer({:fetch, service, hash}, gateway, state) do
    case state.offers[service] do
      %{hash: ^hash, bytes: bytes} ->
        if for_gateway?(state, gateway), do: {:ok, bytes}, else: {:error, :unknown}

      _other ->
        {:error, :unknown}
    end
  end

  # Of a version of the library that asks for more.
  defp answer(_request, _gateway, _state), do: {:error, {:protocols, @protocols}}

  defp token, do: Application.get_env(:phoenix_gen_api, :push_token)

  defp for_gateway?(%{gateways: :auto}, _gateway), do: true
  defp for_gateway?(%{gateways: gateways}, gateway), do: gateway in gateways

  @impl true
  def handle_info({@tag, {:verdict, service, hash, gateway, verdict}}, state)
      when is_atom(gateway) do
    if verdict?(verdict) and state.offers[service][:hash] == hash do
      log(verdict, service, gateway)
      verdicts = Map.put(state.verdicts, {service, hash, gateway}, verdict)
      {:noreply, settle(%{state | verdicts: verdicts})}
    else
      {:noreply, state}
    end
  end

  def handle_info({ref, change, _group, pids}, %{scope: ref} = state)
      when change in [:join, :leave] do
    known = if change == :join, do: state.known ++ pids, else: state.known -- pids

    # What watches the offers there may have been restarted: as long as the node is connected it has what
    # it had, or asks again.
    nodes = [node() | Node.list()]
    verdicts = Map.filter(state.verdicts, fn {{_, _, gateway}, _} -> gateway in nodes end)
    {:noreply, settle(%{state | known: known, verdicts: verdicts})}
  end

  # That of the scope, the only one.
  def handle_info({:DOWN, _monitor, :process, _scope, _reason}, state),
    do: {:noreply, again(state)}

  def handle_info(:again, state), do: {:noreply, again(state)}

  def handle_info({:give_up, from}, state) do
    {given_up, waiting} = Enum.split_with(state.waiting, &(elem(&1, 0) == from))

    for {from, service, _timer} <- given_up,
        do: GenServer.reply(from, said(state, service, :timeout))

    {:noreply, %{state | waiting: waiting}}
  end

  # A node that has got a name is another one to its gateways.
  def handle_info({:nodeup, _node, _info}, %{name: name} = state) when name != node() do
    offers = state.offers
    for {service, %{hash: hash}} <- offers, do: Scope.leave({service, hash})
    {:noreply, offer(%{state | name: node(), offers: %{}, verdicts: %{}}, offers)}
  end

  def handle_info(:connect, %{gateways: gateways} = state) do
    missing = gateways -- [node() | Node.list()]
    # It takes seconds where a host does not answer.
    if missing != [] and Node.alive?(), do: spawn(fn -> Enum.each(missing, &Node.connect/1) end)
    Process.send_after(self(), :connect, @reconnect_ms)
    {:noreply, state}
  end

  def handle_info(:look, state) do
    Process.send_after(self(), :look, @watch_ms)
    {:noreply, reload(state)}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp again(state) do
    case enter(state) do
      {:ok, state} ->
        offers = state.offers
        offer(%{state | offers: %{}, verdicts: %{}}, offers)

      {:error, _not_there_yet} ->
        Process.send_after(self(), :again, 100)
        state
    end
  end

  defp reload(state) do
    case fingerprints(state) do
      watched when watched == state.watched ->
        state

      watched ->
        state = %{state | watched: watched}

        case collect(state) do
          {:ok, offers} ->
            offer(state, offers)

          {:error, {_kind, sentences}} ->
            Log.error(
              "what was recompiled is not offered: " <> SafeInspect.list(sentences, @named)
            )

            state
        end
    end
  rescue
    # A module is being replaced.
    UndefinedFunctionError -> state
  end

  defp fingerprints(%{watch: false}), do: nil

  defp fingerprints(%{apis: apis}) do
    for api <- apis, do: if(Code.ensure_loaded?(api), do: api.__info__(:md5))
  end

  defp verdict?({:refused, sentences}) when length(sentences) >= 0,
    do: Enum.all?(sentences, &is_binary/1)

  defp verdict?(verdict), do: verdict == :ok

  defp log({:refused, sentences}, service, gateway) do
    sentences = Enum.map(sentences, &SafeInspect.text/1)

    Log.error(
      "gateway #{gateway} refuses what this node offers of service #{SafeInspect.name(service)}: " <>
        SafeInspect.list(sentences, @named)
    )
  end

  defp log(:ok, service, gateway),
    do: Log.info("gateway #{gateway} has service #{SafeInspect.name(service)} of this node")

  # Answers who waits, as soon as there is nothing to wait for.
  defp settle(state) do
    {settled, waiting} =
      Enum.split_with(state.waiting, fn {_from, service, _timer} ->
        said(state, service, :pending) not in [:pending, {:error, :no_gateway}]
      end)

    for {from, service, timer} <- settled do
      Process.cancel_timer(timer)
      GenServer.reply(from, said(state, service, :pending))
    end

    %{state | waiting: waiting}
  end

  # `unsaid` stands for gateways that have said nothing.
  defp said(state, service, unsaid) do
    hash = state.offers[service][:hash]

    reasons =
      for gateway <- expected(state), do: {gateway, verdict(state, service, hash, gateway)}

    cond do
      reasons == [] ->
        {:error, :no_gateway}

      unsaid == :pending and Enum.any?(reasons, &(elem(&1, 1) == nil)) ->
        :pending

      Enum.all?(reasons, &(elem(&1, 1) == :ok)) ->
        :ok

      true ->
        {:error,
         for({gateway, why} <- reasons, why != :ok, into: %{}, do: {gateway, why || unsaid})}
    end
  end

  defp verdict(state, service, hash, gateway) do
    case state.verdicts[{service, hash, gateway}] do
      {:refused, sentences} -> {:refused, sentences}
      verdict -> verdict
    end
  end

  defp expected(%{gateways: :auto, known: known}), do: known |> Enum.map(&node/1) |> Enum.uniq()
  defp expected(%{gateways: gateways}), do: gateways

  # A crash is no stop: another process takes its place.
  @impl true
  def terminate(reason, state)
      when reason in [:normal, :shutdown] or
             (is_tuple(reason) and elem(reason, 0) == :shutdown) do
    for {service, %{hash: hash}} <- state.offers, do: Scope.leave({service, hash})
    owed = for {{service, hash, gateway}, :ok} <- state.verdicts, do: {service, hash, gateway}
    Drain.run(functions(state.offers), @tag, owed, state.drain_ms)
  end

  def terminate(_crash, _state), do: :ok

  @doc "How long the process has to stop, in ms."
  @spec shutdown_ms(non_neg_integer()) :: pos_integer()
  def shutdown_ms(drain_ms), do: drain_ms + 2_000
end
