defmodule PhoenixGenApi.Test.LogLines do
  # What is logged of requests, as messages to a test, until it ends.

  import ExUnit.Assertions, only: [flunk: 1]

  @doc "Has the lines sent to the test."
  def forward do
    id = :"log_lines_#{System.unique_integer([:positive])}"
    :ok = :logger.add_handler(id, __MODULE__, %{config: self(), level: :all})
    ExUnit.Callbacks.on_exit(fn -> :logger.remove_handler(id) end)
  end

  @doc "What the calling process logs in a function, whatever others log meanwhile."
  def of_caller(fun) do
    id = :"log_lines_#{System.unique_integer([:positive])}"
    own = fn event, pid -> if event.meta.pid == pid, do: event, else: :stop end
    filters = [own: {own, self()}]
    :ok = :logger.add_handler(id, __MODULE__, %{config: self(), level: :all, filters: filters})
    fun.()
    :ok = :logger.remove_handler(id)
    here()
  end

  defp here do
    receive do
      {:logged, level, text, _meta} -> ["[#{level}] " <> text | here()]
    after
      0 -> []
    end
  end

  @doc false
  def log(%{level: level, msg: {:string, text}, meta: meta}, %{config: pid}),
    do: send(pid, {:logged, level, IO.chardata_to_string(text), meta})

  def log(_other, _config), do: :ok

  @doc "The first line about that request, once it is there."
  def first(id) do
    receive do
      {:logged, level, text, %{request_id: ^id} = meta} -> {level, text, meta}
    after
      30_000 -> flunk("nothing was logged of #{id}")
    end
  end

  @doc "The lines about that request that are there already."
  def others(id) do
    receive do
      {:logged, level, text, %{request_id: ^id} = meta} -> [{level, text, meta} | others(id)]
    after
      0 -> []
    end
  end
end
