defmodule PhoenixGenApi.RPC.ReturnValue do
  @moduledoc false
  # What the return value of a stream's function means, as long as nothing was sent.

  alias PhoenixGenApi.Structs.Response

  @type t ::
          :enumerate
          # the helper is expected to send
          | :open
          | {:last, term()}
          | {:response, Response.t()}
          | {:failed, term()}

  @doc "What a return value means, and the enumerable if it is one."
  @spec classify(term(), boolean()) :: {t(), term()}
  def classify({:ok, value}, helper?), do: classify_value(value, helper?)
  def classify({:error, reason}, _helper?), do: {{:failed, {:error_result, reason}}, nil}
  def classify(:error, _helper?), do: {{:failed, {:error_result, :error}}, nil}
  def classify(value, helper?), do: classify_value(value, helper?)

  defp classify_value(%Response{} = response, helper?)
       when not helper? or response.success == false,
       do: {{:response, response}, nil}

  defp classify_value(value, helper?) do
    cond do
      enumerable?(value) -> {:enumerate, value}
      helper? -> {:open, nil}
      is_tuple(value) -> {{:failed, {:unexpected, value}}, nil}
      true -> {{:last, value}, nil}
    end
  end

  # Plain maps are values.
  defp enumerable?(value) when is_list(value) or is_function(value, 2), do: true
  defp enumerable?(%Response{}), do: false
  defp enumerable?(value), do: is_struct(value) and Enumerable.impl_for(value) != nil

  @doc "Whether the gateway can enumerate it in place of the node where it was made."
  @spec portable?(term()) :: boolean()
  def portable?(value), do: is_list(value) or is_struct(value, Range) or is_struct(value, MapSet)
end
