defmodule PhoenixGenApi.Channel.Clauses do
  @moduledoc false
  # The clauses that `use PhoenixGenApi` adds. They come after the module's own ones, which
  # therefore win, and are marked as generated: an own clause may well hide one of them.

  alias PhoenixGenApi.Channel.OwnClauses

  @doc "What a `use` expands to; `clauses` is `:all` or `:info`."
  @spec expand(Macro.t(), module(), :all | :info) :: Macro.t()
  def expand(options, used, clauses) do
    quote do
      PhoenixGenApi.Channel.Clauses.put_options(
        __ENV__,
        unquote(used),
        unquote(clauses),
        unquote(options)
      )

      @before_compile {PhoenixGenApi.Channel.Clauses, unquote(clauses)}
    end
  end

  @doc false
  @spec put_options(Macro.Env.t(), module(), :all | :info, term()) :: :ok
  def put_options(env, used, clauses, options) do
    if Module.has_attribute?(env.module, :phoenix_gen_api) do
      raise CompileError,
        file: env.file,
        line: env.line,
        description:
          "use #{inspect(used)}: only once in a module; " <>
            "for a second event call PhoenixGenApi.Channel.handle_in/3"
    end

    options =
      case clauses do
        :all ->
          PhoenixGenApi.Channel.Options.compile!(options, env, used)

        :info ->
          PhoenixGenApi.Channel.Options.compile!(
            options,
            env,
            used,
            [:event, :relay, :relay_event, :relay_request_id]
          )
      end

    Module.put_attribute(env.module, :phoenix_gen_api, options)

    # For the doctor, also in a release: that this is a channel of ours, and which clauses are hidden.
    Module.register_attribute(env.module, :phoenix_gen_api_hidden,
      accumulate: true,
      persist: true
    )

    Module.put_attribute(env.module, :phoenix_gen_api_hidden, :none)
  end

  @doc false
  defmacro all(env) do
    options = Module.get_attribute(env.module, :phoenix_gen_api)
    OwnClauses.warn_hidden(env, {:handle_in, 3})

    [
      quote generated: true do
        def handle_in(unquote(options.event), payload, socket),
          do: PhoenixGenApi.Channel.handle_in(payload, socket, unquote(Macro.escape(options)))
      end,
      info_clauses(env, options)
    ]
  end

  @doc false
  defmacro info(env), do: info_clauses(env, Module.get_attribute(env.module, :phoenix_gen_api))

  # What `join/3` itself calls has to find the way past the channel already.
  defp join_clause(env, options) do
    event = PhoenixGenApi.Channel.Options.relay_event(options)

    if fastlane?(env, options) and Module.defines?(env.module, {:join, 3}) do
      quote generated: true do
        defoverridable join: 3

        def join(topic, payload, socket) do
          PhoenixGenApi.Channel.Delivery.open_fastlane(socket, unquote(event))
          joined = super(topic, payload, socket)
          PhoenixGenApi.Channel.Delivery.close_fastlane()
          joined
        end
      end
    end
  end

  # A frame of the fastlane is the same for all of a topic, its sender included.
  defp fastlane?(_env, %{relay_request_id: false}), do: false
  defp fastlane?(env, %{relay: :auto}), do: not OwnClauses.relay_messages?(env.module)
  defp fastlane?(_env, %{relay: relay}), do: relay == :fastlane

  defp info_clauses(env, options) do
    OwnClauses.warn_hidden(env, {:handle_info, 2})
    join = join_clause(env, options)
    options = Macro.escape(options)

    [
      join,
      quote generated: true do
        def handle_info({tag, _response} = message, socket)
            when tag in [:push, :async_call, :stream_response, :relay_message],
            do: PhoenixGenApi.Channel.handle_info(message, socket, unquote(options))

        def handle_info({:stream_started, _id, _pid} = message, socket),
          do: PhoenixGenApi.Channel.handle_info(message, socket, unquote(options))
      end,
      unless Module.defines?(env.module, {:handle_info, 2}) do
        # Without any handle_info Phoenix ignores stray messages; with the clauses above it
        # would call them and crash.
        quote generated: true do
          def handle_info(_message, socket),
            do: PhoenixGenApi.Channel.unexpected(__MODULE__, socket)
        end
      end
    ]
  end
end
