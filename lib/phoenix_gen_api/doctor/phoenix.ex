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

  @doc "The web sockets of these endpoints that have one of these channels."
  @spec sockets([module()], [module()]) :: [socket()]
  def sockets(endpoints, channels) do
    for endpoint <- endpoints,
        {path, socket, options} <- endpoint.__sockets__(),
        serves?(literals(socket), channels),
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

  # A socket cannot be asked for its channels, but each is a constant in its code: `{Channel, options}`.
  defp literals(socket) do
    with path when is_list(path) <- :code.which(socket),
         {:ok, {_socket, [{_chunk, literals}]}} <- :beam_lib.chunks(path, [~c"LitT"]) do
      case literals do
        <<0::32, plain::binary>> -> plain
        <<_size::32, compressed::binary>> -> :zlib.uncompress(compressed)
      end
    else
      _unknown -> ""
    end
  end

  # In the external term format: 119 for an atom, the length, the name.
  defp serves?(literals, channels) do
    Enum.any?(channels, fn channel ->
      name = Atom.to_string(channel)
      :binary.match(literals, <<119, byte_size(name)>> <> name) != :nomatch
    end)
  end

  defp websocket(options) do
    case Keyword.get(options, :websocket, true) do
      true -> []
      websocket -> websocket
    end
  end

  defp peer_data?(info), do: is_list(info) and (:peer_data in info or info[:peer_data] != nil)

  @doc "The clauses of this library that others hide, as they were found when these channels were compiled."
  @spec hidden([module()]) :: [{module(), atom()}]
  def hidden(channels) do
    for channel <- channels,
        function <- noted(channel),
        function != :none,
        uniq: true,
        do: {channel, function}
  end

  # What `use PhoenixGenApi` notes in a module.
  defp noted(module) do
    module.module_info(:attributes)
    |> Keyword.get_values(:phoenix_gen_api_hidden)
    |> List.flatten()
  end

  @doc "The endpoints and the channels of this library among the applications on this node that have Phoenix."
  @spec modules() :: {endpoints :: [module()], channels :: [module()]}
  def modules do
    modules =
      for {app, _description, _version} <- Application.loaded_applications(),
          :phoenix in List.wrap(Application.spec(app, :applications)),
          module <- List.wrap(Application.spec(app, :modules)),
          Code.ensure_loaded?(module),
          do: module

    {Enum.filter(modules, &function_exported?(&1, :__sockets__, 0)),
     Enum.filter(modules, &(noted(&1) != []))}
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
