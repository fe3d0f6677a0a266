defmodule PhoenixGenApi.Offers do
  @moduledoc false
  # The gateway's side of `PhoenixGenApi.Service`: which nodes offer which functions.
  #
  #   Server     watches who offers, and asks them; the one writer of the store
  #   Admission  what is asked of one of them, and the gates that its content has to pass
  #   Store      what is known: members, nodes, contents
  #   View       what that comes to: functions, definitions, candidates. Pure
  #   Installer  has the table of configs and the candidates follow
  #   Sources    what else the functions of a service may come from
  #   Rolling    functions of which the nodes offer different definitions

  alias PhoenixGenApi.Offers.{Rolling, Server, Store, View}
  alias PhoenixGenApi.ProcessNames
  alias PhoenixGenApi.Service.{Content, Scope}

  @doc "Creates the tables, for the supervisor."
  @spec new() :: :ok
  def new do
    Store.new()
    Rolling.new()
  end

  @doc "The scope and the process that watches it."
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(_opts),
    do: %{id: __MODULE__, start: {__MODULE__, :start_link, []}, type: :supervisor}

  @doc false
  @spec start_link() :: Supervisor.on_start()
  def start_link do
    ProcessNames.await_free([Server])

    Supervisor.start_link([Scope, Server],
      strategy: :rest_for_one,
      max_restarts: 100,
      max_seconds: 10
    )
  end

  @doc "The nodes of a service: those that offer it, and those that stop."
  @spec nodes(String.t()) :: %{
          node() => %{
            version: String.t(),
            functions: non_neg_integer(),
            since: DateTime.t(),
            state: :up | :draining
          }
        }
  def nodes(service) do
    contents = Store.contents(service)

    service
    |> Store.members()
    |> Enum.group_by(
      fn {_offer, member} -> member.node end,
      fn {{_pid, _service, hash}, member} -> Map.put(member, :hash, hash) end
    )
    |> Map.new(fn {node, members} -> {node, node(members, contents)} end)
  end

  @doc "The services that are offered, or were not long ago."
  @spec services() :: [String.t()]
  def services, do: Enum.sort(Store.services())

  @doc "The functions of a service of which nodes offer different definitions: the nodes of each."
  @spec differences(String.t()) :: [{Content.key(), [[node()]]}]
  def differences(service) do
    structure = service |> Store.contents() |> View.structure()
    service |> Store.records() |> View.differences(structure) |> Enum.sort()
  end

  # A node may offer a service in several pieces.
  defp node(members, contents) do
    up = Enum.filter(members, &(&1.state == :up))
    shown = if up == [], do: members, else: up
    hashes = shown |> Enum.map(& &1.hash) |> Enum.uniq() |> Enum.sort()
    keys = for hash <- hashes, {key, _} <- Map.get(contents, hash, %{}), uniq: true, do: key

    %{
      version: Enum.map_join(hashes, "+", &Content.short/1),
      functions: length(keys),
      since: shown |> Enum.map(& &1.since) |> Enum.min(DateTime),
      state: if(up == [], do: :draining, else: :up)
    }
  end
end
