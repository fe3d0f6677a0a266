defmodule Mix.Tasks.PhoenixGenApi.GenTest do
  # The current folder and the shell of Mix belong to everybody.
  use ExUnit.Case, async: false

  alias Mix.PhoenixGenApi.{Project, Snippets}
  alias Mix.Tasks.PhoenixGenApi.Gen.{Gateway, Service}
  alias Mix.Tasks.PhoenixGenApi.Install

  @moduletag :tmp_dir

  @endpoint """
  defmodule ShopWeb.Endpoint do
    use Phoenix.Endpoint, otp_app: :shop

    @session_options [store: :cookie, key: "_shop_key"]

    # socket "/live", Phoenix.LiveView.Socket,
    #   websocket: [connect_info: [session: @session_options]]

    plug ShopWeb.Router
  end
  """

  @router """
  defmodule ShopWeb.Router do
    use ShopWeb, :router

    pipeline :api do
      plug :accepts, ["json"]
    end
  end
  """

  @application """
  defmodule Shop.Application do
    use Application

    def start(_type, _args) do
      children = [
        ShopWeb.Telemetry,
        # Start to serve requests, typically the last entry
        ShopWeb.Endpoint
      ]

      Supervisor.start_link(children, strategy: :one_for_one)
    end
  end
  """

  # What phx.gen.auth writes, as far as it matters: of Phoenix 1.8 and 1.7.
  @auth18 """
  defmodule ShopWeb.UserAuth do
    alias Shop.Accounts
    alias Shop.Accounts.Scope

    def fetch_current_scope_for_user(conn, _opts) do
      with {token, conn} <- ensure_user_token(conn),
           {user, token_inserted_at} <- Accounts.get_user_by_session_token(token) do
        assign(conn, :current_scope, Scope.for_user(user))
      else
        nil -> assign(conn, :current_scope, Scope.for_user(nil))
      end
    end
  end
  """

  @auth17 """
  defmodule ShopWeb.MemberAuth do
    alias Shop.People

    def fetch_current_member(conn, _opts) do
      {token, conn} = ensure_member_token(conn)
      member = token && People.get_member_by_session_token(token)
      assign(conn, :current_member, member)
    end
  end
  """

  setup %{tmp_dir: dir} do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)

    write(dir, "mix.exs", """
    defmodule Shop#{System.unique_integer([:positive])}.MixProject do
      use Mix.Project
      def project, do: [app: :shop, version: "0.1.0"]
    end
    """)

    for {file, text} <- [
          {"config/dev.exs", "import Config\n"},
          {"lib/shop/application.ex", @application},
          {"lib/shop_web/endpoint.ex", @endpoint},
          {"lib/shop_web/router.ex", @router}
        ],
        do: write(dir, file, text)

    :ok
  end

  defp write(dir, file, text) do
    path = Path.join(dir, file)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end

  defp in_shop(dir, fun), do: Mix.Project.in_project(:shop, dir, fn _module -> fun.() end)

  # Mix says every line to the test.
  defp said(lines \\ []) do
    receive do
      {:mix_shell, _kind, [line]} -> said([line | lines])
    after
      0 -> lines |> Enum.reverse() |> Enum.join("\n")
    end
  end

  defp files(dir) do
    for path <- Path.wildcard(dir <> "/{lib,test,config}/**/*.{ex,exs}"),
        into: %{},
        do: {Path.relative_to(path, dir), File.read!(path)}
  end

  @gateway ~w(lib/shop/gen_api.ex lib/shop_web/channels/gen_api_channel.ex lib/shop_web/channels/gen_api_socket.ex
              test/shop_web/channels/gen_api_channel_test.exs)

  test "the gateway generator creates files, configures development and prints the rest", %{
    tmp_dir: dir
  } do
    before = files(dir)
    in_shop(dir, fn -> Gateway.run([]) end)
    made = files(dir)
    assert Enum.sort(Map.keys(made) -- Map.keys(before)) == @gateway

    for path <- @gateway, do: assert({:ok, _ast} = Code.string_to_quoted(made[path]))

    assert made["lib/shop_web/channels/gen_api_channel.ex"] =~
             ~s(concurrency: 10, relay_event: "message")

    assert made["config/dev.exs"] =~ "detail_error: true"
    assert made["config/dev.exs"] =~ "config :shop, :gen_api_dev, true"

    # These are the user's.
    for path <- ~w(lib/shop/application.ex lib/shop_web/endpoint.ex lib/shop_web/router.ex),
        do: assert(made[path] == before[path])

    said = said()
    assert said =~ ~s(socket "/gen_api/socket", ShopWeb.GenApiSocket)
    assert said =~ ~s(forward "/gen_api", PhoenixGenApi.Plug)
    assert said =~ "Shop.GenApi\n"
  end

  test "generators can be run twice, and keep what was changed", %{tmp_dir: dir} do
    in_shop(dir, fn ->
      Gateway.run([])
      Service.run(["hello"])
    end)

    write(dir, "lib/shop/gen_api/hello.ex", "# mine\n")
    once = files(dir)
    said()

    in_shop(dir, fn ->
      Gateway.run([])
      Service.run(["hello"])
    end)

    assert files(dir) == once
    said = said()
    assert said =~ "* kept lib/shop/gen_api/hello.ex"
    assert said =~ "* unchanged lib/shop_web/channels/gen_api_socket.ex"
  end

  test "files that Igniter has moved are not created again", %{tmp_dir: dir} do
    write(dir, "lib/shop_web/gen_api_socket.ex", "# mine\n")
    in_shop(dir, fn -> Gateway.run([]) end)
    refute Map.has_key?(files(dir), "lib/shop_web/channels/gen_api_socket.ex")
    assert said() =~ "* kept lib/shop_web/gen_api_socket.ex"
  end

  test "an application without functions starts, and offers none", %{tmp_dir: dir} do
    in_shop(dir, fn -> Gateway.run([]) end)
    code = files(dir)["lib/shop/gen_api.ex"]
    # Whether it is development is the configuration of the application, which is compiled here.
    [{module, _code}] =
      code |> String.replace("Shop.GenApi", "Shop.EmptyGenApi") |> Code.compile_string()

    {:ok, supervisor} = Supervisor.start_link([module], strategy: :one_for_one)
    assert [{_id, :undefined, :worker, _modules}] = Supervisor.which_children(supervisor)
    Supervisor.stop(supervisor)
  end

  test "the service generator adds each service to those that are offered", %{tmp_dir: dir} do
    in_shop(dir, fn ->
      Service.run(["hello"])
      Service.run(["price_list"])
    end)

    made = files(dir)
    assert made["lib/shop/gen_api.ex"] =~ "@apis [Shop.GenApi.Hello, Shop.GenApi.PriceList]"
    assert made["lib/shop/gen_api/price_list.ex"] =~ ~s(service: "price_list")
    assert said() =~ "Add the functions, as the last child"

    # The module compiles, and what it declares is a function that runs.
    [{module, _code} | _] = Code.compile_string(made["lib/shop/gen_api/hello.ex"])
    assert [%{service: "hello", request_type: "hello"}] = module.__gen_api__()
    hello = PhoenixGenApi.Testing.service("hello", apis: [module])
    response = PhoenixGenApi.Testing.call(hello, "hello", %{"name" => "Ann"}, user_id: "1")
    assert response.result == %{text: "Hello, Ann!"}
  end

  test "a node that is no gateway is told what to configure", %{tmp_dir: dir} do
    File.rm_rf!(Path.join(dir, "lib/shop_web"))
    in_shop(dir, fn -> Service.run(["hello"]) end)
    assert said() =~ "config :phoenix_gen_api, :client_mode, true"

    assert_raise Mix.Error, ~r/no Phoenix application/, fn ->
      in_shop(dir, fn -> Gateway.run([]) end)
    end
  end

  test "names that are no service are refused", %{tmp_dir: dir} do
    for name <- ["Hello", "gen_api", "a-b", ""] do
      assert_raise Mix.Error, ~r/the name of a service/, fn ->
        in_shop(dir, fn -> Service.run([name]) end)
      end
    end

    assert_raise Mix.Error, ~r/expected the name/, fn -> Service.run([]) end
    assert_raise Mix.Error, ~r/takes no arguments/, fn -> Gateway.run(["x"]) end
  end

  test "every addition finds its place in a new application, once", %{tmp_dir: dir} do
    in_shop(dir, fn ->
      for snippet <- Snippets.gateway(Project.read()) do
        text = File.read!(snippet.path)
        assert {:ok, changed} = Snippets.apply(snippet, text)
        assert changed != text
        assert {:ok, _ast} = Code.string_to_quoted(changed)
        assert Snippets.apply(snippet, changed) == {:ok, changed}
        File.write!(snippet.path, changed)
      end

      assert Snippets.instructions(Snippets.gateway(Project.read())) == nil

      assert File.read!("lib/shop/application.ex") =~
               "ShopWeb.Endpoint,\n      Shop.GenApi\n    ]"
    end)
  end

  test "an application without a place for an addition is told of it", %{tmp_dir: dir} do
    write(dir, "lib/shop/application.ex", "children = List.wrap(nil)")

    in_shop(dir, fn ->
      snippet = Enum.find(Snippets.gateway(Project.read()), &(&1.path =~ "application.ex"))
      assert Snippets.apply(snippet, File.read!(snippet.path)) == :error
    end)
  end

  test "with phx.gen.auth of Phoenix 1.8 the socket takes the user of the session", %{
    tmp_dir: dir
  } do
    write(dir, "lib/shop_web/user_auth.ex", @auth18)
    in_shop(dir, fn -> Gateway.run([]) end)
    socket = files(dir)["lib/shop_web/channels/gen_api_socket.ex"]
    assert socket =~ "{user, _inserted_at} <- Shop.Accounts.get_user_by_session_token(token)"
    assert socket =~ "%{current_scope: %{user: %{id: id}}}"
    said = said()
    assert said =~ "connect_info: [:peer_data, session: @session_options]"
    assert said =~ "plug :fetch_current_scope_for_user"
  end

  test "with phx.gen.auth of Phoenix 1.7 it does, too", %{tmp_dir: dir} do
    write(dir, "lib/shop_web/member_auth.ex", @auth17)
    in_shop(dir, fn -> Gateway.run([]) end)
    socket = files(dir)["lib/shop_web/channels/gen_api_socket.ex"]
    assert socket =~ "%{} = member <- Shop.People.get_member_by_session_token(token)"
    assert socket =~ "%{current_member: %{id: id}}"
    assert socket =~ ~s("member_token")
    assert said() =~ "plug :fetch_current_member"
  end

  test "without Igniter, install does what the generator does and says so", %{tmp_dir: dir} do
    refute Code.ensure_loaded?(Igniter)
    in_shop(dir, fn -> Install.run([]) end)
    assert Enum.all?(@gateway, &Map.has_key?(files(dir), &1))
    assert said() =~ "Igniter is not installed"
  end
end
