defmodule PhoenixGenApi.Test.ChannelFunctions do
  @moduledoc false
  # What the channel tests call. The last argument is the test, or the request.

  alias PhoenixGenApi.Structs.{Request, Response, StreamHelper}

  def echo(text, _test), do: text
  def now(_test), do: "done"

  @doc "Tells the test that it runs, and returns what the test says."
  def gate(test), do: gate(nil, test)

  def gate(name, test) do
    send(test, {:running, name, self()})

    receive do
      {:return, value} ->
        send(test, {:returned, name, self()})
        value
    end
  end

  @doc "Links itself with a process that lives on, and ends as it is told."
  def linked(test) do
    child = spawn_link(fn -> Process.sleep(:infinity) end)
    send(test, {:linked, self(), child})

    receive do
      :return -> "done"
      :raise -> raise "on purpose"
      :throw -> throw(:on_purpose)
      :exit -> exit(:on_purpose)
      :exit_normally -> exit(:normal)
    end
  end

  @doc "A hook that waits until its process ends."
  def hook(request, _config, test) do
    send(test, {:hook, self()})
    Process.sleep(:infinity)
    {:ok, request}
  end

  def whoami(_test, %Request{} = request) do
    Map.take(Map.from_struct(request), [:user_id, :user_roles, :device_id, :ip_address, :version])
  end

  def boom(_test), do: raise("database password is hunter2")
  def unencodable(_test), do: %{owner: self()}
  def looks_async(_test), do: Response.async_response(nil)
  def callers(test), do: send(test, {:callers, Process.get(:"$callers")}) && "told"

  @doc "A stream of 10,000 items, which are counted as they are sent."
  def count(test, %StreamHelper{} = out) do
    count = :counters.new(1, [])
    send(test, {:counting, count, self()})

    receive do
      :go -> :ok
    end

    for n <- 1..10_000 do
      StreamHelper.send_result(out, n)
      :counters.add(count, 1, 1)
    end

    StreamHelper.send_complete(out)
  end

  @doc "A stream of an enumerable, whose items are counted as they are made."
  def made(test) do
    count = :counters.new(1, [])
    send(test, {:making, count})
    1 |> Stream.iterate(&(&1 + 1)) |> Stream.each(fn _ -> :counters.add(count, 1, 1) end)
  end

  @doc "A stream that the test feeds."
  def feed(test, %StreamHelper{} = out) do
    send(test, {:feeding, out.request_id, self(), out})

    receive do
      :end -> :ok
    end
  end

  @doc "Adds the function of that name, which tells the calling process what becomes of it."
  def register(service, type, fields) do
    config = %PhoenixGenApi.Structs.FunConfig{
      service: service,
      request_type: type,
      nodes: :local,
      mfa: {__MODULE__, String.to_existing_atom(type), [self()]}
    }

    :ok = PhoenixGenApi.ConfigDb.add(struct!(config, fields))
  end
end
