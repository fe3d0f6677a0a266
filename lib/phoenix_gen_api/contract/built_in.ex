defmodule PhoenixGenApi.Contract.BuiltIn do
  @moduledoc false
  # The function `gen_api` `describe`, which tells clients what they may call. It is requested as any other
  # function is, and all limits hold for it.

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @doc "Offers the function or withdraws it, as the configuration says."
  @spec load() :: :ok
  def load do
    table = Gateway.handle!(:built_in)

    case Config.get(:describe) do
      false ->
        Native.config_db_clear(table)
        :ok

      :public ->
        store(table, false)

      :any_authenticated ->
        store(table, :any_authenticated)
    end
  end

  defp store(table, permission) do
    {:ok, plan(handle: handle), _config} =
      Plan.compile(%FunConfig{
        service: "gen_api",
        request_type: "describe",
        nodes: :local,
        mfa: {__MODULE__, :describe, []},
        arg_types: %{"service" => [type: :string, allow_nil?: true]},
        check_permission: permission,
        request_info: true,
        idempotent: true
      })

    Native.config_db_store(table, [handle], :direct)
  end

  @doc "What the caller may call, of all services or of one."
  @spec describe(String.t() | nil, Request.t()) :: {:ok, Contract.t()}
  def describe(service, request), do: {:ok, Contract.describe(service: service, as: request)}
end
