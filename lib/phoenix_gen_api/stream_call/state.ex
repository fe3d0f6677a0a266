defmodule PhoenixGenApi.StreamCall.State do
  @moduledoc false
  # What the process of a stream knows of it.

  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.StreamCall.{ClientCredit, Registry, Remote, ResultCheck}

  @enforce_keys [:context, :key, :callers, :exempt, :since]
  defstruct @enforce_keys ++
              [:receiver, :id, :monitor, :timer, :remote] ++
              [ref: nil, judged?: true, sent?: false, weight: 1, credit: nil, check: nil]

  @type t :: %__MODULE__{
          context: Context.t(),
          key: Registry.key(),
          callers: [pid()],
          # senders that never wait: the receiver may be waiting for them
          exempt: %{pid() => true},
          # when it was submitted
          since: integer(),
          receiver: pid() | nil,
          id: term(),
          monitor: reference() | nil,
          timer: reference() | nil,
          remote: Remote.t() | nil,
          ref: reference() | nil,
          # whether its time, when it is over without a sign of life, speaks against the node
          judged?: boolean(),
          # whether anything was sent; then the function's return does not count
          sent?: boolean(),
          # what the largest item counts as that the receiver was sent since the last look at it
          weight: pos_integer(),
          # frames that the client has asked for; nil if it takes whatever comes
          credit: ClientCredit.t() | nil,
          check: ResultCheck.t()
        }

  @doc "A stream for a call whose arguments are converted, requested by the calling process."
  @spec new(Context.t()) :: t()
  def new(%Context{receiver: receiver, request_id: id} = context) do
    callers = [self() | Process.get(:"$callers", [])]

    %__MODULE__{
      context: context,
      key: {receiver, id, make_ref()},
      callers: callers,
      # A request of a channel is made by a process of the channel's, on its behalf.
      exempt: Map.from_keys([receiver | Enum.take(callers, 2)], true),
      since: System.monotonic_time(:millisecond),
      credit: ClientCredit.new(context.request.credit),
      check: ResultCheck.new(context)
    }
  end
end
