defmodule PhoenixGenApi.Log do
  @moduledoc false
  # The only way into the log. A message is one line, whatever names, texts and reasons from
  # clients and other nodes are in it: a newline or an escape sequence in a request id must not
  # write a line of its own, nor reach the terminal that shows it.

  alias PhoenixGenApi.SafeInspect

  require Logger

  @typedoc "A line, or a line and a stacktrace to show below it."
  @type message :: iodata() | {iodata(), Exception.stacktrace()}

  for level <- [:error, :warning, :notice, :info, :debug] do
    @doc "Logs a message, which is put together only if the level is on."
    defmacro unquote(level)(message, metadata \\ []) do
      level = unquote(level)

      quote do
        require Logger

        Logger.unquote(level)(
          fn -> PhoenixGenApi.Log.text(unquote(message)) end,
          unquote(metadata)
        )
      end
    end
  end

  @doc "As the macros do, at a level that is known only at run time."
  @spec at(Logger.level(), (-> message()), keyword()) :: :ok
  def at(level, message, metadata \\ []) when is_function(message, 0),
    do: Logger.log(level, fn -> text(message.()) end, metadata)

  @doc "What the process of a function has as Logger metadata, whatever is in the request."
  @spec metadata(map(), term()) :: map()
  def metadata(%{user_id: user, service: service, request_type: type}, request_id) do
    %{
      request_id: value(request_id),
      user_id: value(user),
      service: value(service),
      request_type: value(type)
    }
  end

  @doc "A value of the metadata, whoever has chosen it."
  @spec value(term()) :: String.t() | nil
  def value(text) when is_binary(text), do: SafeInspect.one_line(text)
  def value(nil), do: nil
  def value(atom) when is_atom(atom), do: atom |> Atom.to_string() |> value()
  def value(other), do: SafeInspect.inspect(other, 100)

  @doc """
  Makes that the metadata of the calling process.

  One that a gateway has spawned on another node has its group leader there, and the log of neither
  node would take its lines. They are written where it runs.
  """
  @spec adopt(map() | nil) :: :ok
  def adopt(nil), do: :ok

  def adopt(metadata) do
    if node(Process.group_leader()) == node(),
      do: :logger.set_process_metadata(metadata),
      else: :logger.set_process_metadata(Map.put(metadata, :gl, Process.whereis(:init)))
  end

  @doc "What is written for a message."
  @spec text(message()) :: String.t()
  def text({line, stack}), do: Enum.join([text(line) | frames(stack)], "\n    ")
  def text(line), do: line |> IO.iodata_to_binary() |> SafeInspect.one_line()

  # With the number of arguments: they are user data. A frame of another node may hold anything.
  defp frames(stack) when is_list(stack) do
    for frame <- stack,
        do:
          frame
          |> without_arguments()
          |> Exception.format_stacktrace_entry()
          |> SafeInspect.one_line()
  end

  defp without_arguments({m, f, arguments, location}) when is_list(arguments),
    do: {m, f, length(arguments), location}

  defp without_arguments({f, arguments, location}) when is_list(arguments),
    do: {f, length(arguments), location}

  defp without_arguments(frame), do: frame
end
