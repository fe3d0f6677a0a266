defmodule PhoenixGenApi.ConfigDb.Compilation do
  @moduledoc false
  # From configs to what the table stores: compiles them and says which may not be stored, and why.

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Structs.FunConfig

  @added_here "added on this gateway; delete it there first"

  @doc "Why what the gateway has added is not replaced."
  @spec added_here() :: String.t()
  def added_here, do: @added_here

  @typedoc "What may be stored, and what may not, with the reasons."
  @type t :: {[{Plan.t(), FunConfig.t()}], [{term(), [String.t()]}]}

  @type rejection :: {:error, :invalid_config | {:mfa_not_allowed, term()}, [String.t()]}

  @doc "The plans of configs that code on this gateway stores."
  @spec all([term()]) :: t()
  def all(configs), do: configs |> compile_each() |> split(configs)

  @doc "The plan of one, which is a struct of this version."
  @spec one(term()) :: {:ok, Plan.t(), FunConfig.t()} | rejection()
  def one(config), do: [config] |> compile_each() |> hd()

  @doc """
  The same for what is pulled or pushed, which must not take over what the gateway itself does.
  """
  @spec foreign(Native.handle(), [term()], :this_node | :another_node, Plan.set_of() | nil) :: t()
  def foreign(table, configs, from, set_of \\ nil),
    do: configs |> compile_each(set_of) |> Enum.map(&keep_out(&1, table, from)) |> split(configs)

  defp keep_out({:ok, _plan, config} = compiled, table, from) do
    reasons =
      for {true, reason} <- [
            {from == :another_node and not Security.local_from_another_node?(config),
             "nodes: :local is not allowed from another node"},
            {Native.config_db_origin(table, config.service, config.request_type, config.version) ==
               :direct, @added_here}
          ],
          do: reason

    if reasons == [], do: compiled, else: {:error, :invalid_config, reasons}
  end

  defp keep_out(rejected, _table, _from), do: rejected

  defp split(compiled, configs) do
    compiled
    |> Enum.zip(configs)
    |> Enum.reverse()
    |> Enum.reduce({[], []}, fn
      {{:ok, plan, config}, _given}, {valid, rejected} ->
        {[{plan, config} | valid], rejected}

      {{:error, _reason, sentences}, given}, {valid, rejected} ->
        {valid, [{given, sentences} | rejected]}
    end)
  end

  defp compile_each(configs, set_of \\ nil) do
    structs = Enum.filter(configs, &is_struct(&1, FunConfig))
    plans = if set_of, do: Plan.compile_all(structs, set_of), else: Plan.compile_all(structs)

    {compiled, []} =
      Enum.map_reduce(configs, plans, fn
        %FunConfig{}, [compiled | rest] -> {allow(compiled), rest}
        _other, rest -> {no_struct(), rest}
      end)

    compiled
  end

  defp allow({:ok, plan, config}) do
    case Security.validate_config(config) do
      :ok ->
        {:ok, plan, config}

      {:error, {:mfa_not_allowed, mfa} = reason} ->
        {:error, reason, ["mfa not allowed: #{SafeInspect.inspect(mfa)}"]}
    end
  end

  defp allow({:error, sentences}), do: {:error, :invalid_config, sentences}

  defp no_struct,
    do: {:error, :invalid_config, ["a function config must be a %FunConfig{} struct"]}
end
