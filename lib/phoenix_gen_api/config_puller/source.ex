defmodule PhoenixGenApi.ConfigPuller.Source do
  @moduledoc false
  # Asks the nodes of a service for its version and its functions. Every question is a call of
  # foreign code on a node that may hang, lie or be gone, each with its own time limit.

  alias PhoenixGenApi.ConfigPuller.PullResult
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.{FunConfig, ServiceConfig}
  alias PhoenixGenApi.UndefinedFunctions

  @unreachable "not reachable"

  @typedoc """
  `unloadable` are modules that the node does not have, with the reason; `undefined` those of the
  configs `looked_for` whose function it does not have.
  """
  @type answer :: %{
          node: node(),
          version: term(),
          listing: PullResult.t(),
          unloadable: %{module() => term()},
          looked_for: [FunConfig.t()],
          undefined: [FunConfig.t()]
        }

  @max_version_bytes 1_024

  @doc """
  The answer of the first node that gives one.

  `:unchanged` when that node has the version `known`; `nil` is never unchanged.
  """
  @spec ask(ServiceConfig.t(), term(), pos_integer()) ::
          {:ok, answer()} | :unchanged | {:error, [String.t()]}
  def ask(%ServiceConfig{} = config, known, timeout) do
    case NodeSelector.resolve_nodes_list(%FunConfig{nodes: config.nodes, hook_timeout: timeout}) do
      {:ok, nodes} -> ask_nodes(Enum.uniq(nodes), config, known, timeout, [])
      {:error, reason} -> {:error, ["nodes: " <> SafeInspect.inspect(reason)]}
    end
  end

  defp ask_nodes([], _config, _known, _timeout, problems), do: {:error, Enum.reverse(problems)}

  defp ask_nodes([node | rest], config, known, timeout, problems) do
    case ask_node(node, config, known, timeout) do
      {:error, problem} ->
        # The VM does not say why not.
        why = if problem == @unreachable, do: " (#{RPC.Connection.diagnose(node)})", else: ""
        ask_nodes(rest, config, known, timeout, ["#{node}: #{problem}#{why}" | problems])

      answered ->
        answered
    end
  end

  # The version first: functions that change in between are then seen again next time.
  defp ask_node(node, config, known, timeout) do
    with {:ok, version} <- version(node, config, timeout),
         :changed <- compare(version, known),
         {:ok, list} <- functions(node, config, timeout),
         listing = PullResult.read(list, config.service),
         {:ok, unloadable} <- unloadable(node, listing.functions, timeout) do
      looked_for = Enum.filter(listing.functions, &callable?(&1, unloadable))

      answer = %{
        node: node,
        version: version,
        listing: listing,
        unloadable: unloadable,
        looked_for: looked_for,
        undefined: UndefinedFunctions.elsewhere(node, looked_for, timeout)
      }

      {:ok, answer}
    end
  end

  # By the name of its function, if its module is there.
  defp callable?(%FunConfig{nodes: nodes, mfa: {module, function, args}}, unloadable),
    do:
      nodes != :local and is_atom(module) and is_atom(function) and is_list(args) and
        not List.improper?(args) and not is_map_key(unloadable, module)

  defp callable?(_malformed, _unloadable), do: false

  defp compare(nil, _known), do: :changed
  defp compare(version, known), do: if(version === known, do: :unchanged, else: :changed)

  # A node that cannot tell its version may still list its functions, one out of reach cannot.
  defp version(node, config, timeout) do
    if ServiceConfig.version_check_enabled?(config) do
      case call(
             node,
             config.version_module,
             config.version_function,
             config.version_args,
             timeout
           ) do
        {:return, failed} when failed in [nil, :error] -> {:ok, nil}
        {:return, {:error, _reason}} -> {:ok, nil}
        {:return, version} -> {:ok, bounded(version)}
        {:raised, _kind, _reason, _stack} -> {:ok, nil}
        :timeout -> {:ok, nil}
        unreachable -> {:error, problem(unreachable)}
      end
    else
      {:ok, nil}
    end
  end

  # It is kept, to be compared with the next one.
  defp bounded(version) do
    if :erlang.external_size(version) > @max_version_bytes,
      do: {:sha256, :crypto.hash(:sha256, :erlang.term_to_binary(version, [:deterministic]))},
      else: version
  end

  defp functions(node, config, timeout) do
    case call(node, config.module, config.function, config.args, timeout) do
      {:return, {:ok, list}} when length(list) >= 0 ->
        {:ok, list}

      {:return, other} ->
        {:error, "expected {:ok, list}, got " <> SafeInspect.inspect(other, 100)}

      failed ->
        {:error, problem(failed)}
    end
  end

  # With the arguments as configured, then with the name of this node added, then without any.
  defp call(node, module, function, args, timeout) do
    [args, args ++ [node()], []]
    |> Enum.uniq()
    |> Enum.reduce_while(nil, fn args, _missing ->
      outcome = RPC.call(node, module, function, args, timeout)
      if missing?(outcome, module, function, args), do: {:cont, outcome}, else: {:halt, outcome}
    end)
  end

  # The function itself and not another one that it calls.
  defp missing?(
         {:raised, :error, :undef, [{module, function, on_stack, _} | _]},
         module,
         function,
         args
       ),
       do: on_stack == args or on_stack == length(args)

  defp missing?(_outcome, _module, _function, _args), do: false

  # One call of plain OTP for the whole list. It loads also where code is not loaded on demand.
  defp unloadable(node, functions, timeout) do
    modules =
      for %FunConfig{nodes: nodes, mfa: {module, _function, _args}} when is_atom(module) <-
            functions,
          nodes != :local,
          uniq: true,
          do: module

    case ensure_loaded(node, modules, timeout) do
      {:return, :ok} -> {:ok, %{}}
      {:return, {:error, reasons}} -> {:ok, Map.new(reasons)}
      failed -> {:error, "its modules could not be looked up: " <> problem(failed)}
    end
  end

  defp ensure_loaded(_node, [], _timeout), do: {:return, :ok}

  defp ensure_loaded(node, modules, timeout),
    do: RPC.call(node, :code, :ensure_modules_loaded, [modules], timeout)

  defp problem({:raised, kind, reason, _stack}),
    do: "failed with " <> SafeInspect.reason(kind, reason)

  defp problem(:timeout), do: "no answer in time"
  defp problem(unsent) when unsent in [:not_connected, :unreachable], do: @unreachable
  defp problem({:node_down, reason}), do: "connection lost (#{SafeInspect.inspect(reason, 100)})"
  defp problem({:return, other}), do: "unexpected answer " <> SafeInspect.inspect(other, 100)
end
