defmodule PhoenixGenApi.ImplHelper do
  @moduledoc """
  Implements `JSON.Encoder` or `Jason.Encoder` for structs whose module says with `encode!/1` or
  `encode!/2` which map stands for them.

      defmodule Shop.Book do
        defstruct [:isbn, :cost_price]
        def encode!(book), do: %{isbn: book.isbn}
      end

      defmodule Shop.Encoders do
        use PhoenixGenApi.ImplHelper, encoder: JSON.Encoder, impl: [Shop.Book]
      end

      JSON.encode!(%Shop.Book{isbn: "9780441", cost_price: 7})
      #=> ~s({"isbn":"9780441"})

  Options of `use`:

    * `:encoder` - the protocol, `JSON.Encoder` or `Jason.Encoder`; without it compilation fails
      with a `RuntimeError` `missing encoder option`
    * `:impl` - the modules (default `[]`)

  `gen_impl/2`, which `use` imports, does the same for further modules or the other protocol:

      gen_impl Jason.Encoder, Shop.Book

  The map may hold whatever a result may hold, see `PhoenixGenApi.Structs.Response`. `encode!/1` is
  preferred; `encode!/2` gets what the protocol passes as second argument. Raising an `ArgumentError`
  at compile time: another protocol, a protocol that is not there, a module with neither function.
  A struct that already has an implementation is skipped.
  """

  alias PhoenixGenApi.{JasonEncoding, JsonEncoding}

  # Exists with Jason only; missing/2 has made sure of it.
  @compile {:no_warn_undefined, JasonEncoding}

  @protocols [JSON.Encoder, Jason.Encoder]

  @doc false
  defmacro __using__(opts) do
    if not (Keyword.keyword?(opts) and Keyword.has_key?(opts, :encoder)) do
      raise "missing encoder option"
    end

    quote do
      import PhoenixGenApi.ImplHelper, only: [gen_impl: 2]
      gen_impl(unquote(opts[:encoder]), unquote(Keyword.get(opts, :impl, [])))
    end
  end

  @doc "Implements the protocol for a module or a list of modules."
  defmacro gen_impl(protocol, modules) do
    quote bind_quoted: [protocol: protocol, modules: modules] do
      for module <- PhoenixGenApi.ImplHelper.missing(protocol, modules) do
        defimpl protocol, for: module do
          def encode(struct, options) do
            PhoenixGenApi.ImplHelper.encode(@protocol, @for, struct, options)
          end
        end
      end
    end
  end

  @doc false
  # Those of the modules that have no implementation yet.
  @spec missing(module(), module() | [module()]) :: [module()]
  def missing(protocol, modules) do
    if protocol not in @protocols do
      raise ArgumentError,
            "encoder must be JSON.Encoder or Jason.Encoder, got: #{inspect(protocol)}"
    end

    if not Code.ensure_loaded?(protocol) do
      raise ArgumentError, "#{inspect(protocol)} is not available: add :jason to the dependencies"
    end

    for module <- Enum.uniq(List.wrap(modules)),
        {:error, _reason} <- [Code.ensure_compiled(Module.concat(protocol, module))],
        do: encodable!(module)
  end

  # A module that is still being compiled, such as the one that contains the `use`, is believed.
  defp encodable!(module) do
    with {:module, _loaded} <- Code.ensure_compiled(module),
         false <-
           function_exported?(module, :encode!, 1) or function_exported?(module, :encode!, 2) do
      raise ArgumentError, "#{inspect(module)} must define encode!/1 or encode!/2"
    else
      _found_or_unknown -> module
    end
  end

  @doc false
  @spec encode(module(), module(), struct(), term()) :: iodata()
  def encode(protocol, module, struct, options) do
    map =
      if Code.ensure_loaded?(module) and function_exported?(module, :encode!, 1),
        do: module.encode!(struct),
        else: module.encode!(struct, options)

    object(protocol, map, options)
  end

  # A struct here would lead straight back to the implementation that is asking.
  defp object(JSON.Encoder, map, encoder) when is_non_struct_map(map) do
    encoder = JsonEncoding.encoder(encoder)
    encoder.(map, encoder)
  end

  defp object(Jason.Encoder, map, opts) when is_non_struct_map(map) do
    JasonEncoding.encode(map, opts)
  end
end
