defmodule PhoenixGenApi do
  @moduledoc """
  Turns a Phoenix application into a dynamic API gateway for an Erlang cluster.
  """

  @doc "See `PhoenixGenApi.ConfigReceiver.push/2`."
  @spec push_config(PhoenixGenApi.Structs.PushConfig.t() | map(), keyword()) ::
          PhoenixGenApi.ConfigReceiver.result()
  defdelegate push_config(push_config, opts \\ []), to: PhoenixGenApi.ConfigReceiver, as: :push

  @doc "See `PhoenixGenApi.ConfigReceiver.verify/2`."
  @spec verify_config(PhoenixGenApi.ConfigReceiver.service(), String.t()) ::
          {:ok, :matched} | {:ok, :mismatch, String.t()} | {:error, :not_found | :not_running}
  defdelegate verify_config(service, version), to: PhoenixGenApi.ConfigReceiver, as: :verify
end
