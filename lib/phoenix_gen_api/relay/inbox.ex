defmodule PhoenixGenApi.Relay.Inbox do
  @moduledoc false
  # Messages from other gateways on their way to the members here, in a process that has those of
  # many senders. Those to a large group take their time: they go through a process of the sender's
  # own, and so does all that they send meanwhile, so that their messages stay in order and nobody
  # else's wait.

  alias PhoenixGenApi.Relay.FanOut

  # Members. To send to fewer takes less than a millisecond.
  @large 1_000

  @typedoc "Senders with such a process: with how many messages it has been given."
  @type t :: %{term() => {pid(), pos_integer()}}

  @doc "Has a message sent to the members here."
  @spec take(t(), String.t(), struct()) :: t()
  def take(inbox, group, response) do
    sender = response.result["from_user_id"]

    case inbox do
      %{^sender => {pid, given}} ->
        send(pid, {:in, group, response})
        %{inbox | sender => {pid, given + 1}}

      _none ->
        if FanOut.recipient_count(group) > @large,
          do: Map.put(inbox, sender, {start(sender, group, response), 1}),
          else: at_once(inbox, group, response)
    end
  end

  @doc "A process has sent as many messages: it ends if those are all that it was given."
  @spec done(t(), term(), pid(), pos_integer()) :: t()
  def done(inbox, sender, pid, sent) do
    case inbox do
      %{^sender => {^pid, ^sent}} ->
        send(pid, :stop)
        Map.delete(inbox, sender)

      _more_to_do ->
        inbox
    end
  end

  defp at_once(inbox, group, response) do
    FanOut.deliver(group, response)
    inbox
  end

  defp start(sender, group, response) do
    owner = self()
    pid = spawn_link(fn -> loop(owner, sender, 0) end)
    send(pid, {:in, group, response})
    pid
  end

  defp loop(owner, sender, sent) do
    receive do
      {:in, group, response} ->
        FanOut.deliver(group, response)
        send(owner, {:sent, sender, self(), sent + 1})
        loop(owner, sender, sent + 1)

      :stop ->
        :ok
    end
  end
end
