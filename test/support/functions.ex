defmodule PhoenixGenApi.Test.Functions do
  # Functions, hooks, callbacks and strategies for function configs under test. Those that
  # take a fun run it; the others need nothing but this module on the node.

  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @doc "A local function config that runs `fun`, with these fields."
  def config(fun, fields \\ []) when is_function(fun) do
    struct!(
      %FunConfig{
        service: "test",
        request_type: "run",
        nodes: :local,
        mfa: {__MODULE__, :run, [fun]}
      },
      fields
    )
  end

  @doc "A request for `config/2`, with these fields."
  def request(fields \\ []) do
    struct!(%Request{request_id: "r1", request_type: "run", service: "test"}, fields)
  end

  @doc "A config of a function of this module on other nodes, each with a type of its own."
  def remote(nodes, function, arguments, fields \\ []) do
    struct!(
      %FunConfig{
        service: "remote",
        request_type: "t#{System.unique_integer([:positive])}",
        nodes: List.wrap(nodes),
        mfa: {__MODULE__, function, arguments}
      },
      fields
    )
  end

  @doc "A request to run such a config."
  def remote_request(fields \\ []),
    do: struct!(%Request{request_id: "r1", request_type: "t", service: "remote"}, fields)

  @doc "The choose_node_mode that tries nodes in this order."
  def in_order(nodes), do: {__MODULE__, :choose, [fn _nodes, _request -> nodes end]}

  def run(fun) when is_function(fun, 0), do: fun.()
  def run(argument, fun) when is_function(fun, 1), do: fun.(argument)
  def run(fun, request) when is_function(fun, 1), do: fun.(request)
  def run(argument, fun, request) when is_function(fun, 2), do: fun.(argument, request)

  def before(request, config, fun), do: fun.(request, config)
  def finished(request, config, response, fun), do: fun.(request, config, response)
  def permit(request, fun), do: fun.(request)
  def choose(nodes, request, fun), do: fun.(nodes, request)

  def node_name, do: node()
  def first_node(nodes, _request), do: hd(nodes)

  def listing(service),
    do:
      {:ok,
       [
         %FunConfig{
           service: service,
           request_type: "pulled",
           nodes: [node()],
           mfa: {__MODULE__, :node_name, []}
         }
       ]}

  def callers, do: {node(), Process.get(:"$callers")}

  def linked(how) do
    pid = spawn_link(fn -> Process.sleep(:infinity) end)
    if how == :returned, do: [pid], else: exit({:linked, pid})
  end

  def log_metadata(pid) do
    {gl, metadata} = Logger.metadata() |> Map.new() |> Map.pop(:gl, Process.group_leader())
    send(pid, {:metadata, node(), metadata, gl})
    :told
  end

  def hang, do: Process.sleep(:infinity)
  def node_and(value), do: [node(), value]

  def tell_and_fail(pid) do
    send(pid, {:failed, node()})
    {:error, :failed}
  end

  def crash(:raise), do: raise("database password is hunter2")
  def crash(:error), do: :erlang.error({:odd, "hunter2"})
  def crash(:exit), do: exit({:gone, "hunter2"})
  def crash(:normal), do: exit(:normal)
  def crash(:throw), do: throw("hunter2")
  def crash(:kill), do: Process.exit(self(), :kill)
  def crash(:result), do: {:error, "hunter2"}
  def crash(:malformed), do: {:error, "hunter2", :more}

  @doc "Says where it runs, then waits to be told what to return."
  def wait_for(pid) do
    send(pid, {:running, self(), node()})

    receive do
      {:return, value} -> value
    end
  end

  def told_late(_request, pid), do: wait_for(pid)

  def told(_request, answer, pid) do
    send(pid, {:asked, node()})
    answer
  end

  @doc "What is left for a request, here and in a task."
  def remaining(%Request{} = request) do
    ask = fn -> Request.remaining_ms(request) end
    [node(), ask.(), Task.await(Task.async(ask), :infinity)]
  end

  def permit_while_time(request, pid) do
    send(pid, {:left, node(), Request.remaining_ms(request)})
    true
  end

  @doc "Makes a request of its own: what that is answered with, in the form of a result."
  def ask(config, fields \\ []) do
    response = Executor.execute_with_config!(request(fields), config)
    [node(), response.result, response.error]
  end

  @doc "Lets no process of this node run for so many ms, but those that `pid` hears of."
  def occupy(pid, ms) do
    deadline = System.monotonic_time(:millisecond) + ms

    for _scheduler <- 1..(2 * System.schedulers_online()) do
      spawn(fn ->
        Process.flag(:priority, :max)
        send(pid, {:occupied, node()})
        spin(deadline)
      end)
    end
  end

  defp spin(deadline), do: if(System.monotonic_time(:millisecond) < deadline, do: spin(deadline))

  @doc "A handler for `:logger` that tells a process what the node's default handler would write."
  def log(%{msg: {:string, text}, meta: %{gl: leader}}, %{config: pid}) do
    if node(leader) == node(),
      do: send(pid, {:logged, node(), IO.chardata_to_string(text)})
  end

  def log(_other, _config), do: :ok
end
