defmodule PhoenixGenApi.ConfigReceiver.Exchange do
  @moduledoc false
  # What gateways tell each other about pushes. Everything here runs in the process of who asks,
  # on the other gateway in a process that `:erpc` starts for it: no process is shared, and
  # what one service needs holds up no other.
  #
  # Registers are small and are sent; contents are large and are fetched by who lacks them, so
  # that the same push to several gateways crosses the network once for each of them.

  alias PhoenixGenApi.Cluster
  alias PhoenixGenApi.ConfigReceiver.{Intake, Pushed, Register, Replicator, Turn}
  alias PhoenixGenApi.Excerpt
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Telemetry

  require Logger

  # How long a push waits for the other gateways: less than a pusher waits for its answer.
  @spread_timeout_ms 3_000
  @small_timeout_ms 5_000
  @content_timeout_ms 30_000

  @doc """
  Has every connected gateway take in what is known of a service.

  Returns when all have, or after three seconds; who has not by then catches up in the
  background, and is waited for again when it has.
  """
  @spec spread(String.t(), Register.t()) :: :ok
  def spread(service, register) do
    behind = Pushed.all_behind()
    {late, others} = Enum.split_with(Cluster.gateways(), &(&1 in behind))
    Enum.each(late, &Replicator.behind/1)
    if others == [], do: :ok, else: spread(others, service, register)
  end

  # In a process of its own: connections may just be breaking, and making one can take longer.
  defp spread(nodes, service, register) do
    {_pid, monitor} =
      spawn_monitor(fn ->
        args = [node(), service, register]

        nodes
        |> :erpc.multicall(__MODULE__, :accept, args, @spread_timeout_ms)
        |> Enum.zip(nodes)
        |> Enum.each(fn {result, node} ->
          if result != {:ok, :ok}, do: Replicator.behind(node)
        end)
      end)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    after
      @spread_timeout_ms + 500 -> Process.demonitor(monitor, [:flush]) && :ok
    end
  end

  @doc "Takes in what another gateway knows of a service."
  @spec accept(node(), String.t(), Register.t()) :: :ok | {:error, term()}
  def accept(from, service, register) do
    Intake.log_here()

    with {:ok, _table} <- Gateway.handle(:config_db),
         # Before the turn: others must not wait for the network.
         {:ok, contents} <- lacking(from, service, register) do
      Turn.run(service, fn -> merge(from, service, register, contents) end)
    end
  end

  @doc "Makes this gateway and another one know the same. A process that fails to exits."
  @spec run(node()) :: :ok
  def run(node) do
    case call(node, :compare, [Pushed.summary(Pushed.stamps())]) do
      :same -> :ok
      {:different, theirs} -> reconcile(node, theirs)
    end
  catch
    kind, reason -> exit({:shutdown, Excerpt.reason(kind, reason)})
  end

  @doc "Asked by another gateway: whether this one knows the same, or else what."
  @spec compare(binary()) :: :same | {:different, %{String.t() => binary()}}
  def compare(summary) do
    stamps = Pushed.stamps()
    if Pushed.summary(stamps) == summary, do: :same, else: {:different, stamps}
  end

  defp reconcile(node, theirs) do
    ours = Pushed.stamps()

    {known, unknown} =
      ours
      |> Map.merge(theirs)
      |> Map.keys()
      |> Enum.filter(&(ours[&1] != theirs[&1]))
      |> Enum.split_with(&is_map_key(theirs, &1))

    registers = call(Pushed, node, :registers, [known], @small_timeout_ms)
    for {service, register} <- registers, do: :ok = accept(node, service, register)

    for service <- known ++ unknown,
        %{register: register} = Pushed.entry(service),
        register != registers[service],
        do:
          :ok = call(__MODULE__, node, :accept, [node(), service, register], @content_timeout_ms)

    :ok
  end

  defp lacking(from, service, register) do
    known = for %{dot: dot} <- Pushed.entry(service).register.live, do: dot

    Enum.reduce_while(register.live, {:ok, %{}}, fn %{dot: dot, digest: digest},
                                                    {:ok, contents} ->
      if dot in known or is_map_key(contents, digest) or Pushed.content(service, digest) != :error do
        {:cont, {:ok, contents}}
      else
        case call(Pushed, from, :content, [service, digest], @content_timeout_ms) do
          {:ok, content} -> {:cont, {:ok, Map.put(contents, digest, content)}}
          # Replaced in the meantime: what replaced it is on its way.
          :error -> {:halt, {:error, :replaced}}
        end
      end
    end)
  end

  defp merge(from, service, register, contents) do
    entry = Pushed.entry(service)

    case Register.merge(entry.register, register) do
      known when known == entry.register ->
        :ok

      merged ->
        with :ok <- complete(service, merged, contents),
             {:ok, entry} <- settle(from, service, %{entry | register: merged}, contents),
             do: Pushed.put(service, entry, contents)
    end
  end

  # What was here when the contents were fetched may have gone with a push since.
  defp complete(service, %{live: live}, contents) do
    if Enum.all?(live, &match?({:ok, _}, content(service, &1.digest, contents))),
      do: :ok,
      else: {:error, :replaced}
  end

  # The functions of the winner are stored before the register says so: who is killed in
  # between does it again.
  defp settle(from, service, %{applied: applied} = entry, contents) do
    case Register.winner(entry.register) do
      nil ->
        if applied, do: Intake.remove(service)
        {:ok, %{entry | applied: nil, refused: nil}}

      ^applied ->
        {:ok, entry}

      %{dot: dot} when dot == entry.refused ->
        {:ok, entry}

      %{digest: digest} = winner ->
        # The same push at several gateways at once is one.
        if match?(%{digest: ^digest}, applied) and applied in entry.register.live,
          do: {:ok, %{entry | applied: winner, refused: nil}},
          else: apply_push(from, service, winner, entry, contents)
    end
  end

  defp apply_push(from, service, winner, entry, contents) do
    with {:ok, content} <- content(service, winner.digest, contents) do
      case content |> Pushed.unpack() |> Intake.normalise() |> Intake.store(from) do
        {:ok, count} ->
          announce(service, winner.version, count, from)
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
         :error <- Pushed.content(service, digest),
         do: {:error, :replaced}
  end

  @doc "Says that a push was stored here; `gateway` is the one that accepted it."
  @spec announce(String.t(), String.t(), pos_integer(), node()) :: :ok
  def announce(service, version, count, gateway) do
    Telemetry.execute([:phoenix_gen_api, :config, :push], %{count: count}, %{
      service: service,
      version: version,
      gateway: gateway
    })

    by = if gateway == node(), do: "accepted", else: "taken over from #{gateway}"
    Logger.info("push of service #{service} #{version} #{by}, #{count} functions")
  end

  defp call(node, function, args), do: call(__MODULE__, node, function, args, @small_timeout_ms)

  defp call(module, node, function, args, timeout),
    do: :erpc.call(node, module, function, args, timeout)
end
