defmodule PhoenixGenApi.Http.Call do
  @moduledoc false
  # One request for a function, as far as HTTP knows it, and what its results look like.

  alias PhoenixGenApi.Executor
  alias PhoenixGenApi.Http.{Answer, Headers, Options}
  alias PhoenixGenApi.Identity
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Structs.Response

  @enforce_keys [:options, :id, :identity, :library]
  defstruct @enforce_keys ++
              [:service, :request_type, headers: []]

  @type t :: %__MODULE__{
          options: Options.t(),
          # `:invalid` if the client's cannot be sent back
          id: String.t() | :invalid,
          service: String.t() | nil,
          request_type: String.t() | nil,
          identity: Identity.t(),
          headers: Headers.t(),
          library: module()
        }

  @type found :: {:ok, Plan.t()} | {:error, term()}

  @doc "The id for the header of an answer."
  @spec header_id(t()) :: String.t() | nil
  def header_id(%{id: id}), do: if(is_binary(id), do: id)

  @doc "How the executor runs the request of a call in the calling process."
  @spec client(t(), found(), function()) :: Executor.Client.t()
  def client(call, found, claim) do
    %Executor.Client{
      receiver: self(),
      # No client can name one.
      device: :verified,
      json_library: call.library,
      found: found,
      claim: claim
    }
  end

  @doc "The answer that a result of the executor is."
  @spec answer(t(), Executor.result()) :: Answer.t()
  def answer(call, result), do: Answer.of(result, call.id, call.options, call.library)

  @doc "Whether frames are sent as events or as lines."
  @spec format(t()) :: :events | :lines
  def format(%{headers: headers}),
    do: if(Headers.event_stream?(headers), do: :events, else: :lines)

  @doc "A response in place of a frame of a stream, as bytes."
  @spec frame(:events | :lines, Response.t(), pos_integer() | nil, module()) :: binary()
  def frame(:lines, response, _number, library),
    do: IO.iodata_to_binary([one_line(response, library), ?\n])

  def frame(:events, %{success: success} = response, number, library) do
    IO.iodata_to_binary([
      if(number, do: ["id: ", Integer.to_string(number), ?\n], else: []),
      if(success, do: [], else: "event: error\n"),
      ["data: ", one_line(response, library), "\n\n"]
    ])
  end

  # Libraries put no newline into JSON, but encoders of the application's may.
  defp one_line(response, library) do
    json = response |> Answer.encode(library) |> IO.iodata_to_binary()

    if String.contains?(json, ["\n", "\r"]),
      do: String.replace(json, ["\n", "\r"], " "),
      else: json
  end
end
