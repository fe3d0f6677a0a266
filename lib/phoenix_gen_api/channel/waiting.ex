defmodule PhoenixGenApi.Channel.Waiting do
  @moduledoc false
  # The requests of a channel that wait for their turn, in order of arrival and hence of the times
  # until which they do.

  alias PhoenixGenApi.Channel.{Entry, PhoenixAdapter, Session}

  @enforce_keys [:queue, :count]
  defstruct @enforce_keys

  @type t :: %__MODULE__{queue: :queue.queue(place()), count: non_neg_integer()}
  @type place :: {until :: integer(), PhoenixAdapter.ref(), Session.item()}

  @spec new() :: t()
  def new, do: %__MODULE__{queue: :queue.new(), count: 0}

  @spec put(t(), place()) :: t()
  def put(%{queue: queue, count: count}, place),
    do: %__MODULE__{queue: :queue.in(place, queue), count: count + 1}

  @doc "The first, of some."
  @spec first(t()) :: place()
  def first(%{queue: queue}) do
    {:value, first} = :queue.peek(queue)
    first
  end

  @doc "The first, of some, and the others."
  @spec take(t()) :: {place(), t()}
  def take(%{queue: queue, count: count}) do
    {{:value, first}, queue} = :queue.out(queue)
    {first, %__MODULE__{queue: queue, count: count - 1}}
  end

  @doc "The requests of that id, and the others."
  @spec take_all(t(), String.t()) :: {[{PhoenixAdapter.ref(), Entry.t()}], t()}
  def take_all(%{count: 0} = waiting, _id), do: {[], waiting}

  def take_all(%{queue: queue}, id) do
    {those, others} =
      queue
      |> :queue.to_list()
      |> Enum.split_with(&match?({_until, _ref, %Entry{request: %{request_id: ^id}}}, &1))

    {for({_until, ref, entry} <- those, do: {ref, entry}),
     %__MODULE__{queue: :queue.from_list(others), count: length(others)}}
  end
end
