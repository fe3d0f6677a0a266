defmodule PhoenixGenApi.ConfigPuller.PullResult do
  @moduledoc false
  # The functions that a service node lists, made ready for storing: under the service's own
  # name, each key once. What was odd about the list is said in sentences.

  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.FunConfig

  @type t :: %{functions: [term()], notices: [String.t()]}

  @doc "Entries that are no function configs pass through; the table rejects them with a reason."
  @spec read([term()], String.t()) :: t()
  def read(list, service) do
    {functions, foreign} =
      list |> Enum.map(&FunConfig.complete/1) |> Enum.map_reduce([], &adopt(&1, &2, service))

    {functions, repeated} = last_of_each(functions)

    %{
      functions: functions,
      notices:
        Enum.map(Enum.reverse(foreign), &"#{&1}, taken over") ++
          Enum.map(repeated, &"#{label(&1)} is listed more than once, the last one counts")
    }
  end

  @doc "How a function is named in sentences: `get_user 1.0.0`."
  @spec label(term()) :: String.t()
  def label(%FunConfig{request_type: type, version: version}),
    do: "#{SafeInspect.name(type)} #{SafeInspect.name(version || "0.0.0")}"

  def label(other), do: SafeInspect.inspect(other, 100)

  @doc "The key within the service, if the config can have one."
  @spec key(term()) :: {String.t(), String.t()} | nil
  def key(%FunConfig{request_type: type, version: version}) when is_binary(type) do
    case version || "0.0.0" do
      version when is_binary(version) -> {type, version}
      _invalid -> nil
    end
  end

  def key(_other), do: nil

  @doc "The functions whose key comes again later in the list."
  @spec repeated([term()]) :: [term()]
  def repeated(functions), do: functions |> last_of_each() |> elem(1)

  # nil is no name: such a config is invalid, and says so.
  defp adopt(%FunConfig{service: named} = config, foreign, service)
       when (is_binary(named) or is_atom(named)) and named not in [nil, "", service] do
    if to_string(named) == service do
      {config, foreign}
    else
      notice = "#{label(config)} names the service #{SafeInspect.inspect(named, 100)}"
      {%{config | service: service}, [notice | foreign]}
    end
  end

  defp adopt(config, foreign, _service), do: {config, foreign}

  defp last_of_each(functions) do
    {kept, repeated, _seen} =
      functions
      |> Enum.reverse()
      |> Enum.reduce({[], [], MapSet.new()}, fn config, {kept, repeated, seen} ->
        key = key(config)

        cond do
          key == nil -> {[config | kept], repeated, seen}
          key in seen -> {kept, [config | repeated], seen}
          true -> {[config | kept], repeated, MapSet.put(seen, key)}
        end
      end)

    {kept, Enum.uniq_by(repeated, &key/1)}
  end
end
