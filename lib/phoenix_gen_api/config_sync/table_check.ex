defmodule PhoenixGenApi.ConfigSync.TableCheck do
  @moduledoc false
  # Whether the table of configs holds what was pushed: functions may have been deleted, added or
  # pulled since. Who is not the only writer of the table can trust no mark of its own.

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigPuller.{PullResult, Store}
  alias PhoenixGenApi.ConfigSync.{Content, PushStore, VersionVector}
  alias PhoenixGenApi.Structs.FunConfig.Validation

  @doc "Whether the service has the functions of this push and no other ones that were pulled."
  @spec matches?(String.t(), VersionVector.push()) :: boolean()
  def matches?(service, %{digest: digest}) do
    case PushStore.outline(service, digest) do
      {:ok, %{keys: keys}} ->
        by_origin = Enum.group_by(keys, &origin(service, &1))
        {pulled, by_origin} = Map.pop(by_origin, :pull, [])

        Map.keys(by_origin) -- [:push] == [] and not others?(service, keys) and
          (pulled == [] or same?(service, digest, pulled))

      # Another push has just replaced it.
      :error ->
        false
    end
  end

  @doc """
  The same for a push that may ask to be pulled as well: then it has what that pull has brought, which
  may be other functions.
  """
  @spec holds?(String.t(), VersionVector.push()) :: boolean()
  def holds?(service, push), do: matches?(service, push) or own_pull?(service)

  defp own_pull?(service) do
    case Store.fetch(service) do
      {:ok, %{registered_by: by, keys: keys}} when by in [:push, :own_push] and keys != nil ->
        Enum.all?(keys, &(origin(service, &1) in [:pull, :push]))

      _not_pulled ->
        false
    end
  end

  @doc "Whether one of these functions is no longer in the table."
  @spec missing?(String.t(), [{String.t(), String.t()}]) :: boolean()
  def missing?(service, keys), do: Enum.any?(keys, &(origin(service, &1) == nil))

  # Only a pull can have brought them.
  defp others?(service, keys) do
    Store.fetch(service) != :error and
      for(
        {type, versions} <- ConfigDb.get_functions_from_services(service)[service] || %{},
        version <- versions,
        key = {type, version},
        origin(service, key) in [:pull, :push],
        do: key
      ) -- keys != []
  end

  # Compared in the form that the table has them in.
  defp same?(service, digest, keys) do
    with {:ok, content} <- PushStore.content(service, digest) do
      keys = MapSet.new(keys)

      PushStore.unpack(content).fun_configs
      |> Enum.filter(&(PullResult.key(&1) in keys))
      |> Validation.run_all()
      |> Enum.all?(fn
        {:ok, config, _schema} -> stored?(service, config)
        {:error, _invalid_now} -> false
      end)
    else
      :error -> false
    end
  end

  defp stored?(service, config) do
    case ConfigDb.get(service, config.request_type, config.version) do
      {:ok, stored} ->
        Content.function(stored) === Content.function(config)

      # What it holds is not shown.
      {:error, :disabled} ->
        true

      {:error, _gone} ->
        false
    end
  end

  defp origin(service, {type, version}), do: ConfigDb.origin(service, type, version)
end
