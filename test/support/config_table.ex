defmodule PhoenixGenApi.Test.ConfigTable do
  @moduledoc false
  # A config table of the test's own in place of the node's, for tests of everything in it.

  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native

  @doc "Puts an empty table in place until the test ends. Not for tests that run beside others."
  @spec use_empty() :: :ok
  def use_empty do
    {:ok, own} = Gateway.handle(:config_db)
    ExUnit.Callbacks.on_exit(fn -> publish(own) end)
    publish(Native.config_db_new())
  end

  defp publish(table) do
    instances = :persistent_term.get(Gateway)
    Gateway.publish(%{instances | config_db: table})
  end
end
