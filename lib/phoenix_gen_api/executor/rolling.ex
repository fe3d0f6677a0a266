defmodule PhoenixGenApi.Executor.Rolling do
  @moduledoc false
  # Requests for services whose nodes come, go and change while they run.
  #
  # Where the nodes of a function offer different definitions of it, the node is chosen first, and its
  # definition authorises, validates and runs the request: a node sees only what it accepts itself.
  #
  # A plan may be out of date by the time of the call: all nodes that had it stop, and others have another
  # one. Nothing has begun then, so the request goes on with the plan of now.

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Executor.Context
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Offers
  alias PhoenixGenApi.Plan

  # How often the definitions may change between two looks at them, and for one request.
  @looks 5

  @doc "Chooses the node where there are several definitions, and goes on with that node's."
  @spec choose(Context.t()) :: {:ok, Context.t()} | {:error, {:no_node, NodeSelector.reason()}}
  def choose(%{plan: plan} = context) when not has(plan, :rolling), do: {:ok, context}
  def choose(context), do: look(context, @looks)

  defp look(%{plan: plan} = context, _looks) when not has(plan, :rolling), do: {:ok, context}
  defp look(_context, 0), do: {:error, {:no_node, :no_nodes_available}}

  defp look(%{plan: plan, request: request} = context, looks) do
    %{service: service, request_type: type, version: version} = Plan.config(plan)

    with {:ok, node, counter} <- pick(context),
         {:ok, definition} <- Offers.Rolling.plan({service, type, version}, node) do
      {:ok, Context.with_plan(context, definition, {node, counter(plan, definition, counter)})}
    else
      _changed -> look_again(context, request, looks - 1)
    end
  end

  defp pick(%{stopping: []} = context), do: NodeSelector.pick(context.plan, context.request)

  defp pick(%{stopping: stopping} = context) do
    with {:ok, targets} <- NodeSelector.candidates(context.plan, context.request),
         {node, counter} <- Enum.find(targets, fn {node, _counter} -> node not in stopping end),
         do: {:ok, node, counter}
  end

  # A place in one set is good for each set that has the node. Where a function has chosen, it is one in
  # a list of that moment, and the call is counted on none.
  defp counter(plan, plan(handle: handle) = definition, {_handle, place, caller})
       when has(plan, :fixed_route) and has(definition, :fixed_route),
       do: {handle, place, caller}

  defp counter(_plan, _definition, _counter), do: nil

  defp look_again(%{plan: before} = context, request, looks) do
    case now(before, request) do
      {:ok, plan} ->
        case {same?(plan, before), NodeSelector.pick(plan, request)} do
          {true, {:error, reason}} -> {:error, {:no_node, reason}}
          _changed -> context |> Context.with_plan(plan, nil) |> look(looks)
        end

      {:error, _gone} ->
        {:error, {:no_node, :no_nodes_available}}
    end
  end

  @doc """
  The request with the plan of now, up to the call, where that is another one; `:same` otherwise.
  """
  @spec refresh(Context.t()) ::
          {:ok, Context.t()} | :same | {:error, term()} | {:error, term(), Context.t()}
  def refresh(%{plan: before, executed: :no, refreshed: times} = context)
      when has(before, :offered) and times < @looks do
    case now(before, context.request) do
      {:ok, plan} ->
        if same?(plan, before), do: :same, else: go_on(context, plan)

      {:error, _gone} ->
        :same
    end
  end

  def refresh(_context), do: :same

  # By the names of the function: a hook may have given the request others, which do not choose another one.
  defp now(plan, request) do
    %{service: service, request_type: type, version: version} = Plan.config(plan)
    ConfigDb.fetch(service, type, if(request.version, do: version))
  end

  # The before hook has run, so it has to be the same one: another may be there to keep requests out.
  defp go_on(%{plan: before} = context, plan) do
    context = %{context | refreshed: context.refreshed + 1}

    with {:ok, context} <- context |> Context.with_plan(plan, nil) |> choose(),
         true <- hook(context.plan) == hook(before),
         {:ok, context} <- Context.authorise(context) do
      Context.convert(context)
    else
      false -> :same
      failed -> failed
    end
  end

  defp hook(plan) when has(plan, :before_execute), do: Plan.config(plan).before_execute
  defp hook(_plan), do: nil

  defp same?(plan(handle: a), plan(handle: b)), do: a == b
end
