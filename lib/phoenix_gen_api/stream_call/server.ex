defmodule PhoenixGenApi.StreamCall.Server do
  @moduledoc false
  # The process of one stream: makes frames of what it is sent and sends them to the receiver.
  #
  # It handles its messages in the order of arrival, so the order of each sender is kept. Only
  # while it holds back for a slow receiver does it take what ends a stream out of turn.

  import PhoenixGenApi.Plan, only: [has: 2]

  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.{Attempt, Context, Rolling}
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.RPC.{Credit, ReturnValue}

  alias PhoenixGenApi.StreamCall.{
    ClientCredit,
    Ending,
    Lifetime,
    Mailbox,
    Registry,
    Remote,
    ResultCheck,
    State
  }

  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.WorkerPool

  import Ending

  # Items of more than 256 bytes count as several for the receiver.
  @unit 8

  @doc """
  Lives the stream to its end, in the calling process, and returns what is still to be sent, and
  how the function has crashed if that was the end.

  Its sending and the end of the process should be one step, or a process that is killed between
  them gets a second final frame from whoever notices its death.
  """
  @spec run(State.t()) :: Ending.ended()
  def run(%State{} = stream) do
    Registry.begin(stream.key)
    begin(stream)
  catch
    kind, reason ->
      ErrorResponse.log_bug(kind, reason, __STACKTRACE__)
      # The pool, or the registry, sends the final frame.
      exit({:shutdown, :bug})
  end

  defp begin(%{key: {receiver, id, ref}} = stream) do
    stream = %{stream | receiver: receiver, id: id, ref: ref}

    receive do
      # While it waited for a worker.
      {__MODULE__, :stop} -> stopped(stream)
    after
      0 -> open(stream)
    end
  end

  defp open(%{receiver: receiver, id: id} = stream) do
    # 32 KB. The heap of a process that only passes messages on would stay so small that every
    # dozen of them cost a collection.
    Process.flag(:min_heap_size, 4_000)
    send(receiver, {:stream_started, id, self()})

    stream = %{
      stream
      | monitor: Process.monitor(receiver),
        judged?: Lifetime.judged?(stream.context)
    }

    case Lifetime.remaining(stream.context, stream.since) do
      :infinity -> launch(stream)
      ms when ms > 0 -> launch(%{stream | timer: :erlang.start_timer(ms, self(), :deadline)})
      _none -> failed(stream, Lifetime.expired(stream.context))
    end
  end

  # A receiver that has died while the stream waited for a worker.
  defp launch(%{monitor: monitor, remote: nil} = stream) do
    receive do
      {:DOWN, ^monitor, :process, _receiver, _reason} -> abandoned(stream)
    after
      0 -> choose(stream)
    end
  end

  defp choose(stream) do
    with {:ok, context} <- Attempt.choose(stream.context),
         :ok <- Attempt.check_local_mfa(context) do
      start(stream, context)
    else
      {:error, {:no_node, _reason} = failure} -> refresh(stream, failure)
      {:error, failure} -> failed(stream, failure)
      {:failed, failure} -> failed(stream, failure)
    end
  end

  defp refresh(stream, failure) do
    case Rolling.refresh(stream.context) do
      {:ok, context} -> choose(%{stream | context: context})
      :same -> failed(stream, failure)
      {:error, failure} -> failed(stream, failure)
      {:error, failure, _context} -> failed(stream, failure)
    end
  end

  defp start(stream, %{target: {node, counter}} = context) do
    producer = Remote.producer(context, stream.id, stream.ref, stream.callers)

    case Remote.start(producer, node, counter) do
      :circuit_open when has(context.plan, :local) ->
        failed(stream, {:no_node, Attempt.circuit_open_reason()})

      # It has opened since the node was chosen.
      :circuit_open ->
        choose(%{stream | context: %{context | target: nil}})

      remote ->
        loop(%{stream | context: context, remote: remote}, Mailbox.capacity(stream.receiver))
    end
  end

  # `budget` is the number of frames until the next look at the receiver; a large one counts as
  # several.
  defp loop(%{credit: %ClientCredit{}} = stream, budget), do: credited(stream, budget)
  defp loop(stream, budget) when budget <= 0, do: pause(stream, 0)
  defp loop(%{check: check} = stream, budget) when check != nil, do: checked(stream, budget)

  defp loop(stream, budget) do
    receive do
      {:result, item} ->
        %{receiver: receiver, id: id} = stream = sent(stream)
        item(stream, receiver, id, item, budget)

      message ->
        handle(stream, message, budget)
    end
  end

  # The stream of a function whose items are checked.
  defp checked(stream, budget) do
    receive do
      message ->
        case admitted(stream, message) do
          {stream, {:result, item}} -> stream |> sent() |> send_item(item, budget)
          {stream, message} -> handle(stream, message, budget)
        end
    end
  end

  defp admitted(%{check: check, context: context} = stream, message) do
    {check, message} = ResultCheck.admit(check, context, message)
    {%{stream | check: check}, message}
  end

  # The stream of a client that says how many frames it takes.
  defp credited(%{credit: credit} = stream, budget) do
    case ClientCredit.next(credit) do
      :credit -> starved(stream, 0)
      _any_or_item when budget <= 0 -> pause(stream, 0)
      :any -> any(stream, budget)
      {:send_last, item, _credit} -> finish(stream, last_frame(stream, item))
      {:send, item, credit} -> send_item(%{stream | credit: credit}, item, budget)
    end
  end

  defp any(stream, budget) do
    receive do
      message when stream.check == nil ->
        taken(stream, message, budget)

      message ->
        {stream, message} = admitted(stream, message)
        taken(stream, message, budget)
    end
  end

  defp taken(%{credit: %{timer: timer} = credit} = stream, message, budget) do
    case message do
      {:result, item} ->
        hold(stream, [item], budget)

      {:results, items} ->
        hold(stream, items, budget)

      {:last_result, item} ->
        hold(stream, {:last, item}, budget)

      {__MODULE__, :grant, n} ->
        credited(%{stream | credit: ClientCredit.grant(credit, n)}, budget)

      {:timeout, ^timer, :credit} ->
        failed(stream, {:no_credit, credit.timeout_ms})

      message ->
        handle(stream, message, budget)
    end
  end

  defp hold(%{credit: credit} = stream, items, budget),
    do: stream |> sent() |> Map.put(:credit, ClientCredit.hold(credit, items)) |> loop(budget)

  defp send_item(%{receiver: receiver, id: id} = stream, item, budget) do
    send(receiver, {:stream_response, Response.stream_response(id, item)})
    weight = Credit.weight(item, @unit)
    stream |> heavier(weight) |> loop(budget - weight)
  end

  # One item after the other, with nothing looked up in the stream for each.
  defp items(stream, _receiver, _id, budget) when budget <= 0, do: pause(stream, 0)

  defp items(stream, receiver, id, budget) do
    receive do
      {:result, item} -> item(stream, receiver, id, item, budget)
      message -> handle(stream, message, budget)
    end
  end

  defp item(stream, receiver, id, item, budget) do
    send(receiver, {:stream_response, Response.stream_response(id, item)})

    case Credit.weight(item, @unit) do
      1 -> items(stream, receiver, id, budget - 1)
      weight -> items(heavier(stream, weight), receiver, id, budget - weight)
    end
  end

  defp heavier(%{weight: heaviest} = stream, weight) when weight > heaviest,
    do: %{stream | weight: weight}

  defp heavier(stream, _weight), do: stream

  defp sent(%{sent?: true} = stream), do: stream
  defp sent(stream), do: %{stream | sent?: true}

  # The receiver first: with this process, the sender and the receiver ready to run at once, an
  # idle core takes one of the three, and every item has to cross between the cores then.
  defp answer(stream, :credit, reply_to, budget) do
    :erlang.yield()
    Credit.answer(reply_to, :ok)
    loop(stream, budget)
  end

  defp answer(stream, question, reply_to, budget) do
    Credit.answer(reply_to, reply(stream, question))
    loop(stream, budget)
  end

  defp reply(_stream, :credit), do: :ok
  defp reply(%{sent?: sent?}, :enumerate), do: if(sent?, do: :no, else: :go)

  # Less than a credit of them, so that they need no look in between.
  defp batch(%{receiver: receiver, id: id} = stream, items, budget) do
    {spent, heaviest} = send_all(items, receiver, id, 0, 1)
    stream |> sent() |> heavier(heaviest) |> loop(budget - spent)
  end

  defp send_all([item | items], receiver, id, spent, heaviest) do
    send(receiver, {:stream_response, Response.stream_response(id, item)})
    weight = Credit.weight(item, @unit)
    send_all(items, receiver, id, spent + weight, max(heaviest, weight))
  end

  defp send_all([], _receiver, _id, spent, heaviest), do: {spent, heaviest}

  # Senders get no answers meanwhile, so they come to wait as well.
  defp pause(stream, waited) do
    capacity = Mailbox.capacity(stream.receiver, stream.weight)

    if capacity > 0 do
      loop(%{stream | weight: 1}, capacity)
    else
      hold_back(stream, Mailbox.next_wait_ms(waited), waited, nil)
    end
  end

  # Until its client asks for more.
  defp starved(%{credit: %{timer: timer}} = stream, waited),
    do: hold_back(stream, :infinity, waited, timer)

  # Takes only what ends a stream, and for one without credit more of that.
  defp hold_back(stream, wait, waited, no_credit) do
    if waited == 0, do: Mailbox.move_off_heap()
    %{monitor: monitor, timer: timer, exempt: exempt} = stream

    receive do
      {:DOWN, ^monitor, :process, _receiver, _reason} ->
        abandoned(stream)

      {:timeout, ^timer, :deadline} ->
        timed_out(stream)

      {__MODULE__, :stop} ->
        stopped(stream)

      {__MODULE__, :grant, n} when no_credit != nil ->
        stream = %{stream | credit: ClientCredit.grant(stream.credit, n)}
        loop(stream, Mailbox.capacity(stream.receiver, stream.weight))

      {:timeout, ^no_credit, :credit} ->
        failed(stream, {:no_credit, stream.credit.timeout_ms})

      {Credit, question, from, reply_to} when is_map_key(exempt, from) ->
        Credit.answer(reply_to, reply(stream, question))
        if no_credit, do: starved(stream, 1), else: pause(stream, waited)
    after
      wait -> pause(stream, wait)
    end
  end

  defp handle(%{monitor: monitor, timer: timer} = stream, message, budget) do
    case message do
      {Credit, question, _from, reply_to} -> answer(stream, question, reply_to, budget)
      {:results, items} -> batch(stream, items, budget)
      {:last_result, item} -> finish(stream, last_frame(stream, item))
      :complete -> stopped(stream)
      {:error, %Response{} = response} -> answered(stream, response)
      {:error, reason} -> failed(stream, {:error_result, reason})
      {ResultCheck, failure} when stream.check != nil -> failed(stream, failure)
      {__MODULE__, :stop} -> stopped(stream)
      {:timeout, ^timer, :deadline} -> timed_out(stream)
      {:DOWN, ^monitor, :process, _receiver, _reason} -> abandoned(stream)
      message -> remote(stream, message, budget)
    end
  end

  defp remote(%{ref: ref, remote: %{client: %{monitor: monitor}}} = stream, message, budget) do
    case message do
      {^ref, _outcome} -> event(stream, message, budget)
      {:spawn_reply, ^monitor, _, _} -> event(stream, message, budget)
      {:DOWN, ^monitor, :process, _pid, _reason} -> event(stream, message, budget)
      {:nodedown, _node} -> event(stream, message, budget)
      # Whatever else somebody has sent here.
      _other -> loop(stream, budget)
    end
  end

  defp event(stream, message, budget) do
    {event, remote} = Remote.event(stream.remote, message)
    stream = %{stream | remote: remote}

    case event do
      :none -> loop(stream, budget)
      :begun -> loop(%{stream | context: Context.begun(stream.context)}, budget)
      {:outcome, outcome} -> outcome(stream, outcome, budget)
      {:returned, enumerable} -> returned(stream, enumerable, budget)
      {:node_down, reason} -> failed(stream, {:node_down, reason})
      {:not_started, reason} -> failed(stream, {:stream_not_started, reason})
      :not_connected -> next_node(stream)
      :stopping -> stream |> pass_over() |> choose()
    end
  end

  defp outcome(%{sent?: sent?} = stream, outcome, budget) do
    case outcome do
      {:raised, _kind, _reason, _stack} = raised -> failed(stream, raised)
      {:died, reason} -> failed(stream, {:raised, :exit, reason, []})
      _returned when sent? -> loop(stream, budget)
      :open -> loop(stream, budget)
      {:last, value} -> stream |> admitted({:last_result, value}) |> last()
      {:response, response} -> answered(stream, response)
      {:failed, failure} -> failed(stream, failure)
    end
  end

  defp last({stream, {:last_result, value}}), do: finish(stream, last_frame(stream, value))
  defp last({stream, {ResultCheck, failure}}), do: failed(stream, failure)

  defp returned(%{sent?: true} = stream, _enumerable, budget), do: loop(stream, budget)

  defp returned(stream, enumerable, budget) do
    if ReturnValue.portable?(enumerable) do
      remote = Remote.continue_here(stream.remote, enumerable)
      loop(%{stream | remote: remote}, budget)
    else
      failed(stream, {:stream_failed, "an enumerable of a node without this library"})
    end
  end

  defp next_node(%{context: %{target: {node, _counter}} = context, remote: remote} = stream) do
    NodeSelector.mark(node, :down)
    Remote.stop(remote)
    choose(%{stream | context: %{context | target: nil}, remote: nil})
  end

  defp pass_over(stream) do
    Remote.stop(stream.remote)
    %{stream | context: Attempt.pass_over(stream.context), remote: nil}
  end

  @doc "Lets a stream whose request has credit send that many items more."
  @spec grant(pid(), pos_integer()) :: :ok
  def grant(pid, n) do
    send(pid, {__MODULE__, :grant, n})
    :ok
  end

  @doc """
  Asks the process of a stream to stop it, also one that waits for a worker.

  Nobody else sends its final frame: of that and the frame for its death there would be two.
  """
  @spec stop(pid()) :: :ok
  def stop(pid) do
    send(pid, {__MODULE__, :stop})
    WorkerPool.cancel_wait(pid)
  end
end
