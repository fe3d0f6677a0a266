defmodule PhoenixGenApi.Permission.PermissionDenied do
  @moduledoc """
  Raised by the bang functions of `PhoenixGenApi.Permission`.

  Its fields are `message`, `user_id`, `request_id`, `request_type` and `permission_mode`; clients
  see only `Permission denied`.
  """

  alias PhoenixGenApi.SafeInspect

  @type t :: %__MODULE__{
          message: String.t(),
          user_id: String.t() | nil,
          request_id: String.t() | nil,
          request_type: String.t() | nil,
          permission_mode: term()
        }

  defexception [:message, :user_id, :request_id, :request_type, :permission_mode]

  @doc "Builds the exception from `request:` and `mode:`."
  @impl true
  def exception(request: request, mode: mode) do
    message =
      "Permission denied for user: #{shown(request.user_id)}, request: " <>
        "#{shown(request.request_id)}, type: #{shown(request.request_type)}, " <>
        "mode: #{SafeInspect.inspect(mode)}"

    %__MODULE__{
      message: message,
      user_id: request.user_id,
      request_id: request.request_id,
      request_type: request.request_type,
      permission_mode: mode
    }
  end

  defp shown(text) when is_binary(text) do
    if String.printable?(text), do: SafeInspect.truncate(text), else: SafeInspect.inspect(text)
  end

  defp shown(other), do: SafeInspect.inspect(other)
end
