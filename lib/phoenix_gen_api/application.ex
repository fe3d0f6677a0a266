defmodule PhoenixGenApi.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    with :ok <- PhoenixGenApi.Native.status() do
      Supervisor.start_link([], strategy: :one_for_one, name: PhoenixGenApi.Supervisor)
    end
  end
end
