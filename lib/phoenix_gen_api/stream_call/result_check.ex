defmodule PhoenixGenApi.StreamCall.ResultCheck do
  @moduledoc false
  # Looks at each item of a stream whose results are checked, ahead of everything else. A wrong one ends the
  # stream, behind the right ones of its batch.

  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Executor.Context

  @typedoc "Nothing where nothing is checked; the failure once there is one."
  @type t :: nil | :on | {:failed, term()}

  @doc "How the items of a function are checked."
  @spec new(Context.t()) :: t()
  def new(%{plan: plan}), do: if(Executor.ResultCheck.on?(plan), do: :on)

  @doc "The message as it counts: `{ResultCheck, failure}` for a wrong item and for all that come after it."
  @spec admit(t(), Context.t(), term()) :: {t(), term()}
  def admit(nil, _context, message), do: {nil, message}

  def admit({:failed, failure} = check, _context, {kind, _items})
      when kind in [:result, :results, :last_result],
      do: {check, {__MODULE__, failure}}

  def admit(:on, context, {kind, item} = message) when kind in [:result, :last_result] do
    case Executor.ResultCheck.check(context, item) do
      :ok -> {:on, message}
      {:error, failure} -> {{:failed, failure}, {__MODULE__, failure}}
    end
  end

  def admit(:on, context, {:results, items} = message) do
    case right(items, context, []) do
      :all ->
        {:on, message}

      {[], failure} ->
        {{:failed, failure}, {__MODULE__, failure}}

      {items, failure} ->
        # Comes after these, for a client that has to ask for them, too.
        send(self(), {:result, nil})
        {{:failed, failure}, {:results, items}}
    end
  end

  def admit(check, _context, message), do: {check, message}

  defp right([], _context, _before), do: :all

  defp right([item | items], context, before) do
    case Executor.ResultCheck.check(context, item) do
      :ok -> right(items, context, [item | before])
      {:error, failure} -> {Enum.reverse(before), failure}
    end
  end
end
