defmodule PhoenixGenApi.ConfigSync.Comparison do
  @moduledoc false
  # What becomes of a push by what its service has already. The caller holds the service's lock.

  alias PhoenixGenApi.ConfigPuller.Store
  alias PhoenixGenApi.ConfigSync.{Content, JoinedNodes, PushStore, TableCheck, VersionVector}
  alias PhoenixGenApi.Structs.PushConfig

  @typedoc """
  `:send` is to store it, if it is valid; `:differs` that it has the version of what is stored, and another
  content.
  """
  @type result ::
          :send
          | :differs
          | {:join, node(), Content.fingerprint()}
          | {:ok, :skipped, :version_matches | :superseded}

  @doc """
  Compares a push with what its service has. `content` is its fingerprint with the only node that it
  names, or anything else where that is not known.
  """
  @spec run(PushConfig.t(), term(), keyword()) :: result()
  # Nothing is known of what no service can be called; the validation says what is wrong with it.
  def run(%{service: service}, _content, _opts) when not is_binary(service), do: :send

  # What counts among the gateways decides, not what this one may have kept instead.
  def run(%{service: service, config_version: version}, content, opts) do
    %{vector: vector, applied: applied} = PushStore.entry(service)
    winner = VersionVector.winner(vector)
    same? = match?(%{version: ^version}, winner) and winner == applied

    cond do
      superseded?(service, version, opts[:pushed_at], same?, vector) ->
        {:ok, :skipped, :superseded}

      same? and not (opts[:force] || false) and TableCheck.holds?(service, applied) ->
        compare(service, applied, content)

      true ->
        :send
    end
  end

  defp compare(service, %{digest: digest}, {fingerprint, node})
       when is_binary(fingerprint) and is_atom(node) do
    case PushStore.outline(service, digest) do
      {:ok, %{fingerprint: ^fingerprint, nodes: nodes}} ->
        known? =
          node == nil or Atom.to_string(node) in nodes or
            node in JoinedNodes.of(service, fingerprint)

        if known?, do: {:ok, :skipped, :version_matches}, else: {:join, node, fingerprint}

      _another_content ->
        :differs
    end
  end

  # Of an older pusher, or of functions that are none.
  defp compare(_service, _applied, _not_known), do: :send

  defp superseded?(_service, _version, pushed_at, _same?, _vector) when not is_integer(pushed_at),
    do: false

  # An operator wants it pulled since, or something was pushed later, or is in a conflict with it.
  defp superseded?(service, version, pushed_at, same?, %{live: live} = vector) do
    Store.pulled_since?(service, pushed_at) or
      (not same? and live != [] and
         case VersionVector.winner(vector) do
           %{at: at} when at > pushed_at -> true
           %{version: ^version} -> false
           _another_version -> Enum.any?(live, &(&1.version == version))
         end)
  end
end
