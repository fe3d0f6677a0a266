defmodule PhoenixGenApi.Doctor.Facts do
  @moduledoc false
  # What a node says of itself to the doctor, who asks all nodes and compares. Of a secret it says a keyed
  # hash, with a key that is made for one examination.

  alias PhoenixGenApi.BootAudit
  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.Doctor.Phoenix
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Offers
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Service.Scope
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.UndefinedFunctions

  # Of the process that offers a service, and of another node that looks for functions.
  @ask_ms 2_000

  @type t :: %{
          node: node(),
          mode: :gateway | :service | :stopped,
          production: boolean(),
          versions: %{
            library: String.t(),
            protocols: [pos_integer()],
            native: binary(),
            system: String.t()
          },
          settings: map(),
          secrets: %{push_token: binary() | nil},
          connected: [node()],
          functions: [map()],
          undefined: [{node(), String.t()}],
          differing: [String.t()],
          rejected: non_neg_integer(),
          empty_services: [String.t()],
          wanted: [node()],
          refused: [{node(), String.t(), [String.t()]}],
          sockets: [Phoenix.socket()],
          hidden: [{module(), atom()}]
        }

  @doc "The facts of this node; `key` is that of the hashes."
  @spec collect(binary()) :: t()
  def collect(key) do
    mode = mode()
    offers = if mode == :stopped, do: [], else: offers()
    functions = if mode == :gateway, do: functions(), else: []
    {endpoints, channels} = Phoenix.modules()

    %{
      node: node(),
      mode: mode,
      production: production?(),
      versions: versions(),
      settings: if(mode == :stopped, do: %{}, else: settings()),
      secrets: %{push_token: hash(key, Application.get_env(:phoenix_gen_api, :push_token))},
      connected: Node.list(:connected),
      functions: functions,
      undefined: undefined(functions),
      differing: if(mode == :gateway, do: differing(), else: []),
      rejected: if(mode == :gateway, do: ConfigFailed.count(), else: 0),
      empty_services: if(mode == :gateway, do: empty(functions), else: []),
      wanted: wanted(functions, offers),
      refused: refused(offers),
      sockets: Phoenix.sockets(endpoints, channels),
      hidden: Phoenix.hidden(channels)
    }
  end

  defp mode do
    running? = Process.whereis(Module.concat(["PhoenixGenApi", "Supervisor"])) != nil

    cond do
      not running? -> :stopped
      match?({:ok, _table}, Gateway.handle(:config_db)) -> :gateway
      true -> :service
    end
  end

  defp production? do
    BootAudit.due?(:auto, System.get_env("RELEASE_NAME"), :code.get_mode()) or
      (Process.whereis(Mix.State) != nil and Mix.env() == :prod)
  end

  defp versions do
    %{
      library: to_string(Application.spec(:phoenix_gen_api, :vsn)),
      protocols: RPC.Server.protocols(),
      native: native(),
      system: to_string(:erlang.system_info(:system_architecture))
    }
  end

  defp native do
    case File.read(Native.file()) do
      {:ok, library} -> :crypto.hash(:sha256, library)
      {:error, _reason} -> ""
    end
  end

  defp settings, do: Map.put(BootAudit.facts(), :accept, Config.get(:service, :accept))

  defp hash(_key, nil), do: nil
  defp hash(key, secret), do: :crypto.mac(:hmac, :sha256, key, :erlang.term_to_binary(secret))

  defp functions do
    for {service, types} <- ConfigDb.get_all_functions(),
        {type, versions} <- types,
        version <- versions,
        {:ok, config} <- [ConfigDb.get(service, type, version)],
        do: %{
          name: "#{service} #{type} #{version}",
          service: service,
          nodes: nodes(config),
          config: config
        }
  end

  defp nodes(%{nodes: :local}), do: [node()]
  defp nodes(%{nodes: :service, service: service}), do: Offers.Store.up(service)
  defp nodes(%{nodes: nodes}) when is_list(nodes), do: Enum.map(nodes, &existing/1)
  defp nodes(_found_for_each_request), do: nil

  # It is in the table, so the atom is there.
  defp existing(node) when is_atom(node), do: node
  defp existing(node), do: String.to_atom(node)

  defp undefined(functions) do
    here = for %{config: %{nodes: :local} = config} <- functions, do: config

    elsewhere =
      for %{config: %{nodes: [_ | _]}} = function <- functions,
          node <- function.nodes,
          do: {node, function.config}

    local =
      for config <- UndefinedFunctions.here(here), do: {node(), UndefinedFunctions.name(config)}

    local ++
      for {node, configs} <- Enum.group_by(elsewhere, &elem(&1, 0), &elem(&1, 1)),
          node != node() and node in Node.list(:connected),
          modules = for(%FunConfig{mfa: {module, _, _}} <- configs, uniq: true, do: module),
          {:return, _loaded} <- [
            RPC.call(node, :code, :ensure_modules_loaded, [modules], @ask_ms)
          ],
          config <- UndefinedFunctions.elsewhere(node, configs, @ask_ms),
          do: {node, UndefinedFunctions.name(config)}
  end

  defp differing do
    for service <- Offers.Store.services(),
        {type, version} <- Offers.Rolling.functions(service),
        do: "#{service} #{type} #{version}"
  end

  # Services of which no function has a node that it could run on.
  defp empty(functions) do
    for {service, functions} <- Enum.group_by(functions, & &1.service),
        Enum.all?(functions, &(&1.nodes == [])),
        do: service
  end

  # The processes of `PhoenixGenApi.Service` on this node.
  defp offers do
    for {pid, _service, _hash} <- Scope.offers(), node(pid) == node(), uniq: true, do: state(pid)
  rescue
    ArgumentError -> []
  end

  defp state(pid) do
    Map.take(:sys.get_state(pid, @ask_ms), [:gateways, :verdicts])
  catch
    :exit, _stopping -> %{gateways: :auto, verdicts: %{}}
  end

  defp wanted(functions, offers) do
    named = for %{nodes: [_ | _] = nodes} <- functions, node <- nodes, do: node

    gateways =
      for %{gateways: gateways} when is_list(gateways) <- offers, node <- gateways, do: node

    Enum.uniq(named ++ gateways) -- [node()]
  end

  defp refused(offers) do
    for %{verdicts: verdicts} <- offers,
        {{service, _hash, gateway}, {:refused, reasons}} <- verdicts,
        do: {gateway, service, reasons}
  end
end
