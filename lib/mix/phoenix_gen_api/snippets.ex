defmodule Mix.PhoenixGenApi.Snippets do
  @moduledoc false
  # What has to be added to files that are there: as a text to print, and as a change of the file where its
  # place can be found.

  alias Mix.PhoenixGenApi.Project
  alias PhoenixGenApi.Config.Schema

  @typedoc """
  An addition: the file, what it is for, its text, a text by which one sees that it was made, and the change.
  """
  @type t :: %{
          path: String.t(),
          title: String.t(),
          text: String.t(),
          mark: String.t(),
          insert: (String.t(), String.t() -> {:ok, String.t()} | :error)
        }

  @doc "Those for a gateway, in order."
  @spec gateway(Project.t()) :: [t()]
  def gateway(project), do: [endpoint(project), router(project), child(project), dev(project)]

  @doc "That for a service."
  @spec service(Project.t()) :: [t()]
  def service(project), do: [child(project)]

  @doc "Whether the file has it already."
  @spec there?(t()) :: boolean()
  def there?(snippet), do: text_of(snippet.path) =~ snippet.mark

  @doc "The text of the file with the addition; the same text if it has it, `:error` where there is no place for it."
  @spec apply(t(), String.t()) :: {:ok, String.t()} | :error
  def apply(snippet, text) do
    if text =~ snippet.mark, do: {:ok, text}, else: snippet.insert.(text, snippet.text)
  end

  @doc "Adds a module to the list of those that are offered."
  @spec add_api(String.t(), String.t()) :: {:ok, String.t()} | :error
  def add_api(text, module) do
    with [all, listed] <- Regex.run(~r/@apis \[(.*?)\]/s, text) do
      modules = String.split(listed, ~r/[\s,]+/, trim: true)

      if module in modules do
        {:ok, text}
      else
        list = Enum.join(modules ++ [module], ", ")
        {:ok, text |> String.replace(all, "@apis [#{list}]") |> format()}
      end
    else
      nil -> :error
    end
  end

  defp text_of(path) do
    case File.read(path) do
      {:ok, text} -> text
      {:error, _reason} -> ""
    end
  end

  defp endpoint(%{web: web, web_lib: lib, auth: auth}) do
    info = if auth, do: "[:peer_data, session: @session_options]", else: "[:peer_data]"

    %{
      path: "#{lib}/endpoint.ex",
      title: "the socket, in the endpoint",
      mark: "#{web}.GenApiSocket",
      text: """
        socket "/gen_api/socket", #{web}.GenApiSocket,
          websocket: [connect_info: #{info}, max_frame_size: 1_000_000],
          longpoll: false
      """,
      insert: &before_first(&1, &2, ~r/^  (?:# )?(?:socket|plug) .*$/m)
    }
  end

  defp router(%{web: web, web_lib: lib, auth: auth, app: app}) do
    {pipeline, through} =
      if auth do
        {"""
           pipeline :gen_api do
             plug :fetch_session
             plug :#{auth.fetch}
           end

         """, "    pipe_through :gen_api\n\n"}
      else
        {"", ""}
      end

    %{
      path: "#{lib}/router.ex",
      title: "HTTP and, in development, the console, in the router",
      mark: "PhoenixGenApi.Plug",
      text: """
      #{pipeline}  # POST /gen_api/:service/:request_type
        scope "/" do
      #{through}    forward "/gen_api", PhoenixGenApi.Plug,
            identity: {#{web}.GenApiSocket, :identity},
            console: Application.compile_env(:#{app}, :gen_api_dev, false)
        end
      """,
      insert: &before_end/2
    }
  end

  defp child(%{base: base, lib: lib} = project) do
    %{
      path: application(lib),
      title: "the functions, as the last child in the supervision tree",
      mark: "#{base}.GenApi",
      text: "      #{base}.GenApi\n",
      insert: fn text, _child -> last_child(text, project) end
    }
  end

  defp application(lib), do: lib <> "/application.ex"

  defp dev(%{app: app}) do
    checks =
      if Enum.any?(Schema.top_level(), &(&1.key == :check_results)),
        do: "config :phoenix_gen_api, :check_results, :log\n"

    %{
      path: "config/dev.exs",
      title: "the settings for development",
      mark: ":gen_api_dev",
      text: """

      # phoenix_gen_api in development: errors say why, /gen_api is a page for calling functions, and functions
      # that were recompiled are offered at once.
      config :phoenix_gen_api, :gen_api, detail_error: true
      #{checks}config :#{app}, :gen_api_dev, true
      """,
      insert: fn text, addition -> {:ok, String.trim_trailing(text) <> "\n" <> addition} end
    }
  end

  defp before_first(text, addition, pattern) do
    case Regex.run(pattern, text, return: :index) do
      [{at, _length}] ->
        {before, rest} = String.split_at(text, byte_to_char(text, at))
        {:ok, before <> addition <> "\n" <> rest}

      nil ->
        :error
    end
  end

  defp byte_to_char(text, at), do: text |> binary_part(0, at) |> String.length()

  defp before_end(text, addition) do
    trimmed = String.trim_trailing(text)

    if String.ends_with?(trimmed, "\nend"),
      do: {:ok, String.replace_suffix(trimmed, "end", "\n" <> addition <> "end\n")},
      else: :error
  end

  # After what is the last one now, unless a comment is.
  defp last_child(text, %{base: base}) do
    with [all, children] <- Regex.run(~r/children =\s*\[(.*?)\n    \]/s, text),
         {:ok, comma} <- comma(children) do
      added = String.replace_suffix(all, "\n    ]", comma <> "\n      #{base}.GenApi\n    ]")
      {:ok, String.replace(text, all, added)}
    else
      _unknown -> :error
    end
  end

  defp comma(children) do
    lines =
      for line <- String.split(children, "\n"), line = String.trim(line), line != "", do: line

    comment? = &String.starts_with?(&1, "#")

    cond do
      Enum.all?(lines, comment?) -> {:ok, ""}
      comment?.(List.last(lines)) -> :error
      String.ends_with?(List.last(lines), ",") -> {:ok, ""}
      true -> {:ok, ","}
    end
  end

  defp format(text), do: (text |> Code.format_string!() |> IO.iodata_to_binary()) <> "\n"

  @doc "The text that asks to make the additions that are missing; nil if there are none."
  @spec instructions([t()]) :: String.t() | nil
  def instructions(snippets) do
    case Enum.reject(snippets, &there?/1) do
      [] ->
        nil

      missing ->
        Enum.map_join(missing, "\n", &"Add #{&1.title} (#{&1.path}):\n\n#{indent(&1.text)}")
    end
  end

  defp indent(text),
    do: text |> String.trim("\n") |> String.replace(~r/^(?=.)/m, "  ") |> Kernel.<>("\n")
end
