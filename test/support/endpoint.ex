defmodule PhoenixGenApi.Test.Endpoint do
  @moduledoc false
  # What the doctor reads of an endpoint, as `use Phoenix.Endpoint` and `use Phoenix.Socket` write it. The
  # modules are compiled to files, which it reads too.

  defmodule Channel do
    @moduledoc false
    use PhoenixGenApi, event: "api"
  end

  defmodule Socket do
    @moduledoc false
    def __channel__("api:" <> _rest), do: {Channel, []}
    def __channel__("other:" <> _rest), do: {String, []}
    def __channel__(_topic), do: nil
  end

  # Of another library, which is none of our business.
  defmodule Foreign do
    @moduledoc false
    def __channel__("room:" <> _rest), do: {String, []}
    def __channel__(_topic), do: nil
  end

  def __sockets__ do
    [
      {"/bare", Socket, [websocket: true, longpoll: false]},
      {"/good", Socket,
       [websocket: [connect_info: [:peer_data, session: []], max_frame_size: 5]]},
      {"/poll", Socket, [websocket: false, longpoll: true]},
      {"/foreign", Foreign, []}
    ]
  end
end
