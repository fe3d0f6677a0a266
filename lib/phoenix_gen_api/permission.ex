defmodule PhoenixGenApi.Permission do
  @moduledoc """
  Decides whether a request may call a function. Whatever is unclear is denied.

      %FunConfig{check_permission: {:role, ["admin", "support"]}, ...}
      %FunConfig{permission_callback: {Shop.Policy, :may?, [:refund]}, ...}

      def may?(request, :refund), do: Shop.Policy.owner?(request.user_id, request.args["order_id"])

  | `check_permission` | Grants when |
  |---|---|
  | `false` | always |
  | `:any_authenticated` | `user_id` is a non-empty string |
  | `{:arg, name}` | `user_id` is a non-empty string and `args[name]` is it, or the integer with that text; with `arg_orders: :map` and no such argument: every `name` one level down in map arguments equals it, and there is at least one |
  | `{:role, roles}` | `user_roles` and `roles` share an element |
  | `{:callback, mfa}` | the same as `permission_callback: mfa` |

  `permission_callback: {module, function, args}` replaces `check_permission`. It is called as
  `apply(module, function, [request | args])`; `true` or `:ok` grants, anything else or a raise
  denies. It runs on the gateway for `nodes: :local`, otherwise on the node that is going to run the
  function. No answer within `hook_timeout` and a lost connection are no denial: they count against
  the node, as a call would, the next node is asked, and without one the request is answered
  `Service temporarily unavailable`, not executed.

  Permission is decided before the arguments are validated, on the arguments as sent.
  """

  import PhoenixGenApi.Plan, only: [plan: 1, has: 2]

  alias PhoenixGenApi.Deadline
  alias PhoenixGenApi.Explanation
  alias PhoenixGenApi.Format
  alias PhoenixGenApi.NodeSelector
  alias PhoenixGenApi.Permission.PermissionDenied
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Structs.{FieldMap, FunConfig, Request}
  alias PhoenixGenApi.Log

  require Log

  @doc "Whether the request may call the function."
  @spec check_permission(Request.t(), FunConfig.t()) :: boolean()
  def check_permission(request, config), do: permits?(complete(request), complete(config))

  @doc false
  # Whether a request may call any function with this `check_permission`, whatever its arguments.
  @spec may?(Request.t(), false | :any_authenticated | {:role, [String.t()]}) :: boolean()
  def may?(request, check_permission), do: granted?(check_permission, request, nil)

  defp permits?(request, %{permission_callback: nil} = config),
    do: granted?(config.check_permission, request, config.arg_orders)

  defp permits?(request, config), do: remote?(request, config, nil) == :ok

  # As another version of the library has made it, and with the callback in its own field.
  defp complete(%Request{} = request), do: Request.complete(request)

  defp complete(config) do
    config = if is_struct(config), do: FieldMap.complete(config), else: config

    case config do
      %{permission_callback: nil, check_permission: {:callback, callback}} when callback != nil ->
        %{config | permission_callback: callback, check_permission: false}

      config ->
        config
    end
  end

  @doc "`nil`, or raises `PhoenixGenApi.Permission.PermissionDenied`."
  @spec check_permission!(Request.t(), FunConfig.t()) :: nil
  def check_permission!(request, config) do
    {request, config} = {complete(request), complete(config)}
    unless permits?(request, config), do: raise(exception(request, config))
    nil
  end

  @doc """
  Decides with the `permission_callback` on `node`, by default the node that would run the
  function: `:ok`, or raises `PhoenixGenApi.Permission.PermissionDenied`. Without a callback
  the same as `check_permission!/2`.
  """
  @spec check_permission_remote!(Request.t(), FunConfig.t(), node() | nil) :: :ok
  def check_permission_remote!(request, config, node \\ nil) do
    {request, config} = {complete(request), complete(config)}

    granted? =
      if config.permission_callback == nil,
        do: permits?(request, config),
        else: remote?(request, config, node) == :ok

    unless granted?, do: raise(exception(request, config))
    :ok
  end

  @doc false
  # The request path. `node` is where the callback runs, if there is one. A failure is one of
  # `PhoenixGenApi.ErrorResponse`; a callback that has not decided may be asked on another node.
  @spec authorise(Plan.t(), Request.t(), node()) ::
          :ok
          | {:error,
             :not_connected | {:permission_denied | :permission_unanswered, term(), tuple()}}
  def authorise(plan, request, node) when has(plan, :permission_callback) do
    config = Plan.config(plan)

    case callback(config, request, node) do
      :ok ->
        :ok

      :not_connected ->
        {:error, :not_connected}

      {:denied, outcome} ->
        denied(request, {:callback, config.permission_callback, outcome})

      {:unanswered, outcome} ->
        {:error, {:permission_unanswered, config.permission_callback, outcome}}
    end
  end

  def authorise(plan(permission: false), _request, _node), do: :ok

  def authorise(plan(permission: :any_authenticated), request, _node)
      when is_binary(request.user_id) and request.user_id != "",
      do: :ok

  def authorise(plan(permission: permission) = plan, request, _node) do
    orders = if match?({:arg, _}, permission), do: Plan.config(plan).arg_orders
    if granted?(permission, request, orders), do: :ok, else: denied(request, {:mode, permission})
  end

  defp denied(request, why), do: {:error, {:permission_denied, request.user_id, why}}

  @doc false
  # Adds the `strategy`. Does not run a callback.
  @spec explain(FunConfig.t(), Request.t() | nil) :: Explanation.t()
  def explain(%{permission_callback: {_, _, _} = mfa} = config, _request) do
    where = if config.nodes == :local, do: "the gateway", else: "the node of the call"
    decides = "decides on #{where}, within #{Format.duration(config.hook_timeout)}"

    "#{Format.function(mfa)} #{decides}"
    |> Explanation.unknown(mfa)
    |> Map.put(:strategy, :callback)
  end

  def explain(%{check_permission: mode} = config, request) do
    {strategy, desc} = describe(mode, config.arg_orders)

    explanation =
      cond do
        mode == false or request == nil ->
          Explanation.none(desc)

        permits?(request, config) ->
          Explanation.passes(desc)

        true ->
          Explanation.refuses(
            desc,
            {:permission_denied, request.user_id, {:mode, mode}},
            held(mode, request)
          )
      end

    Map.put(explanation, :strategy, strategy)
  end

  defp describe(false, _orders), do: {:none, "everybody may call"}

  defp describe(:any_authenticated, _orders),
    do: {:any_authenticated, "every request with a user_id"}

  defp describe({:role, roles}, _orders), do: {:role, "one of the roles #{Format.names(roles)}"}

  defp describe({:arg, name}, orders) do
    deep = if orders == :map, do: ", or every such entry of its maps", else: ""
    {:arg, "the argument #{SafeInspect.name(name)}#{deep} must be the user_id"}
  end

  # The identity that was not sufficient.
  defp held(mode, request) do
    held =
      case mode do
        {:role, _roles} -> "user_roles #{SafeInspect.inspect(request.user_roles, 60)}"
        {:arg, name} -> "argument #{SafeInspect.inspect(request.args[to_string(name)], 60)}"
        _no_user -> "which is no user"
      end

    "user_id #{SafeInspect.inspect(request.user_id, 60)}, #{held}"
  end

  defp granted?(false, _request, _orders), do: true
  defp granted?(:any_authenticated, request, _orders), do: authenticated?(request)

  defp granted?({:arg, name}, %{args: args} = request, orders)
       when is_map(args) and name not in [nil, ""] do
    name = if is_atom(name), do: to_string(name), else: name

    authenticated?(request) and
      case args do
        %{^name => value} -> owner?(value, request.user_id)
        _ when orders == :map -> nested?(args, name, request.user_id)
        _ -> false
      end
  end

  defp granted?({:role, roles}, %{user_roles: held}, _orders)
       when is_list(roles) and is_list(held) do
    not List.improper?(roles) and not List.improper?(held) and
      Enum.any?(roles, &(&1 in held or (is_atom(&1) and to_string(&1) in held)))
  end

  defp granted?(mode, _request, _orders) do
    unless match?({kind, _} when kind in [:arg, :role], mode),
      do: Log.error("check_permission is not one of the documented modes: denied")

    false
  end

  defp authenticated?(%{user_id: user_id}), do: is_binary(user_id) and user_id != ""

  defp nested?(args, name, user_id) do
    owners = for {_key, %{^name => owner}} <- args, do: owner
    owners != [] and Enum.all?(owners, &owner?(&1, user_id))
  end

  # An application whose ids are integers has them as text in requests and as integers in arguments.
  defp owner?(user_id, user_id), do: true

  # Read instead of written: the text of an argument of a million digits takes seconds.
  defp owner?(value, user_id) when is_integer(value) and byte_size(user_id) < 100,
    do: Integer.parse(user_id) == {value, ""} and Integer.to_string(value) == user_id

  defp owner?(_value, _user_id), do: false

  defp remote?(request, config, nil) do
    case NodeSelector.get_nodes(config, request) do
      {:ok, nodes} -> first_connected(nodes, request, config)
      {:error, _reason} -> :denied
    end
  end

  defp remote?(request, config, node), do: callback(config, request, node)

  defp first_connected([], _request, _config), do: :denied

  defp first_connected([node | nodes], request, config) do
    case callback(config, request, node) do
      :not_connected -> first_connected(nodes, request, config)
      {:unanswered, _outcome} -> first_connected(nodes, request, config)
      decided -> decided
    end
  end

  defp callback(%{permission_callback: {m, f, a}} = config, request, node)
       when is_atom(m) and is_atom(f) and is_list(a) and is_atom(node) do
    metadata = Deadline.mark(nil, request)

    case RPC.call(node, m, f, [request | a], config.hook_timeout, nil, metadata) do
      {:return, granted} when granted in [true, :ok] -> :ok
      # Nothing was sent: another node may be asked.
      unsent when unsent in [:not_connected, :unreachable] -> :not_connected
      # That says something of the node, and nothing of the user.
      late when late in [:timeout, :deadline, :stopping] -> {:unanswered, late}
      {:node_down, _reason} = lost -> {:unanswered, lost}
      other -> {:denied, other}
    end
  end

  defp callback(_config, _request, _node), do: {:denied, :malformed}

  defp exception(request, %{permission_callback: callback, check_permission: kind}),
    do: PermissionDenied.exception(request: request, mode: callback || kind)
end
