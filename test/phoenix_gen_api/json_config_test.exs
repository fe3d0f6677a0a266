defmodule PhoenixGenApi.JsonConfigTest do
  # Fills the one config table.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.{ConfigDb, JsonConfig}
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  doctest JsonConfig

  setup do
    ConfigDb.clear()
    on_exit(&ConfigDb.clear/0)
  end

  defp add(fields) do
    config =
      struct!(
        %FunConfig{
          service: "books",
          request_type: "find",
          nodes: :local,
          mfa: {String, :trim, []}
        },
        fields
      )

    :ok = ConfigDb.add(config)
    {:ok, stored} = ConfigDb.get(config.service, config.request_type, config.version)
    stored
  end

  def with_count(map, word), do: {word, map_size(map)}

  describe "what is exported" do
    test "of each function is the version that a request without a version would get" do
      add(version: "1.0.0")
      two = add(version: "2.0.0")
      add(request_type: "buy", version: "3.0.0")
      unversioned = add(request_type: "buy")
      assert JsonConfig.generate("books") == [unversioned, two]
    end

    test "leaves out what is disabled, and takes the next version that is not" do
      one = add(version: "1.0.0")
      add(version: "2.0.0")
      add(request_type: "gone")
      :ok = ConfigDb.disable("books", "find", "2.0.0")
      :ok = ConfigDb.disable("books", "gone")
      assert JsonConfig.generate("books") == [one]
    end

    test "is of one service, of several or of all, ascending, with names as atoms or strings" do
      b = add(request_type: "b")
      a = add(request_type: "a")
      other = add(service: "authors")
      third = add(service: "zoo")

      assert JsonConfig.generate(:books) == [a, b]
      assert JsonConfig.generate(["books", :authors, "books"]) == [other, a, b]
      assert JsonConfig.export_service("books") == [a, b]
      assert JsonConfig.export_all() == [other, a, b, third]
    end

    test "is nothing for a service that is not registered" do
      assert JsonConfig.generate("nowhere") == []
      assert JsonConfig.generate([]) == []
      assert JsonConfig.generate("nowhere", format: :map) == %{}
      assert JsonConfig.export_all(format: :json) == "{}"
    end
  end

  describe "the format" do
    setup do
      add(arg_types: [{"isbn", :string}])
      :ok
    end

    test "structs is the default" do
      assert [%FunConfig{request_type: "find"}] = JsonConfig.export_all()
      assert JsonConfig.export_all(format: :structs) == JsonConfig.export_all()
    end

    test "map has a key and a message for each function" do
      assert JsonConfig.export_all(format: :map) == %{
               "find - find" => %{
                 "event" => "phoenix_gen_api",
                 "data" => %{
                   "user_id" => "user_1",
                   "device_id" => "device_1",
                   "request_type" => "find",
                   "request_id" => "request_1",
                   "service" => "books",
                   "version" => "0.0.0",
                   "args" => %{"isbn" => ""}
                 }
               }
             }
    end

    test "json is the same map as text" do
      json = JsonConfig.export_all(format: :json)
      assert JSON.decode!(json) == JsonConfig.export_all(format: :map)
    end

    test "json writes values as responses are written" do
      json =
        JsonConfig.export_all(format: :json, arg_values: fn _ -> %{"isbn" => MapSet.new([1])} end)

      assert json =~ ~s("args":{"isbn":[1]})
    end

    test "a function gets the map before its own arguments" do
      assert JsonConfig.export_all(format: {__MODULE__, :with_count, [:word]}) == {:word, 1}
    end

    test "of any other kind is an error that shows it" do
      for bad <- [:yaml, "map", nil, {__MODULE__, :with_count}, {__MODULE__, :with_count, :word}] do
        assert_raise ArgumentError, "invalid format: #{inspect(bad)}", fn ->
          JsonConfig.generate("books", format: bad)
        end
      end
    end

    test "an option that does not exist is an error" do
      assert_raise ArgumentError, fn -> JsonConfig.export_all(formt: :map) end
    end
  end

  describe "keys" do
    test "end with the description, from a map or a function" do
      config = add([])
      assert {"find - find", _} = JsonConfig.export_single(config)

      assert {"find - by isbn", _} =
               JsonConfig.export_single(config, descriptions: %{"find" => "by isbn"})

      assert {"find - find", _} =
               JsonConfig.export_single(config, descriptions: %{"buy" => "now"})

      assert {"find - in books", _} =
               JsonConfig.export_single(config, descriptions: &"in #{&1.service}")

      assert {"find - find", _} = JsonConfig.export_single(config, descriptions: fn _ -> nil end)
    end

    test "that two services share get the name of the service" do
      add([])
      add(service: "authors")
      add(request_type: "buy")

      assert Map.keys(JsonConfig.export_all(format: :map)) ==
               ["buy - buy", "find - find (authors)", "find - find (books)"]

      assert JsonConfig.export_all(format: :map)["find - find (authors)"]["data"]["service"] ==
               "authors"
    end
  end

  describe "a message" do
    test "carries the ids and the event that were given" do
      opts = [user_id: "ann", device_id: "phone", request_id: "r9", event: "api"]
      {_key, message} = JsonConfig.export_single(add(version: "1.2.0"), opts)

      assert %{"event" => "api", "data" => data} = message
      assert %{"user_id" => "ann", "device_id" => "phone", "request_id" => "r9"} = data
      assert data["version"] == "1.2.0"
    end

    test "has for each argument the given value, else its default, else an empty string" do
      config =
        add(
          arg_types: [
            {"given", [type: :integer, default_value: 1]},
            {"default", [type: :integer, default_value: 2]},
            {"tuple", {:string, 9, [default_value: "x"]}},
            {"options", {:string, [default_value: "y"]}},
            {"nothing", [type: :string, allow_nil?: true, default_value: nil]},
            {"empty", :integer}
          ]
        )

      expected = %{
        "given" => 7,
        "default" => 2,
        "tuple" => "x",
        "options" => "y",
        # No default, as everywhere.
        "nothing" => "",
        "empty" => ""
      }

      for values <- [%{"find" => %{"given" => 7, "unknown" => 1}}, fn _ -> %{"given" => 7} end] do
        {_key, message} = JsonConfig.export_single(config, arg_values: values)
        assert message["data"]["args"] == expected
      end
    end

    test "has no arguments where the function takes none" do
      {_key, message} = JsonConfig.export_single(add([]), arg_values: %{"find" => %{"a" => 1}})
      assert message["data"]["args"] == %{}
    end

    test "is made of a config as it was written, too" do
      config = %FunConfig{
        service: :books,
        request_type: "find",
        version: nil,
        arg_types: %{"a" => :any}
      }

      {_key, %{"data" => data}} = JsonConfig.export_single(config)
      assert %{"service" => "books", "version" => "0.0.0", "args" => %{"a" => ""}} = data
    end

    test "is a request that the gateway understands" do
      config = add(arg_types: %{"text" => :string})

      {_key, %{"data" => data}} =
        JsonConfig.export_single(config, arg_values: %{"find" => %{"text" => " a "}})

      assert %Request{} = request = Request.decode!(data)
      assert PhoenixGenApi.Executor.execute!(request).result == "a"
    end
  end
end
