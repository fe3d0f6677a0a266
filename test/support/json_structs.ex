defmodule PhoenixGenApi.Test.Derived do
  # A struct that says how it looks in JSON.
  @derive {JSON.Encoder, only: [:shown]}
  if Code.ensure_loaded?(Jason.Encoder), do: @derive({Jason.Encoder, only: [:shown]})
  defstruct [:shown, :secret]
end

defmodule PhoenixGenApi.Test.Opaque do
  defstruct secret: "hunter2"
end

defmodule PhoenixGenApi.Test.Faulty do
  # An encoder of its own, which fails.
  defstruct []

  defimpl JSON.Encoder do
    def encode(_struct, _encoder), do: throw(:faulty)
  end

  if Code.ensure_loaded?(Jason.Encoder) do
    defimpl Jason.Encoder do
      def encode(_struct, _opts), do: throw(:faulty)
    end
  end
end

defmodule PhoenixGenApi.Test.Book do
  defstruct [:isbn, :tags, :cost]
  def encode!(book), do: %{isbn: book.isbn, tags: book.tags}
end

defmodule PhoenixGenApi.Test.Order do
  # Only encode!/2; the second argument comes from the JSON library.
  defstruct [:id]
  def encode!(order, _options), do: %{"id" => order.id}
end

defmodule PhoenixGenApi.Test.Loop do
  # Does not return a map.
  defstruct []
  def encode!(loop), do: loop
end

defmodule PhoenixGenApi.Test.Encoders do
  alias PhoenixGenApi.Structs.Response
  alias PhoenixGenApi.Test.{Book, Derived, Loop, Order}

  use PhoenixGenApi.ImplHelper, encoder: JSON.Encoder, impl: [Book, Response]

  gen_impl(JSON.Encoder, Order)
  gen_impl(JSON.Encoder, [Loop, Derived])
end

if Code.ensure_loaded?(Jason.Encoder) do
  defmodule PhoenixGenApi.Test.JasonEncoders do
    use PhoenixGenApi.JasonImplHelper, impl: [PhoenixGenApi.Test.Book]

    gen_impl(PhoenixGenApi.Test.Order)
    gen_impl([PhoenixGenApi.Test.Loop, PhoenixGenApi.Structs.Response])
  end
end

if not Code.ensure_loaded?(Decimal) do
  defmodule Decimal do
    @moduledoc false
    # The fields and texts of the real one, as far as encoding needs them.
    defstruct sign: 1, coef: 0, exp: 0

    defimpl String.Chars do
      def to_string(%{sign: 1, coef: coef, exp: exp}) when exp >= 0, do: "#{coef}E+#{exp}"
      def to_string(%{sign: 1, coef: coef, exp: -2}), do: "#{div(coef, 100)}.#{rem(coef, 100)}"
    end
  end
end
