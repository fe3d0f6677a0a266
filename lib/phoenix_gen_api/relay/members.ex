defmodule PhoenixGenApi.Relay.Members do
  @moduledoc false
  # The members of a group as Elixir sees them, read a page at a time: no page holds the lock of
  # a group for long.

  alias PhoenixGenApi.Native

  @page 1_000
  @admin MapSet.new([:admin])
  @member MapSet.new([:member])

  @spec all(reference(), String.t()) ::
          {:ok, PhoenixGenApi.Relay.group_type(), [{String.t(), map()}]} | {:error, atom()}
  def all(relay, id), do: pages(relay, id, 0, [])

  defp pages(relay, id, start, before) do
    case Native.relay_page(relay, id, start, @page) do
      {type, rows, nil} -> {:ok, type, members(rows, before)}
      {_type, rows, next} -> pages(relay, id, next, members(rows, before))
      reason -> {:error, reason}
    end
  end

  defp members(rows, before) do
    Enum.reduce(rows, before, fn {user, status, admin?, joined_ms, devices}, members ->
      member = %{
        roles: if(admin?, do: @admin, else: @member),
        status: status,
        joined_at: DateTime.from_unix!(joined_ms, :millisecond),
        devices: devices
      }

      [{user, member} | members]
    end)
  end
end
