defmodule PhoenixGenApi.Structs.ServiceConfigTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Structs.ServiceConfig

  doctest ServiceConfig

  @config %ServiceConfig{
    service: "books",
    nodes: [:"books@127.0.0.1"],
    module: Books.Directory,
    function: :functions
  }

  @nodes_error "nodes must be a non-empty list of atoms or strings, or a {module, function, args} tuple"

  defp errors(fields) do
    assert {:error, errors} = ServiceConfig.resolve(struct!(@config, fields))
    errors
  end

  defp resolved(fields) do
    assert {:ok, config} = ServiceConfig.resolve(struct!(@config, fields))
    config
  end

  describe "from_map" do
    @fields [
      service: "books",
      nodes: ["n@h"],
      module: "Books",
      function: "list",
      args: [:gw],
      version_module: "V",
      version_function: "v",
      version_args: [1]
    ]

    test "reads atom keys, string keys, keyword lists and structs alike, values unchanged" do
      expected = struct!(ServiceConfig, @fields)
      assert ServiceConfig.from_map(Map.new(@fields)) == expected

      assert ServiceConfig.from_map(Map.new(@fields, fn {k, v} -> {to_string(k), v} end)) ==
               expected

      assert ServiceConfig.from_map(@fields) == expected
      assert ServiceConfig.from_map(expected) == expected
    end

    test "gives missing and nil lists as []" do
      assert %ServiceConfig{nodes: [], args: [], version_args: []} = ServiceConfig.from_map(%{})

      assert %ServiceConfig{nodes: [], args: [], version_args: []} =
               ServiceConfig.from_map(%{"nodes" => nil, "args" => nil, version_args: nil})
    end

    test "ignores unknown keys and prefers the atom key" do
      assert ServiceConfig.from_map(%{:service => "b", "service" => "a", "x" => 1, 3 => 4}).service ==
               "b"
    end
  end

  test "version checks are enabled when both version_module and version_function are set" do
    refute ServiceConfig.version_check_enabled?(@config)
    refute ServiceConfig.version_check_enabled?(%{@config | version_module: V})
    refute ServiceConfig.version_check_enabled?(%{@config | version_function: :v})

    assert ServiceConfig.version_check_enabled?(%{
             @config
             | version_module: "V",
               version_function: :v
           })
  end

  describe "resolve" do
    test "leaves atoms as they are and names the service by a string" do
      assert resolved(service: :books) == @config
    end

    test "reads an upper-case module name as an Elixir alias, with and without its prefix" do
      assert resolved(module: "Shop.Api").module == Shop.Api
      assert resolved(module: "Elixir.Shop.Api").module == Shop.Api
    end

    test "reads any other module name as an Erlang module" do
      assert resolved(module: "shop_api").module == :shop_api
    end

    test "takes node and function names literally" do
      assert resolved(nodes: ["Books@host", :b@host]).nodes == [:Books@host, :b@host]
      assert resolved(function: "List").function == :List
      assert resolved(function: "list!").function == :list!
    end

    test "resolves the names of dynamic nodes and of the version check" do
      config =
        resolved(
          nodes: {"Shop.Nodes", "list", [1]},
          version_module: "Shop",
          version_function: "version"
        )

      assert config.nodes == {Shop.Nodes, :list, [1]}
      assert {config.version_module, config.version_function} == {Shop, :version}
    end

    test "accepts names of 255 characters, whatever their bytes" do
      name = String.duplicate("é", 255)
      assert Atom.to_string(resolved(function: name).function) == name
    end

    test "names every field that is wrong, in order" do
      assert errors(
               service: nil,
               nodes: [],
               module: nil,
               function: 5,
               args: nil,
               version_module: 1,
               version_function: true,
               version_args: [1 | 2]
             ) == [
               "service must not be nil",
               @nodes_error,
               "module must be a module name",
               "function must be a function name",
               "args must be a list",
               "version_module must be a module name",
               "version_function must be a function name",
               "version_args must be a list"
             ]
    end

    test "refuses services that are no name" do
      for service <- ["", 5, ["a"]] do
        assert errors(service: service) == ["service must be an atom or a non-empty string"]
      end
    end

    test "refuses nodes that are neither a list of names nor an MFA" do
      for nodes <- [nil, :local, "n@h", [nil], [1], [:a | :b], {:a, :b}, {:m, :f, :a}] do
        assert errors(nodes: nodes) == [@nodes_error]
      end
    end

    test "refuses strings that are no names, without making atoms of them" do
      long = String.duplicate("a", 256)

      for name <- ["", long, "a b", "a\0", "a\n", <<255>>, :binary.copy("é", 100_000)] do
        assert [
                 "function must be a function name of at most 255 characters without spaces, got " <>
                   _
               ] =
                 errors(function: name)

        assert ["nodes must be a node name of at most" <> _] = errors(nodes: [name])
        assert ["module must be a module name of at most" <> _] = errors(module: name)
      end

      assert_raise ArgumentError, fn -> String.to_existing_atom("module_nobody_wrote a") end
      errors(module: "module_nobody_wrote a")
      assert_raise ArgumentError, fn -> String.to_existing_atom("module_nobody_wrote a") end
    end

    test "refuses malformed aliases" do
      for name <- [
            "Shop..Api",
            "Shop.",
            "Shop.api",
            "Shop-Api",
            "Ünicode",
            "A" <> String.duplicate("b", 250)
          ] do
        result = ServiceConfig.resolve(%{@config | module: name})
        if name == "Ünicode", do: assert({:ok, _} = result), else: assert({:error, _} = result)
      end
    end
  end
end
