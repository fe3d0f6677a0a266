defmodule PhoenixGenApi.Doctor.Phoenix do
  @moduledoc false
  # The endpoints, sockets and channels of this node, as far as they are of this library.

  alias PhoenixGenApi.Doctor.Finding

  @typedoc "A transport of a socket that has a channel of this library."
  @type socket :: %{
          endpoint: module(),
          path: String.t(),
          peer_data: boolean(),
          max_frame_bytes: pos_integer() | :infinity
        }

  @doc "The web sockets of endpoints."
  @spec sockets([module()]) :: [socket()]
  def sockets(endpoints) do
    for endpoint <- endpoints,
        {path, socket, options} <- endpoint.__sockets__(),
        channels(socket) != [],
        websocket <- [websocket(options)],
        websocket != false do
      %{
        endpoint: endpoint,
        path: path,
        peer_data: peer_data?(websocket[:connect_info]),
        max_frame_bytes: websocket[:max_frame_size] || :infinity
      }
    end
  end

  defp websocket(options) do
    case Keyword.get(options, :websocket, true) do
      true -> []
      websocket -> websocket
    end
  end

  defp peer_data?(info), do: is_list(info) and (:peer_data in info or info[:peer_data] != nil)

  @doc "The clauses of this library that others hide, as they were found when the channels were compiled."
  @spec hidden([module()]) :: [{module(), atom()}]
  def hidden(endpoints) do
    for endpoint <- endpoints,
        {_path, socket, _options} <- endpoint.__sockets__(),
        channel <- channels(socket),
        function <- ours(channel),
        function != :none,
        uniq: true,
        do: {channel, function}
  end

  defp channels(socket) do
    if Code.ensure_loaded?(socket) and function_exported?(socket, :__channels__, 0),
      do:
        for(
          {_topic, channel, _options} <- socket.__channels__(),
          ours(channel) != [],
          do: channel
        ),
      else: []
  end

  # What `use PhoenixGenApi` notes in a module.
  defp ours(channel) do
    if Code.ensure_loaded?(channel),
      do:
        channel.module_info(:attributes)
        |> Keyword.get_values(:phoenix_gen_api_hidden)
        |> List.flatten(),
      else: []
  end

  @doc "The endpoints of the applications on this node that have Phoenix."
  @spec endpoints() :: [module()]
  def endpoints do
    for {app, _description, _version} <- Application.loaded_applications(),
        :phoenix in List.wrap(Application.spec(app, :applications)),
        module <- List.wrap(Application.spec(app, :modules)),
        Code.ensure_loaded?(module) and function_exported?(module, :__sockets__, 0),
        do: module
  end

  @doc "What is wrong with them."
  @spec findings(PhoenixGenApi.Doctor.Facts.t()) :: [Finding.t()]
  def findings(%{node: node} = facts) do
    Enum.flat_map(facts.sockets, &socket(&1, node)) ++
      for {channel, function} <- facts.hidden do
        Finding.new(
          :hidden_clauses,
          :error,
          node,
          "a clause of #{inspect(channel)}.#{function} matches everything",
          "the clauses that PhoenixGenApi adds after it are never reached, so results do not get to clients",
          "call PhoenixGenApi.Channel.#{function}/3 in that clause, or match less"
        )
      end
  end

  defp socket(%{endpoint: endpoint, path: path} = socket, node) do
    place = "socket #{inspect(path)} of #{inspect(endpoint)}"

    Finding.only(
      not socket.peer_data,
      Finding.new(
        :no_peer_data,
        :warning,
        node,
        "#{place} gives no peer data",
        "requests have no address, so limits by :ip_address count nobody",
        "write websocket: [connect_info: [:peer_data]] and call PhoenixGenApi.put_client_ip/2 in connect/3"
      )
    ) ++
      Finding.only(
        socket.max_frame_bytes == :infinity,
        Finding.new(
          :unlimited_frames,
          :warning,
          node,
          "#{place} takes frames of any size",
          "one client can fill the memory of the gateway before a request is looked at",
          "write websocket: [max_frame_size: 1_000_000], which is the default of max_payload_bytes"
        )
      )
  end
end
