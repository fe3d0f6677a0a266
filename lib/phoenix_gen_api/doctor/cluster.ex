defmodule PhoenixGenApi.Doctor.Cluster do
  @moduledoc false
  # What is wrong between nodes, and with the functions that run on them.

  alias PhoenixGenApi.Doctor.{Facts, Finding}

  @spec findings([Facts.t()]) :: [Finding.t()]
  def findings(all) do
    running = Enum.reject(all, &(&1.mode == :stopped))

    Enum.flat_map(running, &one/1) ++
      pairs(running) ++ versions(running) ++ tokens(running)
  end

  defp one(facts) do
    unreachable(facts) ++ undefined(facts) ++ refused(facts) ++ differing(facts) ++ empty(facts)
  end

  defp unreachable(%{wanted: wanted, connected: connected, node: node, mode: mode}) do
    {what, fix} =
      if mode == :gateway,
        do:
          {"functions are to run on", "start these nodes, or correct the nodes of the functions"},
        else:
          {"gateways are configured that are", "start these gateways, or correct gateways: [...]"}

    case wanted -- connected do
      [] ->
        []

      missing ->
        [
          Finding.new(
            :unreachable,
            :error,
            node,
            "#{what} not connected: #{Finding.names(missing)}",
            "no request gets there",
            "#{fix}. mix phoenix_gen_api.doctor --node NAME says why a node cannot be reached"
          )
        ]
    end
  end

  defp undefined(%{undefined: undefined}) do
    for {node, names} <- Enum.group_by(undefined, &elem(&1, 0), &elem(&1, 1)) do
      Finding.new(
        :undefined_functions,
        :error,
        node,
        "functions that should run here do not exist: #{Finding.names(Enum.uniq(names))}",
        "each request for them fails with `internal`",
        "deploy their code to this node, or correct `mfa` and the number of arguments"
      )
    end
  end

  defp refused(%{refused: refused, node: node}) do
    for {gateway, service, reasons} <- refused do
      Finding.new(
        :refused_offer,
        :error,
        node,
        "#{gateway} refuses what this node offers of #{service}: #{Finding.names(reasons)}",
        "requests for the service do not come to this node",
        "correct what the reasons name; the log of both nodes has all of them"
      )
    end
  end

  defp differing(%{differing: [_ | _] = differing, node: node}) do
    [
      Finding.new(
        :differing_definitions,
        :warning,
        node,
        "nodes offer different definitions of #{Finding.names(differing)}",
        "what a request may say depends on the node that gets it; that is right only during a deployment",
        "finish the deployment, and declare changes that callers notice under a new version"
      )
    ]
  end

  defp differing(_facts), do: []

  defp empty(%{empty_services: services, node: node}) do
    for service <- services do
      Finding.new(
        :no_node,
        :error,
        node,
        "no node offers the service #{service}",
        "its functions are known, and each request is answered with `unavailable`",
        "start a node with it; PhoenixGenApi.Service.await/2 says there what keeps it from being taken"
      )
    end
  end

  # Everybody was reached by the one that asks, but not necessarily by each other.
  defp pairs(all) do
    for one <- all,
        other <- all,
        one.node < other.node,
        :gateway in [one.mode, other.mode],
        other.node not in one.connected or one.node not in other.connected do
      Finding.new(
        :not_connected,
        :error,
        one.node,
        "#{one.node} and #{other.node} are not connected with each other",
        "neither sees what the other one has: functions, members of groups, decisions of operators",
        "look for a firewall or an address that only one of them can reach, and for connect_all false"
      )
    end
  end

  defp versions(all) do
    library = by(all, & &1.versions.library)

    protocols =
      for one <- all,
          other <- all,
          one.node < other.node,
          disjoint?(one, other),
          do: {one.node, other.node}

    # The same source built for the same system.
    native =
      all |> Enum.group_by(&{&1.versions.library, &1.versions.system}) |> Enum.filter(&natives?/1)

    Finding.only(
      map_size(library) > 1,
      Finding.new(
        :library_versions,
        :warning,
        nil,
        "nodes run different versions of the library: #{shown(library)}",
        "that works during an upgrade; new features work only where all nodes have them",
        "finish the upgrade"
      )
    ) ++
      for {one, other} <- protocols do
        Finding.new(
          :protocols,
          :error,
          one,
          "#{one} and #{other} speak no common protocol",
          "calls go a slower way, cannot be cancelled, and gateways do not exchange what they know",
          "upgrade the node with the older version"
        )
      end ++
      for {{library, _system}, nodes} <- native do
        Finding.new(
          :native_versions,
          :warning,
          nil,
          "nodes with version #{library} have different native libraries: #{Finding.names(Enum.map(nodes, & &1.node))}",
          "one may be left over from another version, or built from other sources",
          "compile again: mix deps.compile phoenix_gen_api --force"
        )
      end
  end

  defp disjoint?(one, other) do
    :gateway in [one.mode, other.mode] and
      Enum.all?(one.versions.protocols, &(&1 not in other.versions.protocols))
  end

  defp natives?({_same, nodes}), do: map_size(by(nodes, & &1.versions.native)) > 1

  defp tokens(all) do
    Finding.only(
      map_size(by(all, & &1.secrets.push_token)) > 1,
      Finding.new(
        :push_token,
        :error,
        nil,
        "nodes have different push tokens, or only some have one: " <>
          groups(by(all, & &1.secrets.push_token)),
        "gateways refuse what is pushed or offered without their own token",
        "set the same config :phoenix_gen_api, :push_token on all of them"
      )
    )
  end

  defp by(all, key), do: Enum.group_by(all, key, & &1.node)

  defp shown(by),
    do: Enum.map_join(by, "; ", fn {value, nodes} -> "#{value} on #{Finding.names(nodes)}" end)

  # Without the values.
  defp groups(by), do: by |> Map.values() |> Enum.map_join(" | ", &Finding.names/1)
end
