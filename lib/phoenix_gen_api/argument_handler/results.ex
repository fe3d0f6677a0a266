defmodule PhoenixGenApi.ArgumentHandler.Results do
  @moduledoc false
  # Results against the type that a function declares for them, in the form that JSON gives them.
  #
  # The native side looks at the term itself. What an encoder makes of a struct it cannot know, except for
  # dates: so what it refuses is encoded and decoded, and that decides.

  import PhoenixGenApi.Plan, only: [plan: 1]

  alias PhoenixGenApi.ArgumentHandler.Problems
  alias PhoenixGenApi.JsonEncoding
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Plan
  alias PhoenixGenApi.Structs.Response

  # The limits of arguments are none of results.
  @of_arguments ["max_depth", "max_nodes"]

  @doc """
  `:ok`, or what is wrong with a result, as with arguments. Of what has no JSON nothing is said here, nor where
  the type is not known.
  """
  @spec check(Plan.t(), term()) :: :ok | {:error, [Problems.problem(), ...]}
  def check(plan(handle: handle), result) do
    args = %{"result" => result}

    valid? =
      with :out_of_budget <- Native.argument_handler_check_result(handle, args),
           do: Native.argument_handler_check_result_dirty(handle, args)

    if valid?, do: :ok, else: check_json(handle, result)
  end

  defp check_json(handle, result) do
    with {:ok, _bytes} <- JsonEncoding.measure(result, :configured, :infinity),
         # As it is sent: inside a response more structs have a form than the library knows.
         json when json != nil <-
           JsonEncoding.encode(Response.sync_response(nil, result), :configured),
         {:ok, %{"result" => decoded}} <- json |> IO.iodata_to_binary() |> JSON.decode(),
         [_ | _] = problems <- problems(handle, decoded) do
      {:error, problems}
    else
      _right_or_no_json -> :ok
    end
  end

  defp problems(handle, decoded) do
    handle
    |> Native.argument_handler_result_problems(%{"result" => decoded})
    |> Problems.describe()
    |> Enum.reject(&(&1["rule"] in @of_arguments))
  end
end
