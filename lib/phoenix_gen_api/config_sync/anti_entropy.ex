defmodule PhoenixGenApi.ConfigSync.AntiEntropy do
  @moduledoc false
  # What gateways tell each other about pushes. Everything here runs in the process of who asks,
  # on the other gateway in a process that `:erpc` starts for it: no process is shared, and
  # what one service needs holds up no other.
  #
  # Version vectors are small and are sent; contents are large and are fetched by who lacks them, so
  # that the same push to several gateways crosses the network once for each of them.
  #
  # All of it goes through `answer/3`, whatever the versions of the library on both sides. Gateways that
  # know nothing of nodes that join answer `:unknown_request`, and are told the rest.

  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.ConfigSync.{Content, Installer, JoinedNodes, NodeExpiry}
  alias PhoenixGenApi.ConfigSync.{PushStore, VersionVector}
  alias PhoenixGenApi.ConfigSync.ServiceLock.Recovery
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Telemetry
  alias PhoenixGenApi.Log

  require Log

  # What is said below, and what version vectors and contents are. Another one is not understood.
  @protocol 1

  @small_timeout_ms 5_000
  @content_timeout_ms 30_000

  # As `ask_all/3` returns it.
  @unknown {:ok, {:error, :unknown_request}}

  # How many services are asked for at a time.
  @concurrency 8

  # A gateway that has just joined may ask before it is seen.
  @unknown_gateway_step_ms 10
  @unknown_gateway_steps 50

  @type request ::
          {:compare, summary :: binary()}
          | {:vectors, [String.t()]}
          | {:content, String.t(), digest :: binary()}
          | {:accept, String.t(), VersionVector.t()}
          | {:accept, String.t(), VersionVector.t(), JoinedNodes.row()}
          | {:joined, summary :: binary()}
          | {:join, %{String.t() => JoinedNodes.row()}}

  @doc "Answers another gateway. Nodes that are none learn nothing and change nothing."
  @spec answer(pos_integer(), node(), request()) ::
          {:ok, term()} | {:error, {:protocol, pos_integer()} | :unknown_request | :not_a_gateway}
  def answer(@protocol, from, request) do
    if gateway?(from, @unknown_gateway_steps),
      do: reply(request, from),
      else: {:error, :not_a_gateway}
  end

  def answer(_other, _from, _request), do: {:error, {:protocol, @protocol}}

  # Whom a push is not told must have been seen before it asks what there is.
  defp gateway?(from, steps) do
    cond do
      from in Cluster.gateways() ->
        true

      steps == 0 ->
        false

      true ->
        receive do
        after
          @unknown_gateway_step_ms -> gateway?(from, steps - 1)
        end
    end
  end

  defp reply({:compare, summary}, _from) do
    stamps = PushStore.stamps()
    {:ok, if(PushStore.summary(stamps) == summary, do: :same, else: {:different, stamps})}
  end

  defp reply({:vectors, services}, _from), do: {:ok, PushStore.vectors(services)}
  defp reply({:content, service, digest}, _from), do: {:ok, PushStore.content(service, digest)}
  defp reply({:accept, service, vector}, from), do: {:ok, accept(from, service, vector)}

  defp reply({:accept, service, vector, joined}, from),
    do: {:ok, accept(from, service, vector, joined)}

  defp reply({:joined, summary}, _from) do
    rows = JoinedNodes.rows()
    {:ok, if(JoinedNodes.summary(rows) == summary, do: :same, else: {:different, rows})}
  end

  defp reply({:join, rows}, _from) do
    Installer.log_on_this_node()
    {:ok, Enum.each(rows, &join/1)}
  end

  defp reply(_other, _from), do: {:error, :unknown_request}

  @doc "Asks gateways the same at once; what each has answered, or how it failed to, in their order."
  @spec ask_all([node()], request(), timeout()) :: [term()]
  def ask_all(nodes, request, timeout),
    do: :erpc.multicall(nodes, __MODULE__, :answer, [@protocol, node(), request], timeout)

  @doc "The same for what is known of a service, with the nodes that have joined it."
  @spec tell_all([node()], String.t(), VersionVector.t(), timeout()) :: [term()]
  def tell_all(nodes, service, vector, timeout) do
    case JoinedNodes.row(service) do
      nil ->
        ask_all(nodes, {:accept, service, vector}, timeout)

      joined ->
        answers = ask_all(nodes, {:accept, service, vector, joined}, timeout)
        older = for {node, @unknown} <- Enum.zip(nodes, answers), do: node
        again = ask_all(older, {:accept, service, vector}, timeout)
        {answers, []} = Enum.map_reduce(answers, again, &instead_of_unknown/2)
        answers
    end
  end

  defp instead_of_unknown(@unknown, [answer | again]), do: {answer, again}
  defp instead_of_unknown(answer, again), do: {answer, again}

  defp accept(from, service, vector, joined \\ nil) do
    Installer.log_on_this_node()

    with {:ok, _table} <- Gateway.handle(:config_db),
         # Before taking the lock: others must not wait for the network.
         {:ok, contents} <- fetch_missing(from, service, vector) do
      Recovery.run(service, fn ->
        with :ok <- merge(from, service, vector, contents),
             do: if(joined, do: merge_joined(service, joined), else: :ok)
      end)
    end
  end

  defp join({service, joined}), do: Recovery.run(service, fn -> merge_joined(service, joined) end)

  # Only of the content that counts here. The nodes of the push itself have its functions already.
  defp merge_joined(service, {fingerprint, joined}) do
    %{vector: vector, applied: applied} = PushStore.entry(service)

    with %{digest: digest} = winner <- VersionVector.winner(vector),
         {:ok, %{fingerprint: ^fingerprint, nodes: nodes}} <- PushStore.outline(service, digest) do
      PushStore.mark_dirty(service)
      new = JoinedNodes.merge(service, fingerprint, joined)
      NodeExpiry.watch(new)

      if winner == applied and Enum.any?(new, &(Atom.to_string(&1) not in nodes)),
        do: Installer.update_nodes(service, applied),
        else: PushStore.clear_dirty(service)
    end

    :ok
  end

  @doc """
  Makes this gateway and another one know the same. A process that fails to exits, with
  `{:shutdown, :protocol}` where they do not understand each other.
  """
  @spec run(node()) :: :ok
  def run(node) do
    case ask(node, {:compare, PushStore.summary(PushStore.stamps())}) do
      :same -> :ok
      {:different, theirs} -> reconcile(node, theirs)
    end

    exchange_joined(node)
  catch
    :throw, {:protocol, _theirs} -> exit({:shutdown, :protocol})
    kind, reason -> exit({:shutdown, SafeInspect.reason(kind, reason)})
  end

  defp reconcile(node, theirs) do
    ours = PushStore.stamps()
    all = ours |> Map.merge(theirs) |> Map.keys()
    different = Enum.filter(all, &(ours[&1] != theirs[&1]))
    vectors = ask(node, {:vectors, Enum.filter(different, &is_map_key(theirs, &1))})

    # One that cannot be exchanged holds up no other.
    different
    |> Task.async_stream(&{&1, exchange(node, &1, vectors[&1])},
      max_concurrency: @concurrency,
      ordered: false,
      timeout: :infinity
    )
    |> Enum.flat_map(fn {:ok, {service, result}} ->
      if result == :ok, do: [], else: ["#{service}: #{SafeInspect.inspect(result, 100)}"]
    end)
    |> case do
      [] -> :ok
      failed -> throw(SafeInspect.list(failed, 3))
    end
  end

  defp exchange(node, service, theirs) do
    with :ok <- if(theirs, do: accept(node, service, theirs), else: :ok) do
      case PushStore.entry(service).vector do
        ^theirs -> :ok
        ours -> ask(node, {:accept, service, ours}, @content_timeout_ms)
      end
    end
  catch
    kind, reason -> SafeInspect.reason(kind, reason)
  end

  defp exchange_joined(node) do
    case request(node, {:joined, JoinedNodes.summary(JoinedNodes.rows())}, @small_timeout_ms) do
      {:ok, :same} ->
        :ok

      {:ok, {:different, theirs}} ->
        Enum.each(theirs, &join/1)
        ours = Map.reject(JoinedNodes.rows(), fn {service, row} -> theirs[service] == row end)
        if ours == %{}, do: :ok, else: ask(node, {:join, ours}, @content_timeout_ms)

      {:error, :unknown_request} ->
        :ok

      {:error, reason} ->
        throw(reason)
    end
  end

  # Of what counts once both are known: what was replaced or deleted need not travel.
  defp fetch_missing(from, service, vector) do
    %{live: live} = VersionVector.merge(PushStore.entry(service).vector, vector)

    Enum.reduce_while(live, {:ok, %{}}, fn %{digest: digest}, {:ok, contents} ->
      if is_map_key(contents, digest) or PushStore.content(service, digest) != :error do
        {:cont, {:ok, contents}}
      else
        case ask(from, {:content, service, digest}, @content_timeout_ms) do
          {:ok, content} -> {:cont, {:ok, Map.put(contents, digest, content)}}
          # Replaced in the meantime: what replaced it is on its way.
          :error -> {:halt, {:error, :replaced}}
        end
      end
    end)
  end

  defp merge(from, service, vector, contents) do
    entry = PushStore.entry(service)

    case VersionVector.merge(entry.vector, vector) do
      known when known == entry.vector ->
        :ok

      merged ->
        with :ok <- check_contents(service, merged, contents),
             {:ok, entry} <- apply_winner(from, service, %{entry | vector: merged}, contents) do
          PushStore.put(service, entry, contents, outlines(entry, contents))
          if JoinedNodes.any?(service), do: keep_joined(service, VersionVector.winner(merged))
          :ok
        end
    end
  end

  # Of what is stored, for all the questions to come.
  defp outlines(%{applied: %{digest: digest}}, contents) when is_map_key(contents, digest),
    do: %{digest => contents[digest] |> PushStore.unpack() |> Content.outline()}

  defp outlines(_nothing_new, _contents), do: %{}

  defp keep_joined(service, %{digest: digest}) do
    with {:ok, %{fingerprint: fingerprint}} <- PushStore.outline(service, digest),
         do: JoinedNodes.keep(service, fingerprint)
  end

  defp keep_joined(_service, nil), do: :ok

  # What was here when the contents were fetched may have gone with a push since.
  defp check_contents(service, %{live: live}, contents) do
    if Enum.all?(live, &match?({:ok, _}, content(service, &1.digest, contents))),
      do: :ok,
      else: {:error, :replaced}
  end

  # The functions of the winner are stored before the vector says so: who is killed in
  # between does it again.
  defp apply_winner(from, service, %{applied: applied} = entry, contents) do
    case VersionVector.winner(entry.vector) do
      nil ->
        if applied, do: Installer.remove(service)
        {:ok, %{entry | applied: nil, refused: nil}}

      ^applied ->
        {:ok, entry}

      %{dot: dot} when dot == entry.refused ->
        {:ok, entry}

      %{digest: digest} = winner ->
        # The same push at several gateways at once is one.
        if match?(%{digest: ^digest}, applied) and applied in entry.vector.live,
          do: {:ok, %{entry | applied: winner, refused: nil}},
          else: apply_push(from, service, winner, entry, contents)
    end
  end

  defp apply_push(from, service, winner, entry, contents) do
    # What code on this gateway has pushed may come back from another one, as the same push.
    source =
      if match?(%{digest: digest} when digest == winner.digest, entry.applied),
        do: :accepted_before,
        else: :another_node

    with {:ok, content} <- content(service, winner.digest, contents) do
      push = content |> PushStore.unpack() |> Installer.normalise()

      case Installer.store(push, from, source) do
        {:ok, count} ->
          log_installed(service, winner.version, count, from)
          {:ok, %{entry | applied: winner, refused: nil}}

        {:error, {:validation_failed, _logged}} ->
          {:ok, %{entry | refused: winner.dot}}

        {:error, :not_running} = error ->
          error
      end
    end
  end

  defp content(service, digest, contents) do
    with :error <- Map.fetch(contents, digest),
         :error <- PushStore.content(service, digest),
         do: {:error, :replaced}
  end

  @doc "Says that a push was stored here; `gateway` is the one that accepted it."
  @spec log_installed(String.t(), String.t(), pos_integer(), node()) :: :ok
  def log_installed(service, version, count, gateway) do
    Telemetry.execute([:phoenix_gen_api, :config, :push], %{count: count}, %{
      service: service,
      version: version,
      gateway: gateway
    })

    by = if gateway == node(), do: "accepted", else: "taken over from #{gateway}"
    Log.info("push of service #{service} #{version} #{by}, #{count} functions")
  end

  defp ask(node, request, timeout \\ @small_timeout_ms) do
    case request(node, request, timeout) do
      {:ok, reply} -> reply
      {:error, reason} -> throw(reason)
    end
  end

  defp request(node, request, timeout),
    do: :erpc.call(node, __MODULE__, :answer, [@protocol, node(), request], timeout)
end
