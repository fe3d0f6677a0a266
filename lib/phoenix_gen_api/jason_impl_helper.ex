defmodule PhoenixGenApi.JasonImplHelper do
  @moduledoc """
  `PhoenixGenApi.ImplHelper` for `Jason.Encoder`.

      use PhoenixGenApi.JasonImplHelper, impl: [Shop.Book, Shop.Order]

  or, after a bare `use`:

      use PhoenixGenApi.JasonImplHelper
      gen_impl Shop.Book

  Compilation fails with an `ArgumentError` where Jason is not available.
  """

  @doc false
  defmacro __using__(opts) do
    quote do
      require PhoenixGenApi.ImplHelper
      import PhoenixGenApi.JasonImplHelper, only: [gen_impl: 1]
      gen_impl(unquote(Keyword.get(opts, :impl, [])))
    end
  end

  @doc "Implements `Jason.Encoder` for a module or a list of modules."
  defmacro gen_impl(modules) do
    quote do
      PhoenixGenApi.ImplHelper.gen_impl(Jason.Encoder, unquote(modules))
    end
  end
end
