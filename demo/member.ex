defmodule Demo.Member do
  # A client in the room, connected to one of the gateways, who keeps what is pushed to him.
  @moduledoc false
  use GenServer

  alias Demo.{ChatChannel, Client}

  # How long anything may take that is to happen.
  @patience 10_000

  @doc "A client of that gateway enters the room; the reply to his join."
  def enter({name, node} = member, user, topic, params) do
    {:ok, _pid} =
      :erpc.call(node, GenServer, :start, [__MODULE__, {user, topic, params}, [name: name]])

    GenServer.call(member, :joined)
  end

  @doc "Sends requests, each after the reply to the one before; the replies."
  def send_all(member, requests), do: GenServer.call(member, {:send_all, requests}, @patience)

  @doc "What was pushed since the last time, once it is this much; less if it takes too long."
  def pushed(member, count) do
    GenServer.call(member, {:pushed, count}, @patience)
  catch
    :exit, {:timeout, _call} -> GenServer.call(member, {:pushed, 0}, @patience)
  end

  @impl true
  def init({user, topic, params}) do
    channel = Client.connect(%{user_id: user}, ChatChannel, topic, params)
    joined = Client.receive_frame(@patience)
    {:ok, %{channel: channel, joined: joined, pushed: [], wanted: nil}}
  end

  @impl true
  def handle_call(:joined, _from, state), do: {:reply, state.joined, state}

  def handle_call({:send_all, requests}, _from, state) do
    replies = for {ref, json} <- requests, do: Client.call(state.channel, ref, json)
    {:reply, replies, state}
  end

  def handle_call({:pushed, count}, from, state),
    do: {:noreply, hand_over(%{state | wanted: {from, count}})}

  @impl true
  def handle_info({Client, nil, :push, json}, state),
    do: {:noreply, hand_over(%{state | pushed: [json | state.pushed]})}

  defp hand_over(%{wanted: {from, count}, pushed: pushed} = state) when length(pushed) >= count do
    GenServer.reply(from, Enum.reverse(pushed))
    %{state | wanted: nil, pushed: []}
  end

  defp hand_over(state), do: state
end
