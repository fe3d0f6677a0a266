defmodule PhoenixGenApi.Http.ConsoleTest do
  # The console's page and its data. What the page does is tested in a browser: test/console.
  use PhoenixGenApi.ChannelCase, async: true

  import PhoenixGenApi.Test.HttpRequests

  alias PhoenixGenApi.Http
  alias PhoenixGenApi.Http.Options

  defp get(path, fields \\ []),
    do: Map.merge(post("", "", ""), Map.new([method: "GET", path: path] ++ fields))

  defp page(options \\ [console: true]) do
    {200, headers, {:full, page}} = Http.handle(get([]), options)
    {Map.new(headers), IO.iodata_to_binary(page)}
  end

  defp description(options, fields \\ []) do
    {200, _headers, body} = ask(get(["console.json"], fields), options)
    body
  end

  defp types(%{"contract" => %{"services" => services}}, service) do
    for %{"service" => ^service, "functions" => functions} <- services,
        %{"request_type" => type} <- functions,
        do: type
  end

  test "is one page, that loads nothing from elsewhere and links to nothing" do
    {headers, page} = page()
    assert headers["content-type"] == "text/html; charset=utf-8"
    refute page =~ ~r{(src|href)="(?!#|data:)}
    refute page =~ ~r{https?://(?!www\.w3\.org)}
    refute page =~ "@import"
    refute page =~ "innerHTML"
    refute page =~ ~r/\son\w+="/
    refute page =~ ~r/\sstyle="/
    refute page =~ "%NONCE%"
  end

  test "runs only its own script and style, by a nonce that is made for each answer" do
    {headers, page} = page()
    policy = headers["content-security-policy"]
    [nonce] = Regex.run(~r/script-src 'nonce-([^']+)'/, policy, capture: :all_but_first)
    assert page =~ ~s(<script nonce="#{nonce}">)
    assert page =~ ~s(<style nonce="#{nonce}">)
    assert policy =~ "default-src 'none'"
    assert policy =~ "connect-src 'self'"
    assert policy =~ "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    refute policy =~ "unsafe"
    assert byte_size(Base.decode64!(nonce)) == 16
    {other, _page} = page()
    refute other["content-security-policy"] == policy
  end

  test "is there only where it was asked for, and for those who may use the gateway" do
    for path <- [[], ["console.json"]] do
      assert {404, _, _} = ask(get(path))
      assert {401, _, _} = ask(get(path, assigns: %{}), console: true)

      assert {403, _, _} =
               ask(get(path, headers: [{"sec-fetch-site", "cross-site"}]), console: true)

      assert {405, %{"allow" => "GET, HEAD"}, _} = ask(get(path, method: "POST"), console: true)
      assert {200, _, {:full, _}} = Http.handle(get(path, method: "HEAD"), console: true)
    end
  end

  test "shows what its user may call, and no other service than those listed",
       %{service: service} do
    register(service, "now")
    register(service, "gate", check_permission: {:role, ["admin"]})
    console = [console: true]

    assert types(description(console), service) == ["now"]

    assert %{"identity" => %{"user_id" => "ann", "user_roles" => []}, "editable" => false} =
             description(console)

    admin = [assigns: %{user_id: 1, user_roles: [:admin]}]
    assert types(description(console, admin), service) == ["gate", "now"]
    assert types(description(console ++ [services: ["other"]]), service) == []
    assert types(description(console ++ [services: [service]]), service) == ["now"]

    # On a server for development one may become anybody.
    local = %Options{console: true, local: true}
    assert types(description(local), service) == ["gate", "now"]
    assert description(local)["editable"]
  end
end
