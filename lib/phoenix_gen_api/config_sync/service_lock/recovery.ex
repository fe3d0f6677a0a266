defmodule PhoenixGenApi.ConfigSync.ServiceLock.Recovery do
  @moduledoc false
  # A service's turn for who changes what was pushed. That takes two steps, of which the table
  # of configs is the first and the register the second. Who is killed in between leaves a mark,
  # and the functions are made to follow the register again: at once, or by the next who has
  # the turn.

  alias PhoenixGenApi.ConfigPuller.Store
  alias PhoenixGenApi.ConfigSync.{Installer, PushStore, ServiceLock}

  @doc "As `PhoenixGenApi.ConfigSync.ServiceLock.run/2`."
  @spec run(String.t(), (-> result)) :: result | {:error, :not_running} when result: term()
  def run(service, fun) do
    ServiceLock.run(service, fn ->
      if PushStore.unsettled?(service), do: mend(service)
      fun.()
    end)
  end

  @doc "What is to be done when the process that had the turn was killed."
  @spec mend_later(String.t()) :: pid()
  def mend_later(service), do: spawn(__MODULE__, :run, [service, fn -> :ok end])

  defp mend(service) do
    with %{applied: %{digest: digest}} <- PushStore.entry(service),
         {:ok, content} <- PushStore.content(service, digest) do
      content |> PushStore.unpack() |> Installer.store(node())
    else
      _nothing_was_pushed -> start_over(service)
    end

    PushStore.settled(service)
  end

  # What was pulled before is no longer known, and no reason to have nothing until it is again.
  defp start_over(service) do
    case Store.fetch(service) do
      {:ok, %{registered_by: :operator}} -> Installer.pull_anew(service)
      _not_pulled -> Installer.remove(service)
    end
  end
end
