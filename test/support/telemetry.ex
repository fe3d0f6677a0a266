# A stand-in for the :telemetry library with the same contract, so that events can be
# tested where no Hex package is installed. The real one wins whenever it is there; the
# application's directory is asked for and not the module, whose beam may be this one's.
if match?({:error, _}, :code.lib_dir(:telemetry)) do
  defmodule :telemetry do
    @moduledoc false
    use GenServer

    require Logger

    @table :telemetry_handlers

    def attach(id, event, fun, config), do: attach_many(id, [event], fun, config)

    def attach_many(id, events, fun, config) when is_list(events) and is_function(fun, 4),
      do: GenServer.call(server(), {:attach, id, events, fun, config})

    def detach(id), do: GenServer.call(server(), {:detach, id})

    def list_handlers(prefix) do
      for {_event, handlers} <- table(),
          handler <- handlers,
          prefix?(prefix, handler.event_name) do
        handler
      end
    end

    def execute(event, measurements), do: execute(event, measurements, %{})

    def execute(event, value, metadata) when is_number(value),
      do: execute(event, %{value: value}, metadata)

    def execute(event, measurements, metadata) when is_map(measurements) and is_map(metadata),
      do: Enum.each(handlers(event), &call(&1, measurements, metadata))

    def span(prefix, metadata, fun) do
      context = Map.get_lazy(metadata, :telemetry_span_context, &make_ref/0)
      metadata = Map.put(metadata, :telemetry_span_context, context)
      started = :erlang.monotonic_time()

      execute(
        prefix ++ [:start],
        %{monotonic_time: started, system_time: :erlang.system_time()},
        metadata
      )

      try do
        fun.()
      catch
        kind, reason ->
          failure = %{kind: kind, reason: reason, stacktrace: __STACKTRACE__}
          execute(prefix ++ [:exception], elapsed(started), Map.merge(metadata, failure))
          :erlang.raise(kind, reason, __STACKTRACE__)
      else
        {result, stop_metadata} ->
          stop(prefix, elapsed(started), stop_metadata, context)
          result

        {result, extra, stop_metadata} ->
          stop(prefix, Map.merge(extra, elapsed(started)), stop_metadata, context)
          result
      end
    end

    defp stop(prefix, measurements, metadata, context) do
      execute(
        prefix ++ [:stop],
        measurements,
        Map.put_new(metadata, :telemetry_span_context, context)
      )
    end

    defp elapsed(started) do
      now = :erlang.monotonic_time()
      %{duration: now - started, monotonic_time: now}
    end

    defp call(handler, measurements, metadata) do
      handler.function.(handler.event_name, measurements, metadata, handler.config)
    catch
      kind, reason ->
        detach(handler.id)

        Logger.error(
          "Handler #{inspect(handler.id)} has failed and has been detached. " <>
            "Class=#{inspect(kind)}\nReason=#{inspect(reason)}\nStacktrace=#{inspect(__STACKTRACE__)}\n"
        )

        execute(
          [:telemetry, :handler, :failure],
          %{monotonic_time: :erlang.monotonic_time(), system_time: :erlang.system_time()},
          %{
            event_name: handler.event_name,
            handler_id: handler.id,
            handler_config: handler.config,
            kind: kind,
            reason: reason,
            stacktrace: __STACKTRACE__
          }
        )
    end

    defp prefix?(prefix, event), do: Enum.take(event, length(prefix)) == prefix

    defp handlers(event) do
      # As the real one does, so that an event costs what it costs there.
      case :persistent_term.get(@table, nil) do
        nil -> []
        table -> with [{_event, handlers}] <- :ets.lookup(table, event), do: handlers
      end
    end

    defp table do
      case :persistent_term.get(@table, nil) do
        nil -> []
        table -> :ets.tab2list(table)
      end
    end

    # Started by the first to attach, linked to nobody: it lives as long as the tests.
    defp server do
      case GenServer.start(__MODULE__, [], name: __MODULE__) do
        {:ok, pid} -> pid
        {:error, {:already_started, pid}} -> pid
      end
    end

    @impl true
    def init(_) do
      table = :ets.new(@table, [:protected, read_concurrency: true])
      :persistent_term.put(@table, table)
      {:ok, table}
    end

    @impl true
    def handle_call({:attach, id, events, fun, config}, _from, table) do
      if Enum.any?(list_handlers([]), &(&1.id == id)) do
        {:reply, {:error, :already_exists}, table}
      else
        for event <- events do
          handler = %{id: id, event_name: event, function: fun, config: config}
          :ets.insert(table, {event, handlers(event) ++ [handler]})
        end

        {:reply, :ok, table}
      end
    end

    def handle_call({:detach, id}, _from, table) do
      found = for handler <- list_handlers([]), handler.id == id, do: handler.event_name

      for event <- found do
        :ets.insert(table, {event, Enum.reject(handlers(event), &(&1.id == id))})
      end

      {:reply, if(found == [], do: {:error, :not_found}, else: :ok), table}
    end
  end
end
