defmodule PhoenixGenApi.StreamCall.Lifetime do
  @moduledoc false
  # How long a stream may live: the timeout of its function from its submission on, and the deadline
  # of its request. Times are in ms.

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.ErrorResponse
  alias PhoenixGenApi.Executor.{Attempt, Context}

  @doc "The timeout of its function."
  @spec timeout(Context.t()) :: timeout()
  def timeout(%{plan: plan(timeout: timeout)}), do: timeout

  @doc "What is left of both, for one that was submitted at that moment."
  @spec remaining(Context.t(), since :: integer()) :: timeout() | neg_integer()
  def remaining(context, since) do
    left =
      with timeout when is_integer(timeout) <- timeout(context),
           do: timeout - (System.monotonic_time(:millisecond) - since)

    Deadline.within(context.request, left)
  end

  @doc "The failure of one that has no time left before its function is called."
  @spec expired(Context.t()) :: ErrorResponse.failure()
  def expired(context) do
    case Deadline.check(context) do
      {:error, expired} -> expired
      :ok -> {:expired, timeout(context)}
    end
  end

  @doc "Whether the end of its time, without a sign of life, speaks against the node; asked when it begins."
  @spec judged?(Context.t()) :: boolean()
  def judged?(%{deadline: nil}), do: true
  def judged?(context), do: Attempt.judged?(context)

  @doc "The failure of one whose time is over, and whether that is the fault of the node."
  @spec over(Context.t(), judged? :: boolean()) :: {ErrorResponse.failure(), boolean()}
  def over(context, judged?) do
    if Deadline.expired?(context),
      do: {{:timeout, context.deadline}, judged?},
      else: {{:timeout, timeout(context)}, true}
  end
end
