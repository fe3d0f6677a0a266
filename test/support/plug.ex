# A stand-in for the part of Plug that `PhoenixGenApi.Plug` needs, with the same contract, for where no Hex
# package is installed: see phoenix_channel.ex.
if match?({:error, _}, :code.lib_dir(:plug)) do
  defmodule Plug.Conn do
    @moduledoc false
    # What the test server knows of a request is its adapter: `%{body: binary, owner: pid, closed_after: n}`.

    defmodule Unfetched do
      @moduledoc false
      defstruct [:aspect]
    end

    defstruct adapter: %{body: "", owner: nil},
              assigns: %{},
              body_params: %{__struct__: __MODULE__.Unfetched, aspect: :body_params},
              halted: false,
              method: "GET",
              path_info: [],
              query_string: "",
              remote_ip: {127, 0, 0, 1},
              req_headers: [],
              resp_body: nil,
              resp_headers: [{"cache-control", "max-age=0, private, must-revalidate"}],
              state: :unset,
              status: nil

    def read_body(%{adapter: %{body: {:error, _} = error}}, _options), do: error

    def read_body(%{adapter: %{body: body} = adapter} = conn, options) do
      length = Keyword.fetch!(options, :length)

      if byte_size(body) > length do
        <<part::binary-size(^length), rest::binary>> = body
        {:more, part, %{conn | adapter: %{adapter | body: rest}}}
      else
        {:ok, body, %{conn | adapter: %{adapter | body: ""}}}
      end
    end

    def merge_resp_headers(conn, headers) do
      merged =
        for {name, _} = header <- headers, reduce: conn.resp_headers do
          merged -> List.keystore(merged, name, 0, header)
        end

      %{conn | resp_headers: merged}
    end

    def halt(conn), do: %{conn | halted: true}

    def send_resp(%{state: :unset} = conn, status, body),
      do: %{conn | state: :sent, status: status, resp_body: IO.iodata_to_binary(body)}

    def send_chunked(%{state: :unset} = conn, status),
      do: %{conn | state: :chunked, status: status, resp_body: ""}

    def chunk(%{state: :chunked, adapter: %{closed?: true}}, _chunk), do: {:error, :closed}

    def chunk(%{state: :chunked, adapter: adapter} = conn, chunk) do
      send(adapter.owner, {:chunk, self(), chunk})

      receive do
        :written -> {:ok, conn}
        :closed -> {:error, :closed}
      end
    end
  end
end
