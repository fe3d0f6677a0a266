defmodule PhoenixGenApi.Http.OpenapiTest do
  # Changes the configuration of the node.
  use PhoenixGenApi.ChannelCase, async: false

  import PhoenixGenApi.Test.HttpRequests

  defp document(assigns, options \\ []) do
    request = %{post("", "") | method: "GET", path: ["openapi.json"], body: "", assigns: assigns}
    ask(request, options)
  end

  defp describe_for(whom) do
    before = Application.fetch_env(:phoenix_gen_api, :describe)
    Application.put_env(:phoenix_gen_api, :describe, whom)
    :ok = PhoenixGenApi.reload_config()

    on_exit(fn ->
      with :error <- before, do: Application.delete_env(:phoenix_gen_api, :describe)
      with {:ok, value} <- before, do: Application.put_env(:phoenix_gen_api, :describe, value)
      :ok = PhoenixGenApi.reload_config()
    end)
  end

  test "the OpenAPI document is there only if functions may be described", %{service: service} do
    register(service, "now")

    register(service, "echo",
      arg_types: %{"text" => :string},
      check_permission: {:role, ["admin"]}
    )

    ann = %{user_id: "ann"}
    assert {404, _, _} = document(ann)

    describe_for(:any_authenticated)
    assert {401, _, _} = document(%{})
    assert {404, _, _} = document(%{}, public: true)

    assert {200, %{"content-type" => "application/json"},
            %{"openapi" => "3.1" <> _, "paths" => paths}} = document(ann)

    assert is_map_key(paths, "/#{service}/now")
    refute is_map_key(paths, "/#{service}/echo")
    admin = %{user_id: "root", user_roles: ["admin"]}
    assert {200, _, %{"paths" => %{} = paths}} = document(admin, services: [service])
    assert Enum.sort(Map.keys(paths)) == ["/#{service}/echo", "/#{service}/now"]

    describe_for(:public)
    assert {200, _, _} = document(%{}, public: true)
  end
end
