defmodule PhoenixGenApi.Application do
  @moduledoc false
  use Application

  alias PhoenixGenApi.BootAudit
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native

  @impl true
  def start(_type, _args) do
    with :ok <- Native.status(),
         :ok <- Config.load() do
      BootAudit.run()
      PhoenixGenApi.Supervisor.start_link(client_mode: Config.get(:client_mode))
    else
      {:error, sentences} when is_list(sentences) ->
        raise ArgumentError, Enum.join(sentences, "; ")

      {:error, sentence} ->
        {:error, sentence}
    end
  end

  @impl true
  def stop(_state) do
    Gateway.retract()
    Contract.Description.forget()
  end
end
