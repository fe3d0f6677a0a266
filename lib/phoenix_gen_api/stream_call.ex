defmodule PhoenixGenApi.StreamCall do
  @moduledoc """
  Streams: requests that are answered by many frames.

  A function with `response_type: :stream` produces items by sending them with a
  `PhoenixGenApi.Structs.StreamHelper`, or by returning an enumerable. Each stream is one process
  on the gateway, its pid the one in `{:stream_started, request_id, pid}`, which turns the items
  into frames for the receiver and ends the function when the stream ends:

      request_id ─► stream on the gateway ─► function, here or on another node

  The receiver gets, as messages,

  | Message | When |
  |---|---|
  | `{:stream_started, request_id, pid}` | the stream begins |
  | `{:stream_response, response}` with `has_more` true | an item |
  | `{:stream_response, response}` with `has_more` false | the final frame: exactly one, the last message |

  Streams of requests take a place of `:stream_pool` for their life; one of `start_link/1` takes
  none. The guide [Streams](streams.md) says how to produce, what happens when a client is slow,
  and what is guaranteed.
  """

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.StreamCall.{Lifetime, Registry, Server, State}
  alias PhoenixGenApi.Structs.{FunConfig, Request}
  alias PhoenixGenApi.WorkerPool

  @pool :stream_pool

  # Kept in the process: it lives and ends with that.
  @on_stop_own {__MODULE__, :on_stop_own}

  @doc """
  Starts a stream outside the pool, linked to the caller.

  It validates the arguments, chooses a node and calls the function of `fun_config`, whatever
  its response type; limits, hooks before the call and permission are for requests. The caller
  is the receiver if `receiver` is nil or missing.

  Errors: `{:invalid_config, sentences}`, `{:invalid_arguments, exception}` and `:not_running`,
  where no gateway runs. What goes wrong later is told by the final frame.
  """
  @spec start_link(%{
          required(:request) => Request.t(),
          required(:fun_config) => FunConfig.t(),
          optional(:receiver) => pid() | nil
        }) :: {:ok, pid()} | {:error, term()}
  def start_link(%{request: %Request{} = request, fun_config: %FunConfig{} = config} = args) do
    receiver = args[:receiver] || self()

    with {:ok, plan} <- compiled(config),
         request = Request.complete(request),
         context = Context.new(request, plan, receiver, System.monotonic_time()),
         {:ok, context} <- Context.convert(context),
         stream = State.new(context),
         :ok <- Registry.enter(stream.key, true) do
      pid = spawn_link(fn -> run_unpooled(stream) end)
      Registry.watch(stream.key, pid)
      {:ok, pid}
    else
      {:error, {:invalid_arguments, exception, _details}} ->
        {:error, {:invalid_arguments, exception}}

      {:error, _reason} = error ->
        error
    end
  end

  defp run_unpooled(stream) do
    with {{receiver, final}, _crash} <- Server.run(stream), do: send(receiver, final)
  end

  defp compiled(config) do
    with {:ok, _selector} <- Gateway.handle(:node_selector),
         {:ok, plan, _config} <- Plan.compile(config) do
      {:ok, plan}
    else
      {:error, :not_running} -> {:error, :not_running}
      {:error, sentences} -> {:error, {:invalid_config, sentences}}
    end
  end

  @doc """
  Stops the stream with that pid; `:ok` also if it is dead already.

  The receiver gets the end frame, after the items that are with the stream by now unless it is
  slow. The process of the function ends: at once, or for an enumerable after its cleanup has
  run. Processes that it has spawned are not told.
  """
  @spec stop(pid()) :: :ok
  defdelegate stop(pid), to: Server

  @doc """
  Lets a stream send `n` items more.

  For a stream whose request has a `credit`; its client grants more by a message, as does code that made
  the request itself by this function. At most 10,000 items may be outstanding, a grant beyond that is cut. Ignored by
  streams without credit, and by those that have ended.
  """
  @spec grant(pid(), pos_integer()) :: :ok
  def grant(pid, n) when is_integer(n) and n > 0, do: Server.grant(pid, n)

  @doc """
  Stops the streams of a request id whose receiver is the caller.

  In the process of a channel these are the streams of its client, on all its events.
  `{:error, :not_found}` if there is none, `{:error, :not_running}` where no gateway runs.
  """
  @spec stop_own(term()) :: :ok | {:error, :not_found | :not_running}
  def stop_own(request_id) do
    with {:ok, streams} <- Registry.find(self(), request_id) do
      Enum.each(streams, &stop/1)
      # Neither may be skipped because of the other.
      others = stop_others(request_id)
      if streams != [] or others > 0, do: :ok, else: {:error, :not_found}
    end
  end

  @doc false
  # For a process whose streams have other receivers, as those of a channel: what stops the ones
  # with a request id, and returns their number, when the process calls `stop_own/1`.
  @spec on_stop_own((term() -> non_neg_integer())) :: :ok
  def on_stop_own(stop) do
    Process.put(@on_stop_own, stop)
    :ok
  end

  defp stop_others(request_id) do
    case Process.get(@on_stop_own) do
      nil -> 0
      stop -> stop.(request_id)
    end
  end

  @doc false
  # The stream of a request that has passed the stages before the call.
  @spec submit(Context.t()) :: :ok | {:error, term()}
  def submit(%Context{} = context) do
    stream = State.new(context)
    died = {:stream_response, ErrorResponse.build(context.request_id, :stream_failed)}

    task = fn ->
      {final, crash} = Server.run(stream)
      # The pool sends it.
      {:answer, final, crash}
    end

    within =
      min(Lifetime.remaining(context, stream.since), Config.get(:stream, :start_timeout_ms))

    opts = [
      caller: context.caller,
      start_within: within,
      # Also while it waits it can be stopped.
      spawned: &Registry.watch(stream.key, &1),
      on_death: {context.receiver, died},
      max_wait: {:infinity, context.receiver}
    ]

    with :ok <- Registry.enter(stream.key, false) do
      case WorkerPool.submit(@pool, task, opts) do
        {:ok, _pid} ->
          :ok

        {:error, reason} ->
          Registry.leave(stream.key)
          {:error, refusal(reason, stream, within)}
      end
    end
  end

  # Its whole time has passed.
  defp refusal(:no_slot, stream, within) do
    if Lifetime.timeout(stream.context) == within, do: {:expired, within}, else: {:pool, :no_slot}
  end

  defp refusal(:pool_not_found, _stream, _within), do: {:stream_not_started, :pool_not_found}
  defp refusal(reason, _stream, _within), do: {:pool, reason}
end
