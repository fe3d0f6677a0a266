defmodule PhoenixGenApi.SecurityTest do
  # Changes the application environment.
  use ExUnit.Case, async: false

  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Structs.FunConfig

  @keys [:admin_actions, :push_token, :mfa_allowlist]

  setup do
    before = for key <- @keys, do: {key, Application.fetch_env(:phoenix_gen_api, key)}
    for key <- @keys, do: Application.delete_env(:phoenix_gen_api, key)

    on_exit(fn ->
      for {key, value} <- before do
        case value do
          {:ok, value} -> put(key, value)
          :error -> Application.delete_env(:phoenix_gen_api, key)
        end
      end
    end)
  end

  doctest Security

  defp put(key, value), do: Application.put_env(:phoenix_gen_api, key, value)
  defp source(module), do: to_string(module.module_info(:compile)[:source])

  describe "administrative actions" do
    test "none is allowed while admin_actions is unset" do
      refute Security.admin_action_allowed?(:enable_tracing)
      put(:admin_actions, nil)
      refute Security.admin_action_allowed?(:enable_tracing)
    end

    test "the listed ones are allowed, others and unknown ones are not" do
      put(:admin_actions, [:push_config])
      assert Security.admin_action_allowed?(:push_config)
      refute Security.admin_action_allowed?(:enable_tracing)
      refute Security.admin_action_allowed?(:unknown)
      refute Security.admin_action_allowed?("push_config")
    end

    test "the gate is open while admin_actions is unset" do
      assert Security.gate(:update_rate_limit_config) == :ok
      put(:admin_actions, nil)
      assert Security.gate(:update_rate_limit_config) == :ok
    end

    test "the gate asks the list once it is set" do
      put(:admin_actions, [])
      assert Security.gate(:push_config) == {:error, :admin_action_denied}
      put(:admin_actions, [:push_config])
      assert Security.gate(:push_config) == :ok
      assert Security.gate(:update_rate_limit_config) == {:error, :admin_action_denied}
    end

    test "a value that is no list denies" do
      put(:admin_actions, :push_config)
      refute Security.admin_action_allowed?(:push_config)
      assert Security.gate(:push_config) == {:error, :admin_action_denied}
    end
  end

  describe "push token" do
    test "everything is let in while no token is set" do
      for token <- [nil, "", "any"], do: assert(Security.valid_push_token?(token))
    end

    test "only the same token is let in once one is set" do
      put(:push_token, "secret")
      assert Security.valid_push_token?("secret")

      for token <- ["secre", "secret2", "Secret", "", nil, :secret, ~c"secret"] do
        refute Security.valid_push_token?(token)
      end
    end

    test "an empty or malformed token on the gateway lets nobody in" do
      for set <- ["", :secret, 5], token <- ["", nil, :secret, 5] do
        put(:push_token, set)
        refute Security.valid_push_token?(token)
      end
    end
  end

  describe "validate_mfa" do
    @denied_modules [
      :os,
      :file,
      :prim_file,
      :filelib,
      :code,
      :erlang,
      :net,
      :net_kernel,
      :net_adm,
      :rpc,
      :erpc,
      :global,
      :inet,
      :init,
      :application,
      :erl_eval,
      :erl_prim_loader,
      :dbg,
      :sys,
      :ets,
      :dets,
      :persistent_term,
      :httpc,
      System,
      Code,
      File,
      Port,
      Node,
      Application,
      GenServer,
      Supervisor,
      Agent,
      EEx,
      Mix,
      IEx
    ]

    @denied_functions [
      {Kernel, :apply},
      {Kernel, :spawn},
      {Kernel, :spawn_link},
      {Kernel, :spawn_monitor},
      {Kernel, :exit},
      {Kernel, :halt},
      {:timer, :apply_after},
      {:timer, :apply_interval},
      {:timer, :apply_repeatedly},
      {Process, :exit}
    ]

    test "a function that is not denied is allowed, with and without arguments" do
      for mfa <- [{String, :upcase, []}, {String, :upcase}, {:lists, :sum, [[1]]}] do
        assert Security.validate_mfa(mfa) == :ok
      end
    end

    test "nothing of a denied module is allowed, whatever the allowlist says" do
      put(:mfa_allowlist, @denied_modules ++ for(m <- @denied_modules, do: {m, :any}))

      for module <- @denied_modules, mfa <- [{module, :any, []}, {module, :any}] do
        assert Security.validate_mfa(mfa) == {:error, {:mfa_not_allowed, mfa}}
      end
    end

    test "no module of this library is allowed, whatever the allowlist says" do
      lib = Path.expand("lib") <> "/"
      modules = Application.spec(:phoenix_gen_api, :modules)
      {own, others} = Enum.split_with(modules, &String.starts_with?(source(&1), lib))
      assert length(own) > 150 and PhoenixGenApi.ConfigDb in own
      put(:mfa_allowlist, modules)

      for module <- own do
        assert {module, Security.validate_mfa({module, :clear, []})} ==
                 {module, {:error, {:mfa_not_allowed, {module, :clear, []}}}}
      end

      # Those of test/support have names that begin like the others.
      assert PhoenixGenApi.Test.Functions in others
      for module <- others, do: assert(Security.validate_mfa({module, :clear, []}) == :ok)
      assert Security.validate_mfa({PhoenixGenApi.NoSuchModule, :clear, []}) != :ok
      put(:mfa_allowlist, nil)
      assert Security.validate_mfa({PhoenixGenApi.NoSuchModule, :clear, []}) == :ok
    end

    test "the function that relays is the one of this library that is allowed" do
      for mfa <- [{PhoenixGenApi.Relay, :handle_relay, []}, {PhoenixGenApi.Relay, :handle_relay}] do
        put(:mfa_allowlist, nil)
        assert Security.validate_mfa(mfa) == :ok
        put(:mfa_allowlist, [])
        assert Security.validate_mfa(mfa) == {:error, {:mfa_not_allowed, mfa}}
      end

      put(:mfa_allowlist, [PhoenixGenApi.Relay])
      assert {:error, _} = Security.validate_mfa({PhoenixGenApi.Relay, :create_group, []})
    end

    test "no denied function is allowed, whatever the allowlist says" do
      put(:mfa_allowlist, [Kernel, :timer, Process | @denied_functions])

      for {m, f} <- @denied_functions, mfa <- [{m, f, []}, {m, f}] do
        assert Security.validate_mfa(mfa) == {:error, {:mfa_not_allowed, mfa}}
      end
    end

    test "the other functions of those modules are allowed" do
      for mfa <- [{Kernel, :max, []}, {:timer, :seconds, [1]}, {Process, :info, []}] do
        assert Security.validate_mfa(mfa) == :ok
      end
    end

    test "every spawning, applying and exiting function that Kernel and timer have is denied" do
      kernel =
        for {f, _} <- Kernel.__info__(:functions),
            to_string(f) =~ ~r/^(apply|spawn|exit|halt)/,
            do: {Kernel, f}

      timer =
        for {f, _} <- :timer.module_info(:exports), to_string(f) =~ ~r/^apply_/, do: {:timer, f}

      assert length(kernel) >= 9 and length(timer) >= 3
      for mf <- kernel ++ timer, do: assert({:error, _} = Security.validate_mfa(mf))
    end

    test "an allowlist admits its modules and functions only" do
      put(:mfa_allowlist, [String, {Enum, :sum}])
      assert Security.validate_mfa({String, :upcase, []}) == :ok
      assert Security.validate_mfa({Enum, :sum, []}) == :ok
      assert Security.validate_mfa({Enum, :sum}) == :ok

      assert Security.validate_mfa({Enum, :map, []}) ==
               {:error, {:mfa_not_allowed, {Enum, :map, []}}}

      assert {:error, _} = Security.validate_mfa({List, :first, []})
    end

    test "an empty or malformed allowlist admits nothing" do
      for list <- [[], String, "all"] do
        put(:mfa_allowlist, list)
        assert {:error, _} = Security.validate_mfa({String, :upcase, []})
      end
    end

    test "what is not a function is not allowed" do
      for other <- [nil, "x", {String}, {"String", :upcase, []}, {String, "upcase"}, &is_nil/1] do
        assert Security.validate_mfa(other) == {:error, {:mfa_not_allowed, other}}
      end
    end
  end

  describe "validate_config" do
    @config %FunConfig{
      service: "books",
      request_type: "find",
      nodes: [:a@h],
      mfa: {String, :upcase, []}
    }
    @bad {:os, :cmd, [~c"id"]}

    test "an ordinary config passes" do
      assert Security.validate_config(@config) == :ok
      assert Security.validate_config(%{@config | nodes: :local}) == :ok
    end

    test "each field that names a function is checked" do
      for field <- [
            :mfa,
            :nodes,
            :choose_node_mode,
            :permission_callback,
            :before_execute,
            :after_execute
          ] do
        assert Security.validate_config(Map.put(@config, field, @bad)) ==
                 {:error, {:mfa_not_allowed, @bad}}

        assert Security.validate_config(Map.put(@config, field, {String, :upcase, []})) == :ok
      end
    end

    test "hooks without arguments are checked" do
      for field <- [:before_execute, :after_execute] do
        assert Security.validate_config(Map.put(@config, field, {:os, :cmd})) ==
                 {:error, {:mfa_not_allowed, {:os, :cmd}}}
      end
    end

    test "modes with a key or weights are not functions" do
      put(:mfa_allowlist, [String])

      for mode <- [:random, {:hash, "k"}, {:hash, :os}, {:sticky, :code}, {:weighted, %{a@h: 1}}] do
        assert Security.validate_config(%{@config | choose_node_mode: mode}) == :ok
      end
    end

    test "the allowlist holds for every field" do
      put(:mfa_allowlist, [String])

      assert Security.validate_config(%{@config | after_execute: {Enum, :map}}) ==
               {:error, {:mfa_not_allowed, {Enum, :map}}}
    end

    test "the first field in order is reported" do
      config = %{@config | nodes: {:code, :a, []}, before_execute: {:os, :b}}
      assert Security.validate_config(config) == {:error, {:mfa_not_allowed, {:code, :a, []}}}
    end
  end
end
