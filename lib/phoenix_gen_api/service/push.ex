defmodule PhoenixGenApi.Service.Push do
  @moduledoc false
  # One push of one push config to one gateway: what it is sent with, how it is answered, and what is
  # logged of it.

  alias PhoenixGenApi.ConfigReceiver
  alias PhoenixGenApi.ConfigSync.Content
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.ServiceGuard
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig}
  alias PhoenixGenApi.UndefinedFunctions
  alias PhoenixGenApi.Log

  require Log

  # What every node without a name is called, by itself only.
  @unnamed :nonode@nohost

  @type badrpc :: {:error, {:badrpc, term()}}
  @type result :: ConfigReceiver.result() | badrpc()

  @doc """
  Pushes, unless this node lacks functions that it says to have. Options: `:timeout`, which is required, and `:force`, `:strict` and
  `:pushed_at` as `PhoenixGenApi.ConfigReceiver.push/2` has them.
  """
  @spec run(node(), PushConfig.t(), keyword()) :: result()
  def run(gateway, push_config, opts) do
    push_config =
      push_config |> PushConfig.complete() |> PushConfig.on_node(node()) |> with_name()

    case undefined(push_config) do
      [] -> send_to(gateway, push_config, opts)
      names -> {:error, {:undefined_functions, names}}
    end
  end

  # Functions that this node says to have.
  defp undefined(%{fun_configs: configs}) when length(configs) >= 0 do
    own =
      for %FunConfig{nodes: nodes} = config <- Enum.map(configs, &FunConfig.complete/1),
          is_list(nodes) and not List.improper?(nodes) and
            (node() in nodes or Atom.to_string(node()) in nodes),
          do: config

    for config <- UndefinedFunctions.here(own), uniq: true, do: UndefinedFunctions.name(config)
  end

  defp undefined(_malformed), do: []

  defp send_to(gateway, push_config, opts) do
    ServiceGuard.register(push_config)
    push_config = with_token(push_config)
    content = {Content.fingerprint(push_config), Content.single_node(push_config)}

    receiver_opts =
      [node: node(), content: content] ++ Keyword.take(opts, [:force, :pushed_at, :strict])

    deadline = System.monotonic_time(:millisecond) + opts[:timeout]

    with :send <- offer(gateway, push_config, receiver_opts, opts) do
      left = max(deadline - System.monotonic_time(:millisecond), 0)

      gateway
      |> call(ConfigReceiver, :push, [push_config, receiver_opts], left)
      |> warn(gateway, push_config)
    end
  end

  defp warn({:ok, :skipped, :version_differs}, gateway, %{
         service: service,
         config_version: version
       }) do
    Log.warning(
      "push of service #{SafeInspect.inspect(service)} to #{gateway} changes nothing: it has other content as " <>
        "version #{SafeInspect.inspect(version)}; push this one with another config_version"
    )

    {:ok, :skipped, :version_matches}
  end

  defp warn(answer, _gateway, _push_config), do: answer

  # One that was made before this node had a name.
  defp with_name(push_config) do
    if Node.alive?(), do: name_nodes(push_config), else: push_config
  end

  defp name_nodes(%{fun_configs: functions} = push_config) do
    functions =
      if is_list(functions) and not List.improper?(functions),
        do: Enum.map(functions, &name_own/1),
        else: functions

    name_own(%{push_config | fun_configs: functions})
  end

  defp name_own(%{nodes: nodes} = config) when is_list(nodes) do
    if not List.improper?(nodes) and Enum.any?(nodes, &unnamed?/1),
      do: %{config | nodes: Enum.map(nodes, &if(unnamed?(&1), do: node(), else: &1))},
      else: config
  end

  defp name_own(other), do: other

  defp unnamed?(node), do: node in [@unnamed, Atom.to_string(@unnamed)]

  defp offer(gateway, push_config, receiver_opts, opts) do
    if opts[:force] do
      :send
    else
      offer = [%{push_config | fun_configs: nil}, receiver_opts]

      case call(gateway, ConfigReceiver, :offer, offer, opts[:timeout]) do
        # Of a version of the library that takes no offers.
        {:error, {:badrpc, :undef}} -> :send
        answer -> answer
      end
    end
  end

  @doc "Logs what came of it."
  @spec log(result(), node(), PushConfig.t()) :: :ok
  def log(result, gateway, push_config) do
    %{service: service, config_version: version} = PushConfig.complete(push_config)

    push =
      "push of service #{SafeInspect.inspect(service)} #{SafeInspect.inspect(version)} to #{gateway}"

    case result do
      {:ok, :accepted} -> Log.info(push <> " accepted")
      {:ok, :skipped, :version_matches} -> Log.info(push <> " skipped: it has this version")
      {:ok, :skipped, :superseded} -> Log.info(push <> " skipped: it has a later push")
      {:error, reason} -> Log.error(push <> " failed: " <> SafeInspect.inspect(reason))
      # Of a newer version of the library.
      answer -> Log.warning(push <> " was answered " <> SafeInspect.inspect(answer))
    end
  end

  defp with_token(%{push_token: token} = push_config) when token in [nil, ""],
    do: %{push_config | push_token: Application.get_env(:phoenix_gen_api, :push_token)}

  defp with_token(push_config), do: push_config

  @doc "Calls a function on a gateway."
  # Only reasons are passed on: the stack of a failed call may hold its arguments, and with
  # them the token.
  @spec call(node(), module(), atom(), [term()], timeout()) :: term() | badrpc()
  def call(gateway, module, function, args, timeout) do
    :erpc.call(gateway, module, function, args, timeout)
  catch
    :error, {:erpc, reason} -> {:error, {:badrpc, reason}}
    :error, {:exception, reason, _stack} -> {:error, {:badrpc, reason}}
    :exit, {_exception_or_signal, reason} -> {:error, {:badrpc, reason}}
    :throw, value -> {:error, {:badrpc, value}}
  end
end
