defmodule PhoenixGenApi.ServiceGuard do
  @moduledoc """
  Makes a service node run for gateways only what it has registered itself.

      # on the service node
      config :phoenix_gen_api, :service_guard, true

  A gateway calls whatever its configs say. The guard protects a service node from a config that
  is wrong or forged: one that another service has pushed, or that somebody stored on a gateway by
  hand, and that names this node and one of its functions. Such a call ends with
  `Internal Server Error` for the client (the detail is `Books.Api.wipe/1 is not registered by
  node books@10.0.0.7`), and with a warning in the log of the service node, one a second at most.

  It does not protect against a compromised node. Erlang distribution is no security boundary: any
  node that is connected can run anything on this one without asking the library. Who may connect
  is decided by the cookie and by TLS (see the guide *Deployment*).

  ## What is registered

    * the functions and permission callbacks of every `PhoenixGenApi.Structs.PushConfig` that this
      node pushes (`PhoenixGenApi.ConfigPusher`), and its `module.function` to pull from
    * the functions that the listing functions declared here return:

          config :phoenix_gen_api, :service_guard,
            listings: [{Books.Directory, :functions, [:gw]}, {Books.Directory, :version}]

      They are asked when a gateway pulls, and by the node itself when a gateway calls what is not
      registered (yet), at most once a second: a node that was just restarted, or that gateways
      never pull from because another node of the service answers first, knows its functions.
      Version functions are declared in the same way.
    * what `register/1` is given, on a node whose configs another node pushes

  and, for whatever else gateways may call there, what is allowed by name:

      config :phoenix_gen_api, :service_guard, allow: [Books.Tools, {Books.Admin, :report}]

  A function is registered with its number of arguments and with those that its config fixes: of
  `mfa: {Books.Api, :reserve, ["main"]}` with one argument type only calls of `reserve/2` with
  `"main"` at the end are run. What is registered stays so until `withdraw/1` or a restart, so that
  gateways that have the previous config of a service can go on. A node takes 100,000 registrations, of 64 MiB;
  what comes then is refused, with an error in the log.

  Hooks, node functions and functions of `nodes: :local` run on the gateway and are a matter of its
  `:mfa_allowlist` (`PhoenixGenApi.Security`).

  ## How it works

  A call of a gateway begins, on the node that it is for, in a function of this library, which looks
  here before it calls anything. A node is guarded from the start of the application on, also in
  client mode.
  """

  alias PhoenixGenApi.RPC.Guard
  alias PhoenixGenApi.Service.GuardRegistry
  alias PhoenixGenApi.Structs.{FunConfig, PushConfig}

  @doc """
  Registers the functions of a push config, or those of function configs.

  For nodes whose configs another node pushes; `PhoenixGenApi.ConfigPusher` does it by itself.
  Entries that are no `FunConfig` are left out. Where no guard runs nothing happens.
  """
  @spec register(PushConfig.t() | [FunConfig.t()]) :: :ok
  def register(%PushConfig{} = push) do
    push = PushConfig.complete(push)
    GuardRegistry.add(push.fun_configs, PushConfig.to_service_config(push))
  end

  def register(configs) when is_list(configs), do: GuardRegistry.add(configs, nil)

  @doc "Forgets what is registered of a service. Its listings, if declared, may bring it back."
  @spec withdraw(String.t() | atom()) :: :ok
  def withdraw(service), do: GuardRegistry.withdraw(to_string(service))

  @doc "The registered functions and callbacks, ascending; empty where no guard runs."
  @spec registered() :: [mfa()]
  defdelegate registered, to: GuardRegistry

  @doc "Whether this node is guarded."
  @spec guarded?() :: boolean()
  defdelegate guarded?, to: Guard
end
