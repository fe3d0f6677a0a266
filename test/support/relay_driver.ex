defmodule PhoenixGenApi.RelayDriver do
  @moduledoc false
  # A user who joins, leaves and sends at random, on one gateway, and remembers what he was told.

  alias PhoenixGenApi.{Relay, RelayMembers}

  @unclear [{:error, :timeout}, {:error, :not_running}]

  @doc """
  Starts one. With `shared?` the user is driven on other gateways as well, and leaves with single
  processes only.
  """
  @spec start([String.t()], String.t(), boolean(), integer()) :: pid()
  def start(groups, user, shared?, seed) do
    spawn(fn ->
      :rand.seed(:exsss, seed)
      drive(%{user: user, shared?: shared?, n: 0, groups: Map.new(groups, &{&1, []})})
    end)
  end

  @doc """
  Ends it. Returns the processes with which he is in each group, or `:unclear` where he was told
  once that something may happen later; what he was told and should not have been; and how much
  he has done.
  """
  @spec stop(pid()) :: {%{String.t() => [pid()] | :unclear}, [term()], non_neg_integer()}
  def stop(pid) do
    send(pid, {:stop, self()})

    receive do
      {^pid, known} -> known
    end
  end

  @doc "How much it has done."
  @spec steps(pid()) :: non_neg_integer()
  def steps(pid) do
    send(pid, {:steps, self()})

    receive do
      {^pid, :steps, n} -> n
    end
  end

  defp drive(state) do
    receive do
      {:steps, from} ->
        send(from, {self(), :steps, state.n})
        drive(state)

      {:stop, from} ->
        clear = Map.reject(state.groups, fn {_group, known} -> match?({:wrong, _}, known) end)
        wrong = for {_group, {:wrong, what}} <- state.groups, do: what
        send(from, {self(), {clear, wrong, state.n}})
    after
      0 ->
        {group, known} = Enum.random(state.groups)
        known = if is_list(known), do: step(:rand.uniform(8), group, known, state), else: known
        drive(%{state | n: state.n + 1, groups: Map.put(state.groups, group, known)})
    end
  end

  defp step(n, group, pids, state) when n <= 3 do
    pid = RelayMembers.start()

    case Relay.join_group(group, state.user, pid) do
      {:ok, :active} -> [pid | pids]
      other -> not_so(other, {:join, group, state.user})
    end
  end

  defp step(4, group, [pid | pids], state) do
    case Relay.leave_group(group, state.user, pid) do
      :ok -> pids
      other -> not_so(other, {:leave_device, group, state.user})
    end
  end

  defp step(5, _group, [pid | pids], _state) do
    Process.exit(pid, :kill)
    pids
  end

  defp step(6, group, pids, %{shared?: false} = state) do
    case Relay.leave_group(group, state.user) do
      :ok -> []
      # His last process may have ended just now, and he may have left by that.
      {:error, :user_not_in_group} when pids == [] -> []
      other -> not_so(other, {:leave, group, state.user})
    end
  end

  defp step(_n, group, pids, state) do
    RelayMembers.say(group, state.user, {state.user, node(), state.n})
    pids
  end

  defp not_so(result, _what) when result in @unclear, do: :unclear
  defp not_so(result, what), do: {:wrong, {what, result}}
end
