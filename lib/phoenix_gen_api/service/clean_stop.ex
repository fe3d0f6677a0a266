defmodule PhoenixGenApi.Service.CleanStop do
  @moduledoc false
  # The clean stop of what is pushed: the last child of a `PhoenixGenApi.ConfigPusher`, and so the first one that
  # is stopped. A gateway goes on choosing this node, is told that the call has not begun, and takes another.
  use GenServer

  alias PhoenixGenApi.Service.{Drain, Offer}

  @doc false
  def child_spec(opts) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [opts]},
      shutdown: Offer.shutdown_ms(opts[:drain_ms])
    }
  end

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, opts)

  @impl true
  def init(opts) do
    Process.flag(:trap_exit, true)
    Drain.open(opts[:functions])
    {:ok, opts}
  end

  @impl true
  def terminate(_reason, opts), do: Drain.run(opts[:functions], nil, [], opts[:drain_ms])
end
