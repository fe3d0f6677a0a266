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

  @doc """
  Builds the exception from a message, from `request:` and `mode:`, or from its own fields.

      iex> alias PhoenixGenApi.Permission.PermissionDenied
      iex> PermissionDenied.exception("not today").message
      "not today"
      iex> PermissionDenied.exception(user_id: "ann", permission_mode: :any_authenticated).message
      "Permission denied for user: ann, request: nil, type: nil, mode: :any_authenticated"
  """
  @impl true
  def exception(message) when is_binary(message), do: %__MODULE__{message: message}

  def exception(request: request, mode: mode) do
    exception(
      user_id: request.user_id,
      request_id: request.request_id,
      request_type: request.request_type,
      permission_mode: mode
    )
  end

  def exception(fields) do
    exception = struct!(__MODULE__, fields)
    %{exception | message: exception.message || message_of(exception)}
  end

  defp message_of(exception) do
    "Permission denied for user: #{shown(exception.user_id)}, request: " <>
      "#{shown(exception.request_id)}, type: #{shown(exception.request_type)}, " <>
      "mode: #{SafeInspect.inspect(exception.permission_mode)}"
  end

  defp shown(text) when is_binary(text) do
    if String.printable?(text), do: SafeInspect.truncate(text), else: SafeInspect.inspect(text)
  end

  defp shown(other), do: SafeInspect.inspect(other)
end
