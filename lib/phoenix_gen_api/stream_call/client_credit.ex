defmodule PhoenixGenApi.StreamCall.ClientCredit do
  @moduledoc false
  # The frames that the client of a stream has asked for, of a request with `credit`. Each item takes
  # one. Items that came without one are held, a batch at most: while there are any, the stream takes no
  # more of its messages, so the producer comes to wait.

  alias PhoenixGenApi.Config

  # A grant is a number in a few bytes, and each frame is work for the gateway and its memory.
  @max 10_000

  @enforce_keys [:left, :timeout_ms]
  defstruct [:left, :timeout_ms, held: [], timer: nil]

  @typedoc "A last item is held as `{:last, item}`. The timer runs while no frame may be sent."
  @type t :: %__MODULE__{
          left: non_neg_integer(),
          timeout_ms: pos_integer(),
          held: [term()] | {:last, term()},
          timer: reference() | nil
        }

  @doc "Of a request; nil if its client takes whatever comes."
  @spec new(pos_integer() | nil) :: t() | nil
  def new(nil), do: nil

  def new(credit),
    do: %__MODULE__{left: credit, timeout_ms: Config.get(:stream, :credit_timeout_ms)}

  @doc "With that many frames more."
  @spec grant(t(), pos_integer()) :: t()
  def grant(%{left: left, timer: timer} = credit, n) do
    if timer, do: :erlang.cancel_timer(timer)
    %{credit | left: min(left + n, @max), timer: nil}
  end

  @doc "With items that have arrived while none were held."
  @spec hold(t(), [term()] | {:last, term()}) :: t()
  def hold(%{held: []} = credit, items), do: %{credit | held: items}

  @doc "What to do next: send an item, as the last one or not, wait for credit, or for whatever comes."
  @spec next(t()) :: {:send | :send_last, term(), t()} | :credit | :any
  def next(%{held: []}), do: :any
  def next(%{left: 0}), do: :credit
  def next(%{held: {:last, item}} = credit), do: {:send_last, item, %{credit | held: []}}

  def next(%{held: [item | held], left: left} = credit),
    do: {:send, item, starve(%{credit | held: held, left: left - 1})}

  defp starve(%{left: 0, timeout_ms: ms} = credit),
    do: %{credit | timer: :erlang.start_timer(ms, self(), :credit)}

  defp starve(credit), do: credit
end
