defmodule Gateway.Lobby do
  @moduledoc """
  The chat room: a relay group, and the function that clients call to say something in it.
  """
  use GenServer

  alias PhoenixGenApi.{ConfigDb, Relay}
  alias PhoenixGenApi.Structs.FunConfig

  @group "lobby"

  def group, do: @group

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil)

  @impl true
  def init(_arg) do
    :ok =
      ConfigDb.add(%FunConfig{
        service: "chat",
        request_type: "say",
        nodes: :local,
        mfa: {Relay, :handle_relay, []},
        arg_types: [{"group_id", :string}, {"message", {:string, 500}}],
        check_permission: :any_authenticated
      })

    # Its creator is a member like any other, and leaves with this process. The group stays.
    # With several gateways another one may have created it.
    case Relay.create_group(@group, :public, "lobby", self()) do
      :ok -> :ignore
      {:error, :already_exists} -> :ignore
    end
  end
end
