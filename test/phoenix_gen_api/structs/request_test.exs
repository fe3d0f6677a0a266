defmodule PhoenixGenApi.Structs.RequestTest do
  # Not async: one test compares the number of atoms of the whole VM.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Errors.DecodeError
  alias PhoenixGenApi.Structs.Request

  doctest Request

  @minimal %{"request_id" => "r1", "request_type" => "find", "service" => "books"}

  defp error(payload) do
    assert {:error, %DecodeError{} = error} = Request.decode(payload)
    {error.code, error.message}
  end

  defp decoded(fields), do: Request.decode!(Map.merge(@minimal, fields))

  describe "decoding" do
    test "reads every field under string keys" do
      assert Request.decode!(%{
               "request_id" => "r1",
               "request_type" => "find",
               "service" => "books",
               "args" => %{"isbn" => "1"},
               "user_id" => "ann",
               "device_id" => "d1",
               "ip_address" => "10.0.0.1",
               "user_roles" => ["admin"],
               "version" => "1.0.0",
               "deadline_ms" => 2_000
             }) == %Request{
               request_id: "r1",
               request_type: "find",
               service: "books",
               args: %{"isbn" => "1"},
               user_id: "ann",
               device_id: "d1",
               ip_address: "10.0.0.1",
               user_roles: ["admin"],
               version: "1.0.0",
               deadline_ms: 2_000
             }
    end

    test "reads every field under atom keys, and thereby a request itself" do
      request = %Request{
        request_id: "r1",
        request_type: "find",
        service: "books",
        args: %{"isbn" => "1"},
        user_id: "ann",
        device_id: "d1",
        ip_address: "10.0.0.1",
        user_roles: ["admin"],
        version: "1.0.0",
        deadline_ms: 2_000
      }

      assert Request.decode!(Map.from_struct(request)) == request
      assert Request.decode!(request) == request
    end

    test "gives absent fields their defaults" do
      assert Request.decode!(@minimal) ==
               %Request{request_id: "r1", request_type: "find", service: "books", args: %{}}
    end

    test "reads nil like an absent field" do
      nils =
        Map.new(~w(args user_id device_id ip_address user_roles version deadline_ms), &{&1, nil})

      assert decoded(nils) == Request.decode!(@minimal)
    end

    test "reads an empty list as no arguments, and no other list" do
      assert decoded(%{"args" => []}).args == %{}

      assert error(Map.put(@minimal, "args", [1])) ==
               {:invalid_payload, "Invalid fields: args must be a map"}
    end

    test "ignores unknown keys of any kind" do
      assert decoded(%{:y => 2, "x" => 1, {1} => 3, 4 => 5, nil => 6}) ==
               Request.decode!(@minimal)
    end

    test "takes the atom key where a field is given twice" do
      assert decoded(%{"user_id" => "mallory", user_id: "ann"}).user_id == "ann"
      assert decoded(%{"user_id" => "mallory", user_id: nil}).user_id == nil
    end

    test "turns an atom service into a string" do
      assert decoded(%{"service" => :shop}).service == "shop"
    end

    test "reads an empty version as none and keeps an empty user id" do
      assert decoded(%{"version" => ""}).version == nil
      assert decoded(%{"user_id" => ""}).user_id == ""
    end

    test "takes a deadline in milliseconds, an hour at most" do
      for ms <- [1, 250, 3_600_000], do: assert(decoded(%{"deadline_ms" => ms}).deadline_ms == ms)

      for ms <- [3_600_001, Integer.pow(10, 1_000)],
          do: assert(decoded(%{"deadline_ms" => ms}).deadline_ms == 3_600_000)

      for ms <- [
            0,
            -1,
            -Integer.pow(10, 1_000),
            1.0,
            1.0e9,
            "1",
            "x",
            true,
            :infinity,
            [],
            %{},
            [1]
          ],
          key <- ["deadline_ms", :deadline_ms] do
        assert error(Map.put(@minimal, key, ms)) ==
                 {:invalid_payload, "Invalid fields: deadline_ms must be a positive integer"}
      end
    end

    test "sets no moment at which a request ends" do
      assert decoded(%{"expires_at" => 1, expires_at: {node(), 1}}).expires_at == nil
      assert Request.remaining_ms(decoded(%{"deadline_ms" => 1})) == :infinity
    end

    test "keeps the non-empty strings of user_roles" do
      assert decoded(%{"user_roles" => ["a", "", 1, nil, :b, "c"]}).user_roles == ["a", "c"]
      assert decoded(%{"user_roles" => []}).user_roles == []
    end

    test "reads user_roles that are no list as nil" do
      for roles <- ["admin", %{"0" => "admin"}, 1, true, {"admin"}, ["admin" | "root"]] do
        assert decoded(%{"user_roles" => roles}).user_roles == nil
      end
    end

    test "keeps strings with NUL bytes and characters outside ASCII" do
      assert decoded(%{"request_id" => "a\0ü日"}).request_id == "a\0ü日"
    end

    test "decode! returns the request or raises the error" do
      assert %Request{} = Request.decode!(@minimal)
      error = assert_raise DecodeError, fn -> Request.decode!(%{}) end
      assert error.code == :missing_field
    end

    test "the limit of a payload is the configured one" do
      assert Request.max_payload_bytes() == 1_000_000
    end
  end

  describe "missing fields" do
    test "all of them are named in a fixed order" do
      assert error(%{}) ==
               {:missing_field, "Missing required fields: request_type, request_id, service"}
    end

    test "nil and the empty string are missing" do
      assert error(%{@minimal | "request_id" => nil, "service" => ""}) ==
               {:missing_field, "Missing required fields: request_id, service"}

      assert error(%{@minimal | "request_type" => ""}) ==
               {:missing_field, "Missing required fields: request_type"}
    end

    test "are reported before wrong ones" do
      assert error(%{"args" => 5}) ==
               {:missing_field, "Missing required fields: request_type, request_id, service"}
    end
  end

  describe "wrong fields" do
    test "one is named" do
      assert error(Map.put(@minimal, "args", 5)) ==
               {:invalid_payload, "Invalid fields: args must be a map"}
    end

    test "all of them are named in the order of the table" do
      wrong =
        Map.new(
          ~w(version ip_address device_id user_id args service request_type request_id),
          &{&1, [1]}
        )

      assert error(wrong) ==
               {:invalid_payload,
                "Invalid fields: request_id must be a string, request_type must be a string, " <>
                  "service must be a string, args must be a map, user_id must be a string, " <>
                  "device_id must be a string, ip_address must be a string, version must be a string"}
    end

    test "no other type passes for a string" do
      bad = [1, 1.5, true, %{}, [], ["a" | "b"], Integer.pow(10, 1000), {:a}, self(), <<1::3>>]

      for field <- ~w(request_id request_type service user_id device_id ip_address version),
          value <- bad do
        assert error(Map.put(@minimal, field, value)) ==
                 {:invalid_payload, "Invalid fields: #{field} must be a string"}
      end
    end

    test "a boolean is no atom service, and no other field may be an atom" do
      assert error(%{@minimal | "service" => false}) ==
               {:invalid_payload, "Invalid fields: service must be a string"}

      assert error(%{@minimal | "request_id" => :r1}) ==
               {:invalid_payload, "Invalid fields: request_id must be a string"}
    end

    test "a binary that is not UTF-8 is no string" do
      for bytes <- [<<255>>, <<"abc", 0xC3>>, <<0xED, 0xA0, 0x80>>] do
        assert error(%{@minimal | "request_id" => bytes}) ==
                 {:invalid_payload, "Invalid fields: request_id must be a string"}

        assert error(Map.put(@minimal, "user_id", bytes)) ==
                 {:invalid_payload, "Invalid fields: user_id must be a string"}
      end
    end

    test "an empty list is an args map without entries" do
      for key <- [:args, "args"] do
        assert {:ok, %Request{args: %{}}} = Request.decode(Map.put(@minimal, key, []))
      end
    end

    test "a list or struct is no args map" do
      for args <- [[{"a", 1}], "x", ~D[2026-01-01], ["a" | "b"]] do
        assert error(Map.put(@minimal, "args", args)) ==
                 {:invalid_payload, "Invalid fields: args must be a map"}
      end
    end

    test "string fields may be 1024 bytes long, not longer" do
      for field <- ~w(request_id request_type service user_id device_id ip_address version) do
        fits = Map.put(@minimal, field, String.duplicate("é", 512))
        assert {:ok, %Request{}} = Request.decode(fits)

        assert error(Map.put(@minimal, field, String.duplicate("a", 1025))) ==
                 {:invalid_payload, "Invalid fields: #{field} exceeds 1024 bytes"}
      end
    end

    test "long and wrong ones are named in one list" do
      payload = Map.merge(@minimal, %{"request_id" => String.duplicate("a", 1025), "args" => 1})

      assert error(payload) ==
               {:invalid_payload,
                "Invalid fields: request_id exceeds 1024 bytes, args must be a map"}
    end
  end

  describe "hostile payloads" do
    test "what is not a map is refused" do
      for payload <- [
            nil,
            [],
            [1, 2],
            ["a" | "b"],
            "text",
            <<255>>,
            1,
            1.5,
            {:binary, ""},
            self()
          ] do
        assert error(payload) == {:invalid_payload, "Request payload must be a map"}
      end
    end

    test "a payload over the limit is refused before its fields are looked at" do
      payload = %{"request_id" => 1, "x" => :binary.copy("a", 1_000_001)}
      size = :erlang.external_size(payload)

      assert error(payload) ==
               {:invalid_payload,
                "Request payload exceeds maximum size of 1000000 bytes (got #{size} bytes)"}
    end

    test "a payload of exactly the limit is accepted" do
      room = 1_000_000 - :erlang.external_size(Map.put(@minimal, "x", ""))
      payload = Map.put(@minimal, "x", :binary.copy("a", room))
      assert :erlang.external_size(payload) == 1_000_000
      assert {:ok, %Request{}} = Request.decode(payload)
      assert {:invalid_payload, _} = error(Map.put(payload, "x", :binary.copy("a", room + 1)))
    end

    test "nesting of 10,000 levels is harmless" do
      deep = Enum.reduce(1..10_000, %{}, fn _, inner -> %{"a" => [inner]} end)
      assert decoded(%{"args" => deep}).args == deep

      assert error(Map.put(@minimal, "request_id", deep)) ==
               {:invalid_payload, "Invalid fields: request_id must be a string"}
    end

    test "the time to decode does not grow with the number of unknown keys" do
      many = Map.new(1..100_000, &{Integer.to_string(&1), 1})
      assert :erlang.external_size(many) > 1_000_000
      assert {:invalid_payload, "Request payload exceeds" <> _} = error(many)

      fitting = many |> Enum.take(60_000) |> Map.new() |> Map.merge(@minimal)
      {:reductions, before} = Process.info(self(), :reductions)
      assert {:ok, %Request{args: %{}}} = Request.decode(fitting)
      {:reductions, later} = Process.info(self(), :reductions)
      # One for each key would be the sign of a walk.
      assert later - before < 60_000
    end

    test "huge integers are counted, not written" do
      payload = Map.put(@minimal, "version", Integer.pow(10, 1_000_000))
      {counted, result} = :timer.tc(fn -> error(payload) end)
      assert result == {:invalid_payload, "Invalid fields: version must be a string"}
      # A tenth of the digits alone takes longer to write.
      {written, _digits} = :timer.tc(fn -> Integer.to_string(Integer.pow(10, 100_000)) end)
      assert counted < written
    end

    test "messages never repeat what was sent" do
      {_code, message} = error(%{@minimal | "request_id" => ["hunter2"]})
      refute message =~ "hunter2"
    end

    test "no atom is created" do
      payload = fn seed ->
        Map.merge(@minimal, %{
          "request_type" => "type_#{seed}",
          "service" => "service_#{seed}",
          "user_roles" => ["role_#{seed}"],
          "args" => %{"arg_#{seed}" => "value_#{seed}"},
          "key_#{seed}" => 1
        })
      end

      bad = fn seed -> Map.put(payload.(seed), "version", ["bad_#{seed}"]) end
      decode = fn seed -> {Request.decode(payload.(seed)), Request.decode(bad.(seed))} end
      decode.("warm_up")

      before = :erlang.system_info(:atom_count)
      for seed <- 1..1_000, do: decode.(seed)
      # Other processes of the VM may create a few; one for each payload would be thousands.
      assert :erlang.system_info(:atom_count) - before < 100
    end
  end
end
