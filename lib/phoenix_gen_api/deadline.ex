defmodule PhoenixGenApi.Deadline do
  @moduledoc false
  # When a request has to be over: `expires_at` of the request, in the monotonic time of this node.
  #
  # Whatever a request waits for is cut to what is left. Nothing else has to be stopped then: the
  # process that waits for a function, a hook or a callback ends it when its own time is up.
  #
  # Nodes have different clocks, so only the ms that are left travel with a call, in its metadata. The
  # process that runs the function turns them into a moment of its node, for the requests among its
  # arguments and for those that it will make itself.

  alias PhoenixGenApi.Log
  alias PhoenixGenApi.Structs.Request

  # In the dictionary of a function's process: the moment, in ms.
  @key __MODULE__

  @typedoc "A moment on a node, in ms."
  @type moment :: {node(), integer()}

  @doc """
  The deadline of a request that arrived then (in native units), and the moment when it is over: the
  smallest of what the request says, what its function config says, and what is left to the function
  that makes the request. nil without any of them.
  """
  @spec of(term(), pos_integer() | nil, integer()) :: {non_neg_integer(), moment()} | nil
  def of(given, configured, arrived) do
    arrived = System.convert_time_unit(arrived, :native, :millisecond)
    # Code may have written anything into a request.
    given = if is_integer(given), do: given |> max(0) |> min(Request.max_deadline_ms())
    inherited = with at when at != nil <- Process.get(@key), do: max(at - arrived, 0)

    # Numbers are less than nil.
    with ms when ms != nil <- given |> min(configured) |> min(inherited),
         do: {ms, {node(), arrived + ms}}
  end

  @doc "Whether the calling process runs a function that has a deadline."
  @spec inherited?() :: boolean()
  def inherited?, do: Process.get(@key) != nil

  @doc "Whether the deadline of a request, in ms, is over."
  @spec expired?(%{
          :deadline => non_neg_integer() | nil,
          :request => Request.t(),
          optional(atom()) => term()
        }) :: boolean()
  def expired?(%{deadline: nil}), do: false
  def expired?(%{request: request}), do: Request.remaining_ms(request) == 0

  @doc "The same as a failure, for where nothing has been sent to the function."
  @spec check(map()) :: :ok | {:error, {:expired, non_neg_integer()}}
  def check(context),
    do: if(expired?(context), do: {:error, {:expired, context.deadline}}, else: :ok)

  @doc "A timeout, or what is left for the request if that is less."
  @spec within(Request.t(), timeout()) :: timeout()
  def within(%{expires_at: nil}, timeout), do: timeout
  def within(request, timeout), do: request |> Request.remaining_ms() |> min(timeout)

  @doc "The metadata of a call for a request, with what is left. There need not be any without a deadline."
  @spec mark(map() | nil, Request.t()) :: map() | nil
  def mark(metadata, %{expires_at: nil}), do: metadata

  def mark(metadata, request) do
    case Request.remaining_ms(request) do
      # It was given to another node.
      :infinity -> metadata
      ms -> marked(metadata, ms)
    end
  end

  @doc "The metadata of a call to code that makes requests in place of the calling process."
  @spec pass_on() :: map() | nil
  def pass_on do
    with at when at != nil <- Process.get(@key), do: marked(nil, max(at - now(), 0))
  end

  defp marked(metadata, ms), do: Map.put(metadata || %{}, :remaining_ms, ms)

  @doc """
  Begins a call in the process of its function: takes over what the metadata says, and returns the
  arguments for this node.
  """
  @spec adopt(map() | nil, [term()]) :: [term()]
  def adopt(%{remaining_ms: ms} = metadata, args) do
    at = now() + ms
    Process.put(@key, at)
    metadata |> Map.delete(:remaining_ms) |> Log.adopt()
    Enum.map(args, &here(&1, {node(), at}))
  end

  def adopt(metadata, args) do
    Log.adopt(metadata)
    args
  end

  defp here(%Request{expires_at: {_node, _at}} = request, moment),
    do: %{request | expires_at: moment}

  # The handle of a stream.
  defp here(%{request: %Request{} = request} = helper, moment),
    do: %{helper | request: here(request, moment)}

  defp here(other, _moment), do: other

  defp now, do: System.monotonic_time(:millisecond)
end
