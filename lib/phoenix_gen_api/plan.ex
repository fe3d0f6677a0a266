defmodule PhoenixGenApi.Plan do
  @moduledoc false
  # What the gateway derives once from a function config. The native side holds it; a
  # request gets this record: a handle and the few fields that Elixir decides on.

  require Record

  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Structs.FunConfig.Validation

  Record.defrecord(:plan, [
    :handle,
    :module,
    :function,
    # those inside the mfa
    :arguments,
    :timeout,
    :response_type,
    :permission,
    :flags
  ])

  @type t ::
          record(:plan,
            handle: reference(),
            module: module(),
            function: atom(),
            arguments: [term()],
            timeout: timeout(),
            response_type: atom(),
            permission: term(),
            flags: non_neg_integer()
          )

  @flags [:request_info, :before_execute, :after_execute, :permission_callback, :retry, :local]
         |> Enum.with_index(fn flag, index -> {flag, Bitwise.bsl(1, index)} end)

  @doc "Whether a plan says so; the names are the keys of `@flags`."
  defguard is_set(plan, bit) when Bitwise.band(elem(plan, 8), bit) != 0

  for {flag, bit} <- @flags do
    @doc false
    defmacro unquote(flag)(), do: unquote(bit)
  end

  @doc "Compiles a config as a user wrote it; the errors are those of `FunConfig.validate_with_details/1`."
  @spec compile(FunConfig.t()) :: {:ok, t(), FunConfig.t()} | {:error, [String.t()]}
  def compile(%FunConfig{} = config) do
    with {:ok, config, schema} <- Validation.run(config) do
      {:ok, new(config, schema), config}
    end
  end

  @doc "The normalised config that the plan was made of."
  @spec config(t()) :: FunConfig.t()
  def config(plan(handle: handle)), do: Native.plan_config(handle)

  defp new(config, schema) do
    {module, function, arguments} = config.mfa

    Native.plan_new(%{
      service: config.service,
      request_type: config.request_type,
      version: config.version,
      disabled: config.disabled,
      schema: schema,
      module: module,
      function: function,
      arguments: arguments,
      timeout: if(config.timeout == :infinity, do: nil, else: config.timeout),
      response_type: config.response_type,
      permission: config.check_permission,
      flags: flags(config),
      config: config,
      term_bytes: :erts_debug.flat_size(config) * :erlang.system_info(:wordsize)
    })
  end

  defp flags(config) do
    set = [
      request_info: config.request_info,
      before_execute: config.before_execute != nil,
      after_execute: config.after_execute != nil,
      permission_callback: config.permission_callback != nil,
      retry: config.retry != nil,
      local: config.nodes == :local
    ]

    for {flag, true} <- set, reduce: 0, do: (bits -> bits + Keyword.fetch!(@flags, flag))
  end
end
