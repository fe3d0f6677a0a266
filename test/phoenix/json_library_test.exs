defmodule PhoenixGenApi.Phoenix.JsonLibraryTest do
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Channel.Delivery

  @moduletag :phoenix
  @compile {:no_warn_undefined, Phoenix}

  setup do
    before = Application.fetch_env(:phoenix, :json_library)

    on_exit(fn ->
      case before do
        {:ok, library} -> Application.put_env(:phoenix, :json_library, library)
        :error -> Application.delete_env(:phoenix, :json_library)
      end
    end)
  end

  test "results are checked against the library that Phoenix encodes with, configured or not" do
    Application.put_env(:phoenix, :json_library, JSON)
    assert Delivery.json_library() == JSON

    Application.delete_env(:phoenix, :json_library)
    assert Delivery.json_library() == Phoenix.json_library()
    assert Delivery.json_library() == Jason
  end
end
