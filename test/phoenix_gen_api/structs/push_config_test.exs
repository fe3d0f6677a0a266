defmodule PhoenixGenApi.Structs.PushConfigTest do
  use ExUnit.Case, async: true

  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, ServiceConfig}

  doctest PushConfig

  @fun %FunConfig{service: "loans", request_type: "due", version: "1.0.0"}
  @config %PushConfig{
    service: :loans,
    nodes: [:a@h, "b@h"],
    config_version: "1.0.0",
    fun_configs: [@fun]
  }

  defp errors(fields) do
    config = struct!(@config, fields)
    assert {:error, errors} = PushConfig.validate_with_details(config)
    refute PushConfig.valid?(config)
    errors
  end

  defp valid(fields) do
    config = struct!(@config, fields)
    assert PushConfig.validate_with_details(config) == {:ok, config}
    assert PushConfig.valid?(config)
  end

  describe "from_map" do
    test "reads atom and string keys, values unchanged" do
      fields = [
        service: "loans",
        nodes: ["a@h"],
        config_version: "1",
        fun_configs: [@fun],
        module: "M",
        function: "f",
        args: [1],
        version_module: "V",
        version_function: "v",
        version_args: [2],
        push_token: "t"
      ]

      assert PushConfig.from_map(Map.new(fields)) == struct!(PushConfig, fields)

      assert PushConfig.from_map(Map.new(fields, fn {k, v} -> {to_string(k), v} end)) ==
               struct!(PushConfig, fields)
    end

    test "gives missing lists as []" do
      assert PushConfig.from_map(%{}) == %PushConfig{nodes: [], fun_configs: []}
      assert %PushConfig{args: [], version_args: []} = PushConfig.from_map(%{"args" => nil})
    end
  end

  describe "to_service_config" do
    test "is the pull part when module and function are set" do
      config = %{
        @config
        | module: "M",
          function: :f,
          args: [1],
          version_module: V,
          version_function: :v,
          version_args: [2]
      }

      assert PushConfig.to_service_config(config) == %ServiceConfig{
               service: :loans,
               nodes: [:a@h, "b@h"],
               module: "M",
               function: :f,
               args: [1],
               version_module: V,
               version_function: :v,
               version_args: [2]
             }
    end

    test "is nil otherwise" do
      assert PushConfig.to_service_config(@config) == nil
      assert PushConfig.to_service_config(%{@config | module: M}) == nil
      assert PushConfig.to_service_config(%{@config | function: :f}) == nil
    end
  end

  describe "validation" do
    test "accepts services as atom and string in any combination" do
      valid([])
      valid(service: "loans", fun_configs: [@fun, %{@fun | service: :loans}])
    end

    test "refuses each wrong field with its sentence" do
      for nodes <- [nil, [], [nil], [""], [1], {:m, :f, []}, :a, [:a | :b]] do
        assert errors(nodes: nodes) == ["nodes must be a non-empty list of atoms or strings"]
      end

      for version <- [nil, "", 1, :v, <<255>>] do
        assert errors(config_version: version) == ["config_version must be a non-empty string"]
      end

      for funs <- [nil, [], [%{}], [@fun, :x], @fun, [@fun | @fun]] do
        assert errors(fun_configs: funs) == [
                 "fun_configs must be a non-empty list of FunConfig structs"
               ]
      end

      assert errors(fun_configs: [@fun, %{@fun | service: "books"}]) == [
               "all fun_configs must have the same service name as the push config"
             ]

      for version <- ["", 1, :v] do
        assert errors(fun_configs: [%{@fun | version: version}]) == [
                 "all fun_configs must have valid versions"
               ]
      end

      assert errors(service: "", fun_configs: [%{@fun | service: ""}]) == [
               "service must be an atom or a non-empty string"
             ]
    end

    test "accepts an absent version of a function" do
      valid(fun_configs: [%{@fun | version: nil}])
    end

    test "lists everything that is wrong in order" do
      assert errors(service: nil, nodes: [], config_version: nil, fun_configs: []) == [
               "service must not be nil",
               "nodes must be a non-empty list of atoms or strings",
               "config_version must be a non-empty string",
               "fun_configs must be a non-empty list of FunConfig structs"
             ]

      assert errors(
               service: nil,
               nodes: [],
               config_version: "",
               fun_configs: [%{@fun | version: ""}]
             ) == [
               "service must not be nil",
               "nodes must be a non-empty list of atoms or strings",
               "config_version must be a non-empty string",
               "all fun_configs must have the same service name as the push config",
               "all fun_configs must have valid versions"
             ]
    end
  end

  test "inspect does not show the token" do
    refute inspect(%{@config | push_token: "hunter2"}) =~ "hunter2"
  end
end
