defmodule Mix.PhoenixGenApi.Project do
  @moduledoc false
  # What the generators have to know about the application for which they write.

  @enforce_keys [:app, :base, :lib, :test]
  defstruct [:app, :base, :web, :lib, :web_lib, :test, :web_test, :auth]

  @typedoc """
  How `mix phx.gen.auth` has set up sessions: the module of the context, the name of a user in it, whether
  it returns the user with a time, and where a conn has the user.
  """
  @type auth :: %{
          context: String.t(),
          user: String.t(),
          pair: boolean(),
          fetch: String.t(),
          assign: {:scope | :user, String.t()}
        }
  @type t :: %__MODULE__{
          app: atom(),
          base: String.t(),
          web: String.t() | nil,
          lib: String.t(),
          web_lib: String.t() | nil,
          test: String.t(),
          web_test: String.t() | nil,
          auth: auth() | nil
        }

  @doc "The application of the current Mix project; raises at the root of an umbrella."
  @spec read() :: t()
  def read do
    if Mix.Project.umbrella?(),
      do: Mix.raise("run this in the folder of one application, under apps/")

    read(Mix.Project.config()[:app])
  end

  @doc "The same for the application with that name, in the current folder."
  @spec read(atom()) :: t()
  def read(app) do
    name = Atom.to_string(app)
    namespace = Application.get_env(app, :namespace)
    camelized = if namespace, do: inspect(namespace), else: Macro.camelize(name)

    if web_only?(name) do
      # apps/shop_web of an umbrella.
      project(app, String.replace_suffix(camelized, "Web", ""), camelized, name, name)
    else
      web = if File.dir?("lib/#{name}_web"), do: camelized <> "Web"
      project(app, camelized, web, name, "#{name}_web")
    end
  end

  defp web_only?(name),
    do: String.ends_with?(name, "_web") and File.exists?("lib/#{name}/endpoint.ex")

  defp project(app, base, web, folder, web_folder) do
    project = %__MODULE__{
      app: app,
      base: base,
      web: web,
      lib: "lib/#{folder}",
      test: "test/#{folder}"
    }

    if web do
      web_lib = "lib/#{web_folder}"
      %{project | web_lib: web_lib, web_test: "test/#{web_folder}", auth: auth(web_lib)}
    else
      project
    end
  end

  # Read from what phx.gen.auth has written. Where it does not look like that, tokens are used.
  defp auth(web_lib) do
    with [file | _] <- Path.wildcard(web_lib <> "/*_auth.ex"),
         {:ok, text} <- File.read(file),
         [_, alias, user] <- Regex.run(~r/(\w+)\.get_(\w+)_by_session_token\(/, text),
         [_, context] <- Regex.run(~r/alias ((?:\w+\.)*#{alias})\n/, text),
         [_, fetch] <- Regex.run(~r/def (fetch_current_\w+)\(/, text),
         [_, assign] <- Regex.run(~r/assign\((?:conn, )?:(current_\w+),/, text) do
      kind = if String.contains?(assign, "scope"), do: :scope, else: :user
      pair = text =~ ~r/\{#{user}, \w+\} <-/
      %{context: context, user: user, pair: pair, fetch: fetch, assign: {kind, assign}}
    else
      _other -> nil
    end
  end
end
