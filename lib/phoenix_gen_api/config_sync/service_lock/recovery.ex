defmodule PhoenixGenApi.ConfigSync.ServiceLock.Recovery do
  @moduledoc false
  # The lock of a service for whoever changes what was pushed. That takes two steps: first the
  # table of configs, then the version vector. A holder that is killed in between leaves a dirty
  # mark, and the functions are made to follow the vector again: at once, or by the next holder.

  alias PhoenixGenApi.ConfigPuller.Store
  alias PhoenixGenApi.ConfigSync.{Installer, PushStore, ServiceLock}

  @doc "As `PhoenixGenApi.ConfigSync.ServiceLock.run/2`."
  @spec run(String.t(), (-> result)) :: result | {:error, :not_running} when result: term()
  def run(service, fun) do
    ServiceLock.run(service, fn ->
      if PushStore.dirty?(service), do: repair(service)
      fun.()
    end)
  end

  @doc "What is to be done when the holder of the lock was killed."
  @spec repair_later(String.t()) :: pid()
  def repair_later(service), do: spawn(__MODULE__, :run, [service, fn -> :ok end])

  defp repair(service) do
    with %{applied: %{digest: digest}} <- PushStore.entry(service),
         {:ok, content} <- PushStore.content(service, digest) do
      content |> PushStore.unpack() |> Installer.store(node(), :accepted_before)
    else
      _nothing_was_pushed -> start_over(service)
    end

    PushStore.clear_dirty(service)
  end

  # What was pulled before is no longer known, and no reason to have nothing until it is again.
  defp start_over(service) do
    case Store.fetch(service) do
      {:ok, %{registered_by: :operator}} -> Installer.repull(service)
      _not_pulled -> Installer.remove(service)
    end
  end
end
