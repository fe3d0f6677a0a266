defmodule PhoenixGenApi.SmallStacks do
  @moduledoc false
  # A VM whose schedulers have the smallest stacks that it accepts, and what is run in it: types,
  # formats, defaults and arguments that are nested in every way.

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.{ArgumentHandler, Native, Plan}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @levels 32

  # What each group of a format is opened and closed with.
  @groups [{"(a|", ")"}, {"(a", ")"}, {"(?:", ")*"}, {"(?:a|(?:c", ")*)"}, {"[a", "]"}]

  @doc "Starts the VM; it ends with the calling process."
  def start_link do
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])
    # 20 kilowords are 160 kB; a dirty scheduler has 320 kB and another one 1 MB without these.
    stacks = [~c"+sss", ~c"20", ~c"+sssdcpu", ~c"20"]

    {:ok, peer, _node} =
      :peer.start_link(%{connection: :standard_io, wait_boot: 60_000, args: stacks ++ paths})

    peer
  end

  @doc "Runs a function of this module there."
  def run(peer, function), do: :peer.call(peer, __MODULE__, function, [], 120_000)

  @doc "The outcome of every config that nests formats, alone and within types."
  def formats do
    for {open, close} <- @groups,
        groups <- [8, 30, 124, 249, 250, 3_000],
        levels <- [1, @levels] do
      format = String.duplicate(open, groups) <> "b" <> String.duplicate(close, groups)
      type = wrapped(levels, [type: :string, format: format], &{:map, %{"a" => &1}})
      compile(%{"a" => type}) && :returned
    end
  end

  @doc "What the compiler says of types below its bound and beyond."
  def types do
    list = fn type -> {:list, false, nil, {{10, 0}, type}} end
    record = fn type -> {:record, false, nil, [{"a", type}]} end

    for around <- [list, record], levels <- [@levels, @levels + 1, 200, 100_000] do
      type = wrapped(levels, {:integer, false, nil, {nil, nil}}, around)
      outcome(fn -> Native.argument_handler_compile([{[{"a", type}], false}], @levels, 1_000) end)
    end
  end

  @doc "The same for the number of levels that arguments may have."
  def depths do
    for depth <- [@levels, @levels + 1, 1_000, 100_000],
        do: outcome(fn -> Native.argument_handler_compile([{[], false}], depth, 1_000_000) end)
  end

  @doc "Arguments of any depth against types of any depth, on both kinds of schedulers."
  def arguments do
    for {name, type, around} <- shapes(), levels <- [@levels, @levels + 1, 10_000] do
      {:ok, plan(handle: handle) = plan, _config} = compile(%{"a" => type})

      for innermost <- ["text", 1, :atom, <<255>>] do
        args = %{"a" => wrapped(levels, innermost, around)}
        {_, _} = ArgumentHandler.convert(plan, %Request{args: args})
        _ = Native.argument_handler_convert_dirty(handle, args)
        _ = Native.argument_handler_problems(handle, args)
        _ = Native.argument_handler_problems_dirty(handle, args)
      end

      {name, levels}
    end
  end

  @doc "Defaults that are as deep as their types, themselves as deep as they may be."
  def defaults do
    default = wrapped(@levels, 1, &[&1])
    any = [type: :any, default_value: default]
    lists = wrapped(@levels - 1, :float, &{:list, &1})
    deepest = wrapped(@levels, any, &{:map, %{"a" => &1}})
    {:ok, _, _} = compile(%{"a" => deepest})
    {:ok, _, _} = compile(%{"a" => [type: lists, default_value: wrapped(@levels - 1, 1, &[&1])]})
    {:ok, _, _} = compile(%{"a" => [type: {:list, lists}, default_value: []]})
    :returned
  end

  defp shapes do
    map = &%{"a" => &1}
    list = &[&1]

    [
      {"lists of any", :any, list},
      {"maps of any", :any, map},
      {"flat maps", [type: :map, max_items: 10, nested: true], map},
      {"typed lists", wrapped(@levels, [type: :float, allow_nil?: true], &{:list, &1}), list},
      {"typed maps", wrapped(@levels, [type: :float, default_value: 1], &{:map, %{"a" => &1}}),
       map},
      {"formats",
       wrapped(@levels, [type: :string, format: "(?i)(\\w+\\W*)+$"], &{:map, %{"a" => &1}}), map}
    ]
  end

  # `levels` of something, the innermost of them included.
  defp wrapped(levels, innermost, around),
    do: Enum.reduce(2..levels//1, innermost, fn _, inner -> around.(inner) end)

  defp compile(types) do
    Plan.compile(%FunConfig{
      service: "s",
      request_type: "t",
      nodes: :local,
      mfa: {String, :upcase, []},
      arg_types: types
    })
  end

  defp outcome(fun) do
    fun.()
    :returned
  rescue
    ArgumentError -> :refused
  end
end
