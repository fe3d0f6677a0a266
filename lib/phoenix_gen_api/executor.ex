defmodule PhoenixGenApi.Executor do
  @moduledoc """
  Runs requests: looks the function up, authorises, validates, picks a node and calls.

      iex> alias PhoenixGenApi.{ConfigDb, Executor}
      iex> alias PhoenixGenApi.Structs.{FunConfig, Request}
      iex> :ok = ConfigDb.add(%FunConfig{
      ...>   service: "doc", request_type: "up", nodes: :local,
      ...>   mfa: {String, :upcase, []}, arg_types: %{"text" => :string}
      ...> })
      iex> request = %Request{
      ...>   request_id: "r1", service: "doc", request_type: "up", args: %{"text" => "hi"}
      ...> }
      iex> Executor.execute!(request).result
      "HI"

  The stages, in order; each failure is an error response with a fixed text:

  | Stage | ErrorResponse |
  |---|---|
  | config lookup | `unsupported function: T version V`, `disabled function: T version V` |
  | rate limit | `Rate limit exceeded. Please retry after N seconds.`, `Rate limit service unavailable` |
  | before hook | `hook rejected` |
  | permission | `Permission denied` |
  | arguments | `argument validation failed` |
  | node selection | `No service node available`, `missing routing key` |
  | call | `Internal Server Error`, `Request timed out after Nms`, `Service temporarily unavailable`, `Unexpected execution result` |

  With `config :phoenix_gen_api, :gen_api, detail_error: true` the reason is appended to the
  texts from the hook on (not to `Permission denied`); otherwise nothing of it reaches a client.

  What a function returns decides the response: `{:ok, value}` and any value that is no tuple
  are results, a `%Response{}` is sent as it is, `{:error, _}` and `:error` are
  `Internal Server Error`, any other tuple is `Unexpected execution result`.

  A function with `retry` set is called again after a failure that its `retry_on` lists. The waits
  (`NodeSelector.calculate_backoff/2`) and the further attempts, each with the whole timeout, take
  place where the first one did: for `:sync` in the process that called `execute!/2`, which then
  waits for all of them; otherwise in the background. A channel never waits: its requests run in
  processes of their own.

  | `response_type` | `execute!/2` returns | Later, to the receiver |
  |---|---|---|
  | `:sync` | the response | |
  | `:async` | `Response.async_response(id)` | `{:async_call, response}` |
  | `:stream` | `Response.stream_response(id, :init)` | `{:stream_started, id, pid}`, then `{:stream_response, response}` per frame, see `PhoenixGenApi.StreamCall` |
  | `:none` | `{:ok, :none}` | |

  ## Deadlines

  `timeout` bounds each attempt. A deadline bounds the whole request from its arrival to its answer: waiting in a
  channel or a pool, hooks, permission callbacks, node selection, attempts and the waits between them. The smallest of
  these counts: `deadline` of the function config, `deadline_ms` of the request, and for a request that a function
  makes what that function has left.

  When it is over, whatever the request is doing is stopped, also on another node, and the answer is
  `Request timed out after Nms`, N being the deadline. Its `details` say whether the function ran. The after hook then
  sees that answer, has its own `hook_timeout` and cannot change anything; one that was running at that moment is stopped
  first. The later message of an async request and the final frame of a stream are answers in this sense.

  `PhoenixGenApi.Structs.Request.remaining_ms/1` says what is left. Tasks that a function starts inherit nothing by themselves;
  give their requests what is left:

      %Request{..., deadline_ms: Request.remaining_ms(request)}

  ## Processes

  Functions run in processes of their own, monitored and not linked, here or on a node of the
  cluster; over a channel a local function runs in the process of its request. None of the functions
  below raises for a `%Request{}`, whatever it holds and whatever becomes of the function, and nothing
  is left behind: a function that timed out, or whose caller died, is killed.
  """

  import PhoenixGenApi.Plan, only: [has: 2]

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Errors.DecodeError
  alias PhoenixGenApi.Executor.{Client, Context, Dispatch, Outcome, Rolling}
  alias PhoenixGenApi.FailureLog
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Identity
  alias PhoenixGenApi.JsonEncoding.Reply
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Telemetry

  @type result :: Response.t() | {:ok, :none}

  @typedoc "Whether gateway code knows the device of a request, or only the client has named one."
  @type device :: :verified | :claimed

  @event [:phoenix_gen_api, :executor, :request]

  @doc """
  Runs a request.

  Options: `receiver:` the process that gets later messages (the caller).
  """
  @spec execute!(Request.t(), receiver: pid()) :: result()
  def execute!(%Request{} = request, opts \\ []) do
    receiver = Keyword.get(opts, :receiver, self())
    {result, _later?} = request |> Request.complete() |> execute_for(receiver, :verified)
    result
  end

  @doc false
  # And whether the receiver gets messages later. The response does not tell: any function may
  # return one that looks like an acknowledgement. Nor does the config, which may be another by now.
  @spec execute_for(Request.t(), pid(), device()) :: {result(), later? :: boolean()}
  def execute_for(request, receiver, device) do
    {result, rest} = observed(request, &run(request, receiver, &1, device))
    {result, rest == :later}
  end

  @doc false
  # The same for a request that comes from a client: what one user may have at a time is bounded, and what
  # cannot be sent is a failure. Whether it was acknowledged, and goes on.
  @spec execute_for_client(Request.t(), Client.t()) :: {:later, Response.t()} | :over
  def execute_for_client(request, %Client{receiver: receiver, device: device} = client) do
    find_plan = fn -> found(client.found || fetch(request), request) end
    mark = &Context.from_client(&1, client.inline)

    {started, {result, rest, bytes}} =
      begun(request, fn started ->
        arrived = started - System.convert_time_unit(client.queued, :millisecond, :native)

        request
        |> guarded(fn -> stages(request, receiver, device, arrived, find_plan, mark) end)
        |> measured(client.json_library)
      end)

    case client.claim.(kind(result, rest), result, bytes) do
      :ok ->
        Outcome.emit(request, result, rest, started, client.queued)
        if rest == :later, do: {:later, result}, else: :over

      {:refused, failure} ->
        # It runs by now.
        refusal = ErrorResponse.build(request.request_id, failure, :unknown)
        {response, rest, bytes} = measured({refusal, {failure, nil}}, client.json_library)

        if client.claim.(:answer, response, bytes) == :ok,
          do: Outcome.emit(request, response, rest, started, client.queued)

        :over

      :ended ->
        :over
    end
  end

  defp kind(%Response{has_more: true}, :later), do: :stream_response
  defp kind(%Response{}, :later), do: :async_call
  defp kind(_result, _rest), do: :answer

  @doc false
  # The limits by who sends it, for what never becomes a request.
  @spec charge_sender(Request.t()) :: :ok | {:error, term()}
  def charge_sender(request) do
    with {:ok, _claims} <- Context.charge(request, :verified), do: :ok
  end

  @doc "Runs a request with this config instead of a stored one."
  @spec execute_with_config!(Request.t(), FunConfig.t()) :: result()
  def execute_with_config!(%Request{} = request, %FunConfig{} = config) do
    request = Request.complete(request)
    find_plan = fn -> given(config) end
    request |> observed(&stages(request, self(), :verified, &1, find_plan)) |> elem(0)
  end

  @doc """
  Decodes a map and runs the request; raises `PhoenixGenApi.Errors.DecodeError` on a bad map.

  See `execute_params/2`.
  """
  @spec execute_params!(map(), identity: map()) :: result()
  def execute_params!(params, opts \\ []) do
    {trusted, identity} = trusted(params, opts)
    trusted |> Request.decode!() |> identified(identity) |> execute_from(device(params, identity))
  end

  @doc """
  Decodes a map, which may hold anything, and runs the request. A bad map gives the error
  response `Invalid request: …`.

  In a controller or a LiveView, say who the client is and let the map say what they want:

      Executor.execute_params(conn.params,
        identity: %{user_id: conn.assigns.current_user.id, ip_address: conn.remote_ip}
      )

  The identity replaces whatever the map says of `user_id`, `user_roles`, `device_id` and
  `ip_address`; what it does not name is absent. Ids are strings or integers, roles a list, a
  MapSet, an atom or a string, addresses a string, a charlist or an address tuple; anything else
  raises `ArgumentError`.

  **Warning:** without `identity:`, a map from a client decides who the client is: the string key
  `"user_id"` and `"device_id"` count. Use that form only for maps of your own. The string keys
  `"user_roles"` and `"ip_address"` never count.
  """
  @spec execute_params(map(), identity: map()) :: result()
  def execute_params(params, opts \\ []) do
    {trusted, identity} = trusted(params, opts)

    case Request.decode(trusted) do
      {:ok, request} ->
        request |> identified(identity) |> execute_from(device(params, identity))

      {:error, %DecodeError{} = error} ->
        id = id(params)
        failure = {:invalid_request, error}
        FailureLog.log(failure, FailureLog.about(identified(%Request{request_id: id}, identity)))
        ErrorResponse.build(id, failure)
    end
  end

  @doc """
  Validates the arguments, picks a node and calls the function of `config`, whatever its
  response type, and returns the response.
  """
  @spec sync_call(Request.t(), FunConfig.t()) :: Response.t()
  def sync_call(%Request{} = request, %FunConfig{} = config) do
    request = Request.complete(request)
    started = System.monotonic_time()

    {response, {failure, context}} =
      guarded(request, fn ->
        with {:ok, plan} <- compiled(config),
             context = Context.new(request, plan, self(), started),
             {:ok, context} <- Context.convert(context) do
          Dispatch.run(context)
        end
      end)

    if failure, do: FailureLog.log(failure, context || FailureLog.about(request), started)
    response
  end

  @doc """
  Runs a request as `execute!/2` does, for at most `ms` milliseconds; then the work is ended and
  the response is `Request timed out after Nms`. Where a deadline is less, that is the response's.

  Unlike a deadline this bounds only the call of this function, and the work done in it: not what an async
  request does after its acknowledgement.
  """
  @spec execute_with_timeout!(Request.t(), pos_integer()) :: result()
  def execute_with_timeout!(%Request{} = request, ms \\ 5_000) do
    request = Request.complete(request)

    # What begins here ends here, also for telemetry: the process that runs it may be killed.
    observed(request, fn started ->
      case RPC.Local.call(__MODULE__, :run, [request, self(), started], ms, Deadline.pass_on()) do
        {:return, done} -> done
        :timeout -> {:error, {:timeout, ms}}
        {:raised, kind, reason, stack} -> bug(request, kind, reason, stack)
      end
    end)
    |> elem(0)
  end

  @doc false
  def run(request, receiver, started, device \\ :verified),
    do: stages(request, receiver, device, started, fn -> lookup(request) end)

  @doc "Attaches a handler to the start, stop and exception of requests."
  @spec attach_telemetry(term(), Telemetry.handler(), term()) :: Telemetry.attached()
  defdelegate attach_telemetry(id, fun, config \\ %{}), to: Telemetry, as: :attach_requests

  @doc "Detaches the handler of that id. `:ok`, also when there is none."
  @spec detach_telemetry(term()) :: :ok
  defdelegate detach_telemetry(id), to: Telemetry, as: :detach_all

  # The request, on one page. Limits come in two groups: by who sends it, ahead of everything, and
  # by what the client claims, once the request is known to be permitted and valid.
  defp stages(request, receiver, device, arrived, find_plan, mark \\ & &1) do
    with {:ok, plan, claims} <- charged(find_plan.(), request, device),
         context = request |> Context.new(plan, receiver, arrived) |> mark.(),
         {:ok, context} <- Context.accept(context),
         {:ok, context} <- Rolling.choose(context),
         {:ok, context} <- Context.before(context) do
      with {:ok, context} <- Context.authorise(context),
           {:ok, context} <- Context.convert(context),
           :ok <- Context.charge_claims(context, claims),
           :ok <- Deadline.check(context) do
        Dispatch.start(context)
      else
        {:error, failure} -> Context.finish(context, failure)
        {:error, failure, context} -> Context.finish(context, failure)
      end
    end
  end

  defp lookup(request), do: request |> fetch() |> found(request)

  defp fetch(%Request{service: service, request_type: type, version: version}),
    do: ConfigDb.fetch(service, type, version)

  defp found({:error, reason}, %Request{request_type: type, version: version})
       when reason != :not_running,
       do: {:error, {reason, type, version}}

  defp found(found, _request), do: found

  # A request for a function that is not there counts as well.
  defp charged({:ok, plan}, _request, _device) when not has(plan, :limited),
    do: {:ok, plan, :none}

  defp charged({:error, :not_running} = failed, _request, _device), do: failed

  defp charged(found, request, device) do
    with {:ok, claims} <- Context.charge(request, device),
         {kind, plan} when kind in [:ok, :given] <- found,
         do: {:ok, plan, claims}
  end

  # The limits are those of the request's service and type, which a given config need not share.
  defp given(config), do: with({:ok, plan} <- compiled(config), do: {:given, plan})

  # A plan made where no gateway runs can only check arguments.
  defp compiled(config) do
    with {:ok, _selector} <- Gateway.handle(:node_selector),
         do: Plan.compile_unstored(config)
  end

  defp observed(request, run) do
    {started, {result, rest}} =
      begun(request, fn started -> guarded(request, fn -> run.(started) end) end)

    Outcome.emit(request, result, rest, started, 0)
    {result, rest}
  end

  defp begun(request, run) do
    started = System.monotonic_time()

    metadata = %{
      request_id: request.request_id,
      request_type: request.request_type,
      service: request.service,
      user_id: request.user_id
    }

    Telemetry.execute(@event ++ [:start], Telemetry.start_measurements(started), metadata)
    {started, run.(started)}
  end

  # It has to be possible to send the response.
  defp measured({%Response{} = response, {_failure, context} = rest}, library) do
    case Reply.measured(response, library, max_bytes(context)) do
      {response, bytes, nil} -> {response, rest, bytes}
      {error, bytes, failure} -> {error, {failure, context}, bytes}
    end
  end

  defp measured({result, rest}, _library), do: {result, rest, 0}

  defp max_bytes(%Context{plan: plan}), do: Plan.max_result_bytes(plan)
  defp max_bytes(nil), do: Config.get(:request, :max_result_bytes)

  # Last line of defence: a bug of this library is one request's error.
  defp guarded(request, fun) do
    case fun.() do
      {:error, failure} -> {ErrorResponse.build(request.request_id, failure), {failure, nil}}
      {_result, _rest} = done -> done
    end
  catch
    kind, reason ->
      bug(request, kind, reason, __STACKTRACE__)
  end

  defp bug(request, kind, reason, stack) do
    ErrorResponse.log_bug(kind, reason, stack)
    failure = {:bug, kind, reason, stack}
    {ErrorResponse.build(request.request_id, failure), {failure, nil}}
  end

  # Taken out ahead of decoding: what does not count must not make a request invalid either.
  defp trusted(params, opts) do
    case Keyword.validate!(opts, [:identity])[:identity] do
      nil when is_map(params) -> {Map.drop(params, ["user_roles", "ip_address"]), nil}
      nil -> {params, nil}
      said -> {without_identity(params), Identity.new!(said)}
    end
  end

  defp without_identity(params) when is_map(params), do: Identity.drop(params)
  defp without_identity(params), do: params

  # An atom key is of our own code, see Request.
  defp device(%{"device_id" => _} = params, nil) when not is_map_key(params, :device_id),
    do: :claimed

  defp device(_params, _identity), do: :verified

  defp execute_from(request, device), do: request |> execute_for(self(), device) |> elem(0)

  defp identified(request, nil), do: request
  defp identified(request, identity), do: struct!(request, Map.from_struct(identity))

  defp id(%{"request_id" => id}) when is_binary(id), do: id
  defp id(%{request_id: id}) when is_binary(id), do: id
  defp id(_params), do: nil
end
