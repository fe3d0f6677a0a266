defmodule PhoenixGenApi.Structs.StreamHelper do
  @moduledoc """
  The handle with which a function feeds its stream.

  A function with `response_type: :stream` and `request_info: true` gets one as its last argument:

      def countdown(n, %StreamHelper{} = stream) do
        for i <- n..1//-1, do: StreamHelper.send_result(stream, i)
        StreamHelper.send_last_result(stream, 0)
      end

  | Field | Content |
  |---|---|
  | `stream_pid` | process on the gateway that relays the stream |
  | `request_id` | id of the request, repeated in every frame |
  | `user_id`, `device_id` | those of the request |
  | `request` | the full `%PhoenixGenApi.Structs.Request{}` |
  | `credit` | how many items each process may have on the way to the receiver; nil: any number |

  The first two suffice. Every function here returns `:ok`, from any process on any connected
  node, also after the stream has ended (nothing then reaches the client). What one process
  sends arrives in the order sent; the stream ends with the first of `send_last_result/2`,
  `send_complete/1` and `send_error/2`.

  ## Back-pressure

  `send_result/2` waits when its process is too far ahead: after every
  `config :phoenix_gen_api, :stream, max_unacked: 64` items, until they have been handed to the
  receiver and not more than 1,000 messages wait for that. It puts nothing into the mailbox of
  its process. Never made to wait are the receiver itself and the process that made the request,
  whose waiting would be for themselves, and helpers without `credit`.
  """

  alias PhoenixGenApi.RPC
  alias PhoenixGenApi.Structs.Request

  @type t :: %__MODULE__{
          stream_pid: pid() | nil,
          request_id: String.t() | nil,
          user_id: String.t() | nil,
          device_id: String.t() | nil,
          request: Request.t() | nil,
          credit: tuple() | nil
        }

  defstruct [:stream_pid, :request_id, :user_id, :device_id, :request, :credit]

  @doc """
  Sends one item. The client gets a frame with `has_more` true.

  Waits while the receiver is slow, see above.
  """
  @spec send_result(t(), term()) :: :ok
  # Only of the process that gave the credit can an answer be expected: whoever puts another pid
  # in its place, to look at the items on their way, need not know of it.
  def send_result(
        %__MODULE__{stream_pid: pid, credit: {pid, _max, _node, _count} = credit},
        result
      )
      when is_pid(pid) do
    RPC.Credit.send_item(credit, result)
    :ok
  end

  def send_result(%__MODULE__{} = stream, result), do: tell(stream, {:result, result})

  @doc "Sends the last item. The client gets a frame with `has_more` false and the stream ends."
  @spec send_last_result(t(), term()) :: :ok
  def send_last_result(%__MODULE__{} = stream, result), do: tell(stream, {:last_result, result})

  @doc "Ends the stream without another item. The client gets the end frame."
  @spec send_complete(t()) :: :ok
  def send_complete(%__MODULE__{} = stream), do: tell(stream, :complete)

  @doc """
  Ends the stream with an error frame.

  The client reads `Internal Server Error`, and the reason only with `detail_error: true`. To
  choose the client's text, give a `%PhoenixGenApi.Structs.Response{}` made by
  `PhoenixGenApi.Structs.Response.error_response/2`.
  """
  @spec send_error(t(), term()) :: :ok
  def send_error(%__MODULE__{} = stream, error), do: tell(stream, {:error, error})

  defp tell(%__MODULE__{stream_pid: pid}, message) when is_pid(pid) do
    send(pid, message)
    :ok
  end
end
