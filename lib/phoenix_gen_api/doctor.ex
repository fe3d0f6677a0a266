defmodule PhoenixGenApi.Doctor do
  @moduledoc """
  Examines a cluster: its nodes, what is between them, their settings and functions.

      for finding <- PhoenixGenApi.Doctor.examine(), do: IO.puts(PhoenixGenApi.Doctor.format(finding))

  It asks this node and every node that is connected with it and has the library, compares what they say, and
  returns what is wrong. `mix phoenix_gen_api.doctor` does it from a shell, also for a node that cannot be reached.

  | Looked at | Found |
  |---|---|
  | connections | nodes that functions or services name and that are not connected; nodes that are not connected with each other; missing TLS, short cookies |
  | versions | of the library, its protocol and its native part, where they differ |
  | functions | those that do not exist where they should run, differing definitions, refused offers, services without a node, rejected configs |
  | settings | allowlist, push token, `accept`, `admin_actions`, limits, service guard, `detail_error` in production |
  | Phoenix | sockets without peer data or with frames of any size; clauses of channels that hide those of the library |

  Secrets are compared by a keyed hash and never shown. Nothing is changed.
  """

  alias PhoenixGenApi.Doctor.{Cluster, Facts, Finding, Phoenix, Settings}

  @typedoc """
  Something that is wrong: `what` it is, `why` it matters and what to do (`fix`). An `:error` breaks requests or tells
  clients what they should not know, a `:warning` may be meant.
  """
  @type finding :: %{
          __struct__: module(),
          id: atom(),
          level: :error | :warning,
          node: node() | nil,
          what: String.t(),
          why: String.t(),
          fix: String.t()
        }

  # For what a node says of itself.
  @ask_ms 15_000

  @doc "What is wrong, errors first."
  @spec examine() :: [finding()]
  def examine do
    key = :crypto.strong_rand_bytes(32)

    [node() | Node.list()]
    |> Task.async_stream(&ask(&1, key), timeout: :infinity, max_concurrency: 32)
    |> Enum.flat_map(fn {:ok, answer} -> answer end)
    |> diagnose()
  end

  defp ask(node, key) do
    [{:ok, :erpc.call(node, Facts, :collect, [key], @ask_ms)}]
  catch
    # Without the library, or with a version that has no doctor.
    :error, {:exception, :undef, [{Facts, :collect, _, _} | _]} -> without(node)
    # One that has left meanwhile is not part of the cluster.
    kind, reason -> for true <- [connected?(node)], do: {:error, silent(node, kind, reason)}
  end

  defp connected?(node), do: node == node() or node in Node.list()

  defp without(node) do
    case :erpc.call(node, :application, :get_key, [:phoenix_gen_api, :vsn], @ask_ms) do
      {:ok, version} -> [{:error, old(node, version)}]
      :undefined -> []
    end
  catch
    _kind, _reason -> []
  end

  defp old(node, version) do
    Finding.new(
      :no_doctor,
      :warning,
      node,
      "the node has version #{version} of the library, which has no doctor",
      "it was not examined",
      "finish the upgrade"
    )
  end

  defp silent(node, kind, reason) do
    Finding.new(
      :no_answer,
      :error,
      node,
      "the node does not say how it is: #{PhoenixGenApi.SafeInspect.reason(kind, reason)}",
      "it was not examined, and requests may find it no better",
      "look at its log and its load"
    )
  end

  @doc false
  # From what the nodes have said.
  @spec diagnose([{:ok, Facts.t()} | {:error, finding()}]) :: [finding()]
  def diagnose(answers) do
    facts = for {:ok, facts} <- answers, do: facts
    silent = for {:error, finding} <- answers, do: finding

    (silent ++
       Cluster.findings(facts) ++
       Enum.flat_map(facts, &(Settings.findings(&1) ++ Phoenix.findings(&1))))
    |> Enum.sort_by(&{&1.level, &1.node, &1.id})
  end

  @doc "A finding as text, of several lines."
  @spec format(finding()) :: String.t()
  defdelegate format(finding), to: Finding
end
