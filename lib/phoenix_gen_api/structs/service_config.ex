defmodule PhoenixGenApi.Structs.ServiceConfig do
  @moduledoc """
  Where the gateway pulls the functions of one service from.

      config :phoenix_gen_api, :gen_api,
        service_configs: [
          %{service: "books", nodes: ["books@127.0.0.1"], module: "Books.Directory", function: "functions"}
        ]

  | Field | Content | Default |
  |---|---|---|
  | `service` | name, string or atom | `nil` |
  | `nodes` | the nodes to ask, in this order, or the `{module, function, args}` that lists them | `nil` |
  | `module`, `function`, `args` | what to call there | `nil`, `nil`, `[]` |
  | `version_module`, `version_function`, `version_args` | what tells whether anything changed | `nil`, `nil`, `[]` |

  Names may be strings, so that a config can come from JSON or from environment variables. They
  become atoms in `resolve/1`, when the gateway loads the config, and only there.
  """

  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.FieldMap

  @type name :: atom() | String.t()

  @type t :: %__MODULE__{
          service: name() | nil,
          nodes: [name()] | {name(), name(), list()} | nil,
          module: name() | nil,
          function: name() | nil,
          args: list(),
          version_module: name() | nil,
          version_function: name() | nil,
          version_args: list()
        }

  defstruct service: nil,
            nodes: nil,
            module: nil,
            function: nil,
            args: [],
            version_module: nil,
            version_function: nil,
            version_args: []

  # The length of the longest atom, in characters.
  @max_name 255
  @max_service_bytes 8_192

  @doc """
  Reads a map or keyword list with atom or string keys.

  Values are kept as they are, unknown keys ignored, missing lists are `[]`.

      iex> PhoenixGenApi.Structs.ServiceConfig.from_map(%{"service" => "books", "module" => "Books"})
      %PhoenixGenApi.Structs.ServiceConfig{service: "books", nodes: [], module: "Books"}
  """
  @spec from_map(map() | keyword()) :: t()
  def from_map(data), do: FieldMap.read(%__MODULE__{nodes: []}, data)

  @doc "Whether the service has a version to ask for: `version_module` and `version_function` are set."
  @spec version_check_enabled?(t()) :: boolean()
  def version_check_enabled?(%__MODULE__{} = config) do
    config = FieldMap.complete(config)
    config.version_module != nil and config.version_function != nil
  end

  @doc """
  Turns the names into what can be called: `service` into a string, everything else into atoms.

      iex> alias PhoenixGenApi.Structs.ServiceConfig
      iex> {:ok, config} =
      ...>   ServiceConfig.resolve(%ServiceConfig{
      ...>     service: :books,
      ...>     nodes: ["books@127.0.0.1"],
      ...>     module: "Books.Directory",
      ...>     function: "functions"
      ...>   })
      iex> {config.service, config.nodes, config.module, config.function}
      {"books", [:"books@127.0.0.1"], Books.Directory, :functions}

  A module name that begins with an upper-case letter is an Elixir alias (`"Shop.Api"` or
  `"Elixir.Shop.Api"`), any other an Erlang module (`"shop_api"`). Node and function names are
  taken literally. The strings of a config become atoms for ever: this is for what operators
  write, never for what clients send.

  `{:error, sentences}`, in the order of the fields, for a config that cannot be used:

    * `service must not be nil`, `service must be an atom or a non-empty string`, `service must have at
      most 8192 bytes`
    * `nodes must be a non-empty list of atoms or strings, or a {module, function, args} tuple`
    * `module must be a module name`, `function must be a function name`, `args must be a list`, and
      the same for `version_module`, `version_function` and `version_args` (the first two may be `nil`)
    * `module must be a module name of at most 255 characters without spaces, got "..."` for a
      string that is no name; alike for nodes and functions
  """
  @spec resolve(t()) :: {:ok, t()} | {:error, [String.t()]}
  def resolve(%__MODULE__{} = config) do
    config = FieldMap.complete(config)

    results = [
      service: service(config.service),
      nodes: nodes(config.nodes),
      module: module("module", config.module),
      function: function("function", config.function),
      args: args("args", config.args),
      version_module: optional(&module/2, "version_module", config.version_module),
      version_function: optional(&function/2, "version_function", config.version_function),
      version_args: args("version_args", config.version_args)
    ]

    case for {_field, {:error, sentence}} <- results, do: sentence do
      [] -> {:ok, struct!(config, for({field, {:ok, value}} <- results, do: {field, value}))}
      sentences -> {:error, sentences}
    end
  end

  defp service(nil), do: {:error, "service must not be nil"}
  defp service(service) when is_atom(service), do: {:ok, Atom.to_string(service)}

  defp service(service) when is_binary(service) and byte_size(service) > @max_service_bytes,
    do: {:error, "service must have at most #{@max_service_bytes} bytes"}

  defp service(service) do
    if is_binary(service) and service != "" and String.valid?(service),
      do: {:ok, service},
      else: {:error, "service must be an atom or a non-empty string"}
  end

  defp nodes({module, function, args}) when is_list(args) do
    with {:ok, module} <- module("nodes module", module),
         {:ok, function} <- function("nodes function", function),
         {:ok, args} <- args("nodes args", args) do
      {:ok, {module, function, args}}
    end
  end

  defp nodes([_ | _] = nodes), do: nodes(nodes, [])
  defp nodes(_other), do: nodes_error()

  defp nodes([node | rest], resolved)
       when is_binary(node) or (is_atom(node) and node not in [nil, true, false]) do
    case atom("nodes", "a node name", node) do
      {:ok, node} -> nodes(rest, [node | resolved])
      error -> error
    end
  end

  defp nodes([], resolved), do: {:ok, Enum.reverse(resolved)}
  defp nodes(_other_or_improper_tail, _resolved), do: nodes_error()

  defp nodes_error do
    {:error,
     "nodes must be a non-empty list of atoms or strings, or a {module, function, args} tuple"}
  end

  defp module(field, <<first, _rest::binary>> = name) when first in ?A..?Z do
    alias_name = "Elixir." <> String.replace_prefix(name, "Elixir.", "")

    if name?(alias_name) and Regex.match?(~r/\A[A-Z]\w*(\.[A-Z]\w*)*\z/, name),
      do: {:ok, String.to_atom(alias_name)},
      else: bad_name(field, "a module name", name)
  end

  defp module(field, name), do: atom(field, "a module name", name)

  defp function(field, name), do: atom(field, "a function name", name)

  defp optional(_read, _field, nil), do: {:ok, nil}
  defp optional(read, field, value), do: read.(field, value)

  defp args(field, args) do
    if is_list(args) and List.improper?(args) == false,
      do: {:ok, args},
      else: {:error, "#{field} must be a list"}
  end

  defp atom(_field, _kind, name) when is_atom(name) and name not in [nil, true, false],
    do: {:ok, name}

  defp atom(field, kind, name) when is_binary(name) do
    if name?(name), do: {:ok, String.to_atom(name)}, else: bad_name(field, kind, name)
  end

  defp atom(field, kind, _other), do: {:error, "#{field} must be #{kind}"}

  # The size in bytes bounds the count of the characters.
  defp name?(name) do
    byte_size(name) in 1..(4 * @max_name)//1 and String.valid?(name) and
      length(String.to_charlist(name)) <= @max_name and
      not Regex.match?(~r/[\s\p{C}]/u, name)
  end

  defp bad_name(field, kind, name) do
    {:error,
     "#{field} must be #{kind} of at most #{@max_name} characters without spaces, got #{SafeInspect.inspect(name, 100)}"}
  end
end
