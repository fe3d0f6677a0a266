defmodule PhoenixGenApi.Test.Contracts do
  @moduledoc false
  # What the tests of descriptions describe.

  alias PhoenixGenApi.Structs.FunConfig

  @doc "Version 1.0.0 of a function `price` of the service `shop`, with these fields."
  @spec config(keyword()) :: FunConfig.t()
  def config(fields) do
    struct!(
      %FunConfig{
        service: "shop",
        request_type: "price",
        version: "1.0.0",
        nodes: :local,
        mfa: {String, :length, []}
      },
      fields
    )
  end
end
