defmodule PhoenixGenApi.ConfigSync.VersionVector do
  @moduledoc false
  # What a gateway knows about the pushes of one service: a multi-value register with dotted
  # version vectors (Preguiça, Baquero, Almeida, Fonte, Gonçalves: "Dotted Version Vectors",
  # 2010). Merging is commutative, associative and idempotent, so gateways that have exchanged
  # everything hold the same one, in whatever order they heard of it.
  #
  # `live` are the pushes that no later push has replaced: one, or several that were made
  # without knowing of each other. `seen` says which pushes are known, the replaced and the
  # deleted ones too: per gateway the last one. A push replaces what its gateway has seen, so
  # a rollback to a lower version is a push like any other; only among pushes that did not
  # know of each other the version decides. All of those are kept, as the one that loses
  # today wins when a push replaces the other one only: keeping just the winner would make
  # the result depend on the order of messages.
  #
  # What a service pushes again, because a gateway has restarted, is a push with the time of the
  # first one. Its gateway may know nothing of what was pushed since, as it has just started: so
  # it counts only where nothing was pushed later.
  #
  # Deleting leaves nothing live. What the deletion had not seen stays.

  alias PhoenixGenApi.ConfigDb

  # Gateways remembered per service. A new life of a gateway is a new one; the oldest are
  # dropped. Only who was cut off for that many lives can bring back what was replaced.
  @max_seen 64

  @typedoc "One life of a gateway, never used again after a restart."
  @type gateway :: {node(), integer()}

  @typedoc "The name of a push: a number higher than all that its gateway had seen, and the gateway."
  @type dot :: {integer(), gateway()}

  @typedoc """
  A push without its content, of which there is a digest; `at` is when it was made, in
  microseconds since 1970: if `again`, for the first time.
  """
  @type push :: %{
          dot: dot(),
          at: integer(),
          again: boolean(),
          version: String.t(),
          digest: binary()
        }

  @type t :: %{seen: %{gateway() => integer()}, live: [push()]}

  @spec new() :: t()
  def new, do: %{seen: %{}, live: []}

  @doc "With a push that was made at `at` and accepted by `gateway`, which had seen all of this."
  @spec push(t(), gateway(), integer(), String.t(), binary(), boolean()) :: t()
  def push(%{seen: seen}, gateway, at, version, digest, again? \\ false) do
    number = next(seen, at)
    push = %{dot: {number, gateway}, at: at, again: again?, version: version, digest: digest}
    %{seen: trim(Map.put(seen, gateway, number)), live: [push]}
  end

  @doc "With everything deleted that `gateway` had seen at `at`."
  @spec delete(t(), gateway(), integer()) :: t()
  def delete(%{seen: seen}, gateway, at),
    do: %{seen: trim(Map.put(seen, gateway, next(seen, at))), live: []}

  @doc "All that either of them knows."
  @spec merge(t(), t()) :: t()
  def merge(same, same), do: same

  def merge(a, b) do
    live = Enum.filter(a.live, &survives?(&1, b)) ++ Enum.filter(b.live, &survives?(&1, a))

    %{
      seen: a.seen |> Map.merge(b.seen, fn _gateway, m, n -> max(m, n) end) |> trim(),
      live: live |> Enum.uniq() |> Enum.sort()
    }
  end

  @doc """
  The push that counts: of the live ones that with the highest version, then the newest, then
  the one whose gateway sorts last; none that was only pushed again and is older than another.
  Nil when all are deleted, or there was none.
  """
  @spec winner(t()) :: push() | nil
  def winner(%{live: []}), do: nil

  def winner(%{live: live}) do
    newest = live |> Enum.map(& &1.at) |> Enum.max()
    live |> Enum.reject(&(&1.again and &1.at < newest)) |> Enum.reduce(&higher/2)
  end

  @doc "The number of the last push or deletion, which is about when it was made; 0 without one."
  @spec last_seen(t()) :: integer()
  def last_seen(%{seen: seen}), do: last(seen)

  @doc "The same for equal vectors, different for different ones."
  @spec stamp(t()) :: binary()
  def stamp(vector),
    do: :erlang.md5(:erlang.term_to_binary(vector, [:deterministic, minor_version: 2]))

  defp survives?(%{dot: dot} = push, other),
    do: push in other.live or not seen?(other, dot)

  defp seen?(%{seen: seen}, {number, gateway}), do: Map.get(seen, gateway, number - 1) >= number

  defp higher(push, other) do
    case ConfigDb.compare_versions(push.version, other.version) do
      :gt -> push
      :lt -> other
      :eq -> if {push.at, push.dot} > {other.at, other.dot}, do: push, else: other
    end
  end

  # Near the clock, so that the highest numbers are those of the latest gateways.
  defp next(seen, at), do: max(at, last(seen) + 1)

  defp last(seen), do: seen |> Map.values() |> Enum.max(fn -> 0 end)

  defp trim(seen) when map_size(seen) <= @max_seen, do: seen

  defp trim(seen) do
    seen
    |> Enum.sort_by(fn {gateway, number} -> {number, gateway} end, :desc)
    |> Enum.take(@max_seen)
    |> Map.new()
  end
end
