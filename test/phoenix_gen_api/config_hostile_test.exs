defmodule PhoenixGenApi.ConfigHostileTest do
  # Whatever stands in a field of a config: nothing raises, and the good configs beside it are kept.
  use PhoenixGenApi.Test.OwnVM

  alias PhoenixGenApi.{Await, ConfigDb, ConfigFailed, ConfigPuller, ConfigReceiver}
  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig, Request, Response, ServiceConfig}
  alias PhoenixGenApi.Test.{Directory, HostileTerms}

  # Each reason is logged.
  setup_all do
    level = Logger.level()
    Logger.configure(level: :emergency)
    on_exit(fn -> Logger.configure(level: level) end)
  end

  setup do
    clean()
    on_exit(&clean/0)
  end

  defp clean do
    ConfigReceiver.delete_pushed_service("hostile")
    ConfigPuller.delete(Map.keys(ConfigPuller.get_services()))
    ConfigDb.clear()
    ConfigFailed.clear()
  end

  @good %FunConfig{
    service: "hostile",
    request_type: "good",
    nodes: [:a@h],
    mfa: {String, :upcase, []},
    arg_types: %{"a" => :string}
  }

  @fields Map.keys(@good) -- [:__struct__]

  # A field with something else in it, one that is missing and one more, as other versions have them.
  defp hostile_functions do
    of_fields =
      for field <- @fields, {name, term} <- HostileTerms.all() do
        {"#{field}: #{name}", Map.put(bad(), field, term)}
      end

    of_types =
      for {name, types} <- HostileTerms.arg_types(),
          do: {"arg_types: #{name}", %{bad() | arg_types: types}}

    of_orders =
      for {name, term} <- HostileTerms.all(),
          do: {"arg_orders: [#{name}]", %{bad() | arg_orders: [term]}}

    missing = for field <- @fields, do: {"without #{field}", Map.delete(bad(), field)}
    more = [{"with an unknown field", Map.put(bad(), :unknown, 1)}]
    of_fields ++ of_types ++ of_orders ++ missing ++ more ++ [{"none", %{__struct__: FunConfig}}]
  end

  defp bad, do: %{@good | request_type: "bad"}

  defp good(type), do: %{@good | request_type: type}

  defp stored, do: ConfigDb.get_functions_from_services("hostile")["hostile"] || %{}

  # Runs all of them before it fails, so that one failure says everything.
  defp each(cases, check) do
    failed =
      for {name, term} <- cases,
          problem = problem(fn -> check.(term) end),
          do: "#{name}: #{problem}"

    assert failed == []
  end

  defp problem(check) do
    if check.() == true, do: nil, else: "unexpected"
  rescue
    exception -> Exception.message(exception) |> String.slice(0, 300)
  end

  defp sentences?(sentences), do: sentences != [] and Enum.all?(sentences, &line?/1)

  defp line?(text), do: is_binary(text) and String.valid?(text) and not (text =~ ~r/[\n\r\e]/)

  describe "a function config with a hostile field" do
    test "is added, or refused with a reason, and does not raise" do
      each(hostile_functions(), fn config ->
        answer = ConfigDb.add(config)
        answer == ConfigDb.update(config) and answer in [:ok, {:error, :invalid_config}]
      end)

      assert Enum.all?(ConfigFailed.list(limit: 1_000), &sentences?(&1.reason))
    end

    test "loses no good config of a batch" do
      each(hostile_functions(), fn config ->
        ConfigDb.clear()
        {:ok, n} = ConfigDb.batch_add([good("first"), config, good("last")])
        n in 2..3 and is_map_key(stored(), "first") and is_map_key(stored(), "last")
      end)

      ConfigDb.clear()
      all = for {_name, config} <- hostile_functions(), do: config
      assert {:ok, _} = ConfigDb.batch_add([good("first")] ++ all ++ [good("last")])
      assert %{"first" => _, "last" => _} = stored()
    end

    test "is validated as it is stored" do
      each(hostile_functions(), fn config ->
        valid? = FunConfig.valid?(config)

        case FunConfig.validate_with_details(config) do
          {:ok, ^config} -> valid? and ConfigDb.add(config) == :ok
          {:error, errors} -> not valid? and sentences?(errors) and ConfigDb.add(config) != :ok
        end
      end)
    end

    test "makes a push refused with a reason, or is stored with it" do
      each(hostile_functions(), fn config ->
        push = %PushConfig{
          service: "hostile",
          nodes: [:a@h],
          config_version: "1",
          fun_configs: [good("first"), config]
        }

        case ConfigReceiver.push(push, force: true) do
          {:ok, :accepted} -> is_map_key(stored(), "first")
          {:error, {:validation_failed, reasons}} -> sentences?(reasons)
        end
      end)
    end

    test "loses no good config of a pull" do
      all = for {_name, config} <- hostile_functions(), do: config
      list = [good("first")] ++ all ++ [good("last")]
      agent = start_supervised!({Agent, fn -> %{list: fn -> {:ok, list} end} end})

      source = %ServiceConfig{
        service: "hostile",
        nodes: [node()],
        module: Directory,
        function: :answer,
        args: [agent, :list]
      }

      :ok = ConfigPuller.add([source])
      Await.until(fn -> ConfigPuller.get_api_list("hostile") end)
      assert %{"first" => _, "last" => _} = stored()
    end

    test "is run, or answered with an error, when it was handed over and not stored" do
      request = %Request{request_id: "r1", request_type: "bad", service: "hostile"}

      each(hostile_functions(), fn config ->
        config = if is_map_key(config, :nodes), do: Map.put(config, :nodes, :local), else: config

        match?(%Response{}, Executor.execute_with_config!(request, config)) and
          match?(%Response{}, Executor.sync_call(request, config))
      end)
    end

    test "that another version of the library made has the defaults for fields it does not know" do
      for field <- [:hook_timeout, :retry_on, :disabled, :arg_orders] do
        config = @good |> Map.delete(field) |> Map.put(:of_a_later_version, 1)
        assert FunConfig.validate_with_details(config) == {:ok, config}
        assert ConfigDb.add(config) == :ok
        assert {:ok, stored} = ConfigDb.get("hostile", "good")
        assert Map.keys(stored) == Map.keys(@good)
      end

      config = Map.drop(@good, [:hook_timeout, :permission_callback, :version, :arg_orders])
      request = %Request{request_id: "r1", args: %{"a" => "b"}}
      assert FunConfig.get_node(%{config | nodes: :local}, request) == {:ok, node()}
      assert FunConfig.convert_args!(config, request) == ["b"]
      assert FunConfig.check_permission!(request, config) == nil
      assert FunConfig.version(config) == "0.0.0"
      refute FunConfig.local_service?(Map.delete(config, :nodes))
    end
  end

  describe "numbers in function configs" do
    test "have maxima" do
      for {field, largest, beyond} <- [
            {:retry, 100, [101, 101.0, 1.0e300, Integer.pow(10, 400)]},
            {:hook_timeout, 300_000, [300_001, 4_294_967_296, Integer.pow(10, 400)]},
            {:timeout, 300_000, [300_001, 1.0e300]}
          ] do
        assert {:ok, _} = FunConfig.validate_with_details(Map.put(@good, field, largest))

        for value <- beyond do
          assert {:error, [reason]} =
                   FunConfig.validate_with_details(Map.put(@good, field, value))

          assert reason =~ "#{field} must be"
        end
      end

      for mode <- [:same_node, :all_nodes] do
        assert FunConfig.normalize_retry({mode, 100.9}) == {mode, 100}
        assert FunConfig.normalize_retry({mode, 101}) == nil
        config = %{@good | retry: {mode, 1.0e300}}

        assert FunConfig.validate_with_details(config) ==
                 {:error,
                  [
                    "retry must be nil, a positive number, {:same_node, number}, or {:all_nodes, number}"
                  ]}
      end
    end
  end

  describe "a push config with a hostile field" do
    @push %PushConfig{
      service: "hostile",
      nodes: [:a@h],
      config_version: "1",
      fun_configs: [@good],
      module: Directory,
      function: :calls_nothing
    }

    defp hostile_pushes do
      fields = Map.keys(@push) -- [:__struct__]

      for(
        field <- fields,
        {name, term} <- HostileTerms.all(),
        do: {"#{field}: #{name}", Map.put(@push, field, term)}
      ) ++
        for(
          {name, term} <- HostileTerms.all(),
          do: {"fun_configs: [#{name}]", %{@push | fun_configs: [term]}}
        ) ++
        for(field <- fields, do: {"without #{field}", Map.delete(@push, field)}) ++
        [{"none", %{__struct__: PushConfig}}]
    end

    test "is accepted, or refused with a reason, and does not raise" do
      for push <- [&ConfigReceiver.push/2, &ConfigReceiver.offer/2] do
        each(hostile_pushes(), fn hostile ->
          case push.(hostile, force: true) do
            :send -> true
            {:ok, :accepted} -> true
            {:error, {:validation_failed, reasons}} -> sentences?(reasons)
          end
        end)

        each(hostile_pushes(), fn hostile ->
          push.(Map.from_struct(hostile), []) != nil
        end)
      end
    end

    test "is validated and read without raising" do
      each(hostile_pushes(), fn hostile ->
        PushConfig.to_service_config(hostile)

        case PushConfig.validate_with_details(hostile) do
          {:ok, ^hostile} -> PushConfig.valid?(hostile)
          {:error, reasons} -> sentences?(reasons) and not PushConfig.valid?(hostile)
        end
      end)
    end

    test "is refused with a reason whatever its options are" do
      for opts <- [[node: "text"], [node: self()], [pushed_at: %{}], [force: 1, node: 1]] do
        assert ConfigReceiver.push(%{@push | config_version: ""}, opts) |> elem(0) == :error
      end
    end
  end

  describe "a service config with a hostile field" do
    @source %ServiceConfig{
      service: "hostile",
      nodes: [:nowhere@nohost],
      module: Directory,
      function: :calls_nothing
    }

    defp hostile_sources do
      fields = Map.keys(@source) -- [:__struct__]

      for(
        field <- fields,
        {name, term} <- HostileTerms.all(),
        do: {"#{field}: #{name}", Map.put(@source, field, term)}
      ) ++
        for(field <- fields, do: {"without #{field}", Map.delete(@source, field)}) ++
        [{"none", %{__struct__: ServiceConfig}}]
    end

    test "is resolved, or refused with a reason, and does not raise" do
      each(hostile_sources(), fn hostile ->
        is_boolean(ServiceConfig.version_check_enabled?(hostile)) and
          case ServiceConfig.resolve(hostile) do
            {:ok, %ServiceConfig{}} -> true
            {:error, reasons} -> sentences?(reasons)
          end
      end)
    end

    test "is registered or recorded, and the good one beside it is registered" do
      each(hostile_sources(), fn hostile ->
        :ok = ConfigPuller.add([hostile, %{@source | service: "beside"}])
        is_map_key(ConfigPuller.get_services(), "beside")
      end)
    end
  end
end
