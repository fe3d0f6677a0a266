defmodule PhoenixGenApi.Doctor.Connection do
  @moduledoc false
  # Why this node cannot connect with another one, looked for in the order in which a connection is made: name,
  # host, epmd, port, handshake.

  alias PhoenixGenApi.Doctor.Finding

  @connect_ms 2_000

  @doc "What stands in the way of a connection with the node; nothing if there is one."
  @spec findings(String.t()) :: [Finding.t()]
  def findings(name) do
    with {:ok, short, host} <- split(name),
         :ok <- names(host),
         {:ok, address} <- resolve(host),
         {:ok, port} <- registered(short, host, address),
         :ok <- listens(name, address, port) do
      handshake(name)
    else
      {:error, finding} -> [finding]
    end
  end

  defp split(name) do
    case String.split(name, "@") do
      [short, host] when short != "" and host != "" ->
        {:ok, short, String.to_charlist(host)}

      _other ->
        error(
          :name,
          "#{name} is no name of a node",
          "a node is known by its name and its host",
          "write it as node() shows it on the node: shop@10.0.0.7"
        )
    end
  end

  # A node with a long name and one with a short name do not connect.
  defp names(host) do
    long? = Enum.member?(host, ?.)

    if Node.alive?() and long? != :net_kernel.longnames() do
      error(
        :name_kind,
        "#{host} is a #{if long?, do: "long", else: "short"} name, and the node that asks has a #{if long?, do: "short", else: "long"} one",
        "nodes with long names and nodes with short names do not connect",
        "start all nodes with --name and a host with a dot, or all with --sname"
      )
    else
      :ok
    end
  end

  defp resolve(host) do
    with {:error, _reason} <- :inet.getaddr(host, :inet),
         {:error, reason} <- :inet.getaddr(host, :inet6) do
      error(
        :host,
        "the host #{host} is not known here (#{reason})",
        "without an address there is nothing to connect with",
        "correct the name, /etc/hosts or the DNS"
      )
    end
  end

  defp registered(short, host, address) do
    case :erl_epmd.names(address) do
      {:error, reason} ->
        error(
          :epmd,
          "no epmd answers on #{host} (#{reason})",
          "it knows on which port a node listens",
          "start the node as a distributed one, or open port 4369; with another ERL_EPMD_PORT, set that here, too"
        )

      {:ok, names} ->
        case List.keyfind(names, String.to_charlist(short), 0) do
          {_name, port} ->
            {:ok, port}

          nil ->
            error(
              :not_registered,
              "epmd on #{host} knows no #{short}, but #{Finding.names(Enum.map(names, &elem(&1, 0)))}",
              "the node does not run, or has another name",
              "start it, or correct the name"
            )
        end
    end
  end

  defp listens(name, address, port) do
    case :gen_tcp.connect(address, port, [:binary, active: false], @connect_ms) do
      {:ok, socket} ->
        :gen_tcp.close(socket)

      {:error, reason} ->
        error(
          :port,
          "#{name} does not listen on port #{port} that it told epmd (#{reason})",
          "a firewall, or a node that hangs",
          "open the port; -kernel inet_dist_listen_min and inet_dist_listen_max keep it in a range"
        )
    end
  end

  defp handshake(name) do
    if Node.connect(String.to_atom(name)) do
      []
    else
      {:error, finding} =
        error(
          :cookie,
          "#{name} refuses the connection",
          "its cookie is another one, or only one of the two nodes uses TLS; the log of the node says which",
          "pass its cookie (--cookie), or start this with the same -proto_dist and certificates"
        )

      [finding]
    end
  end

  defp error(id, what, why, fix),
    do: {:error, Finding.new(id, :error, nil, what, why, fix)}
end
