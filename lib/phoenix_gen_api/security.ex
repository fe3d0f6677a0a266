defmodule PhoenixGenApi.Security do
  @moduledoc """
  What an administrator, a pusher and a function config may do.

  ## Administrative actions

      config :phoenix_gen_api, :admin_actions, [:push_config, :enable_tracing, :disable_tracing]

  The actions are `:change_detail_error`, `:update_rate_limit_config`, `:push_config`,
  `:enable_tracing` and `:disable_tracing`. Tracing is allowed only when it is listed.
  Changes of rate limits and pushes are free while `:admin_actions` is unset, and must be
  listed once it is set.

  ## Push token

      config :phoenix_gen_api, :push_token, System.fetch_env!("PUSH_TOKEN")

  With a token set, a push must carry the same one. It is compared in constant time.

  ## Functions that configs may name

      config :phoenix_gen_api, :mfa_allowlist, [Books.Api, {Books.Directory, :functions}]

  `nil` (the default) allows everything that is not denied, a list allows its modules and
  `{module, function}` pairs, `[]` allows nothing. Whatever the allowlist says, these are
  denied:

  - the modules `:os`, `:file`, `:prim_file`, `:filelib`, `:code`, `:erlang`, `:net`,
    `:net_kernel`, `:net_adm`, `:rpc`, `:erpc`, `:global`, `:inet`, `:init`, `:application`,
    `:erl_eval`, `:erl_prim_loader`, `:dbg`, `:sys`, `:ets`, `:dets`, `:persistent_term`, `:httpc`,
    `System`, `Code`, `File`, `Port`, `Node`, `Application`, `GenServer`, `Supervisor`, `Agent`,
    `EEx`, `Mix` and `IEx`;
  - every module of this library, except for `PhoenixGenApi.Relay.handle_relay` and the stubs of
    `PhoenixGenApi.Testing`, which exist only where a test has made them. The function `describe` of the
    service `gen_api` is the gateway's own and in nobody's config: the lists do not hold for it, see
    `PhoenixGenApi.Contract`;
  - `apply`, `exit`, `halt` and every `spawn…` of `Kernel`, every `apply_…` of `:timer`,
    and `Process.exit`.

  The lists hold for every function that a config names: the one it runs, those that find nodes
  and choose among them, its permission callback and its hooks. They are asked wherever a config
  comes in: `ConfigDb.add/1` and `batch_add/1`, pulls, pushes, `Executor.execute_with_config!/2`
  and `sync_call/2`, and configs that hooks return. What they refuse is recorded in
  `PhoenixGenApi.ConfigFailed`. They are asked again before each call of a function on the gateway
  itself. The service configs that an operator writes or adds are not asked about: who may write
  those may write the lists.

  **Warning:** only the allowlist is a boundary. The denylist stops mistakes and the obvious attacks: a
  function that it does not name may do anything. Set `:mfa_allowlist` on every gateway that takes
  function configs from other nodes.

  ## Function configs from other nodes

  A push or pull from another node has two more limits, so that it does not take over what the gateway
  itself does:

  - `nodes: :local` is refused, unless the function in `mfa` is in `:mfa_allowlist` or is
    `PhoenixGenApi.Relay.handle_relay`. A push that another gateway has accepted counts as one from
    another node, too. Code on the gateway may add, push and pull such functions.
  - A function that code on the gateway has added (`PhoenixGenApi.ConfigDb.add/1`) is not replaced
    by any push or pull, until `PhoenixGenApi.ConfigDb.delete/3`.

  A push with such a function is refused as a whole. A pull leaves the function out, with a warning.

  All three settings are read from the application environment on every use.
  """

  alias PhoenixGenApi.Security.OwnModules
  alias PhoenixGenApi.Structs.FunConfig

  @app :phoenix_gen_api

  # What a function config may name of this library. Spelt so that this module,
  # which all others may call, does not depend on it.
  @relay Module.concat(["PhoenixGenApi", "Relay"])

  # What a stub of a test names instead; without one it does nothing.
  @testing Module.concat(["PhoenixGenApi", "Testing"])

  @denied_modules OwnModules.list() ++
                    [
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

  @typedoc "An administrative action."
  @type action ::
          :change_detail_error
          | :update_rate_limit_config
          | :push_config
          | :enable_tracing
          | :disable_tracing

  @doc """
  Whether `:admin_actions` lists the action. Nothing is allowed while it is unset.

      iex> PhoenixGenApi.Security.admin_action_allowed?(:enable_tracing)
      false
  """
  @spec admin_action_allowed?(action() | term()) :: boolean()
  def admin_action_allowed?(action), do: listed?(admin_actions(), action)

  @doc """
  The gate of actions that are free while `:admin_actions` is unset: changes of rate limits
  and pushes. Returns `:ok`, or `{:error, :admin_action_denied}` when `:admin_actions` is set
  without the action.

      iex> PhoenixGenApi.Security.gate(:push_config)
      :ok
  """
  @spec gate(action() | term()) :: :ok | {:error, :admin_action_denied}
  def gate(action) do
    case admin_actions() do
      nil -> :ok
      actions -> if listed?(actions, action), do: :ok, else: {:error, :admin_action_denied}
    end
  end

  defp admin_actions, do: Application.get_env(@app, :admin_actions)

  # Anything but a list was put there at run time, past the check at start: deny.
  defp listed?(actions, action), do: is_list(actions) and action in actions

  @doc """
  Whether a push with this token is let in: always while `:push_token` is unset, otherwise
  only with the same token.

  The time it takes says nothing about where two tokens differ, nor about the length of the
  right one.
  """
  @spec valid_push_token?(term()) :: boolean()
  def valid_push_token?(token) do
    case Application.get_env(@app, :push_token) do
      nil ->
        true

      expected when is_binary(expected) and expected != "" and is_binary(token) ->
        :crypto.hash_equals(digest(expected), digest(token))

      _other ->
        false
    end
  end

  defp digest(token), do: :crypto.hash(:sha256, token)

  @doc """
  Whether a function config may name this function: `:ok` or `{:error, {:mfa_not_allowed, mfa}}`.

  Takes `{module, function}` or `{module, function, args}`; anything else is not allowed.

      iex> PhoenixGenApi.Security.validate_mfa({String, :upcase, []})
      :ok

      iex> PhoenixGenApi.Security.validate_mfa({:os, :cmd, [~c"id"]})
      {:error, {:mfa_not_allowed, {:os, :cmd, [~c"id"]}}}
  """
  @spec validate_mfa(term()) :: :ok | {:error, {:mfa_not_allowed, term()}}
  def validate_mfa({module, function, _args} = mfa) when is_atom(module) and is_atom(function),
    do: check(module, function, mfa)

  def validate_mfa({module, function} = mfa) when is_atom(module) and is_atom(function),
    do: check(module, function, mfa)

  def validate_mfa(other), do: {:error, {:mfa_not_allowed, other}}

  defp check(module, function, mfa) do
    if denied?(module, function) or not allowlisted?(module, function),
      do: {:error, {:mfa_not_allowed, mfa}},
      else: :ok
  end

  # Runs before every local call: guards on literal atoms compile to one jump table.
  defp denied?(@relay, :handle_relay), do: false
  defp denied?(@testing, :__stub__), do: false
  defp denied?(module, _function) when module in @denied_modules, do: true

  defp denied?(Kernel, function) when function in [:apply, :exit, :halt], do: true
  defp denied?(Kernel, function), do: prefixed?(function, "spawn")
  defp denied?(:timer, function), do: prefixed?(function, "apply_")
  defp denied?(Process, :exit), do: true
  defp denied?(_module, _function), do: false

  defp prefixed?(function, prefix), do: String.starts_with?(Atom.to_string(function), prefix)

  defp allowlisted?(module, function) do
    case Application.get_env(@app, :mfa_allowlist) do
      nil -> true
      list -> lists?(list, module, function)
    end
  end

  defp lists?(list, module, function),
    do: is_list(list) and (module in list or {module, function} in list)

  @doc false
  # Whether a function config from another node may run here, as far as its `nodes` are concerned.
  # Without an allowlist nothing is in it.
  @spec local_from_another_node?(FunConfig.t()) :: boolean()
  def local_from_another_node?(%{nodes: :local, mfa: {@relay, :handle_relay, _args}}), do: true

  def local_from_another_node?(%{nodes: :local, mfa: {module, function, _args}}),
    do: lists?(Application.get_env(@app, :mfa_allowlist), module, function)

  def local_from_another_node?(_config), do: true

  @doc false
  # The functions of a config that run on the gateway: hooks, node functions and mode functions.
  @spec on_gateway(FunConfig.t()) :: [tuple()]
  def on_gateway(config) do
    functions = [
      config.nodes,
      config.choose_node_mode,
      config.before_execute,
      config.after_execute
    ]

    for tuple <- functions,
        match?({m, f, a} when is_atom(m) and is_atom(f) and is_list(a), tuple) or
          (match?({m, f} when is_atom(m) and is_atom(f), tuple) and
             tuple in [config.before_execute, config.after_execute]),
        do: tuple
  end

  @doc false
  # Whether the allowlist names it. Without an allowlist nothing is in it.
  @spec allowlisted?(tuple()) :: boolean()
  def allowlisted?(mfa) do
    lists?(Application.get_env(@app, :mfa_allowlist), elem(mfa, 0), elem(mfa, 1))
  end

  @doc """
  Checks every function that a function config names: `mfa`, `nodes`, `choose_node_mode`,
  `permission_callback`, `before_execute` and `after_execute`, in this order.

  `:ok`, or `{:error, {:mfa_not_allowed, mfa}}` for the first one that is not allowed.
  Whether the fields are well-formed is for the validation of the config to say.
  """
  @spec validate_config(FunConfig.t() | map()) :: :ok | {:error, {:mfa_not_allowed, tuple()}}
  def validate_config(config) when is_struct(config),
    do: config |> Map.from_struct() |> validate_config()

  def validate_config(config) do
    with :ok <- check_mfa(config[:mfa]),
         :ok <- check_mfa(config[:nodes]),
         :ok <- check_mfa(config[:choose_node_mode]),
         :ok <- check_permission(config[:check_permission]),
         :ok <- check_mfa(config[:permission_callback]),
         :ok <- check_hook(config[:before_execute]) do
      check_hook(config[:after_execute])
    end
  end

  defp check_permission({:callback, callback}), do: check_mfa(callback)
  defp check_permission(_other), do: :ok

  # Two-element tuples are modes here ({:hash, key}, {:weighted, weights}), not functions.
  defp check_mfa({_module, _function, _args} = mfa), do: validate_mfa(mfa)
  defp check_mfa(_other), do: :ok

  defp check_hook({_module, _function} = hook), do: validate_mfa(hook)
  defp check_hook(hook), do: check_mfa(hook)
end
