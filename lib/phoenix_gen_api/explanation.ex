defmodule PhoenixGenApi.Explanation do
  @moduledoc false
  # What a stage of the pipeline would do with a request, and why. Every stage has an `explain`
  # beside its code that returns one and changes nothing; `PhoenixGenApi.Executor.Preview` asks
  # them in the order of the pipeline, and diagnostics show what they say.

  alias PhoenixGenApi.Format

  @typedoc """
  `desc` is what the config asks for. `:passes` and `:refuses` are said of one request, `:unknown`
  where code of the user's decides, `:none` where the config asks for nothing or there is no
  request. `because` is what there is to say of the request. A `failure` is one of
  `PhoenixGenApi.ErrorResponse`, or the text that the client gets. A stage may add what it knows.
  """
  @type t :: %{
          required(:desc) => String.t(),
          required(:decision) => :passes | :refuses | :unknown | :none,
          required(:because) => String.t() | nil,
          required(:failure) => term(),
          optional(atom()) => term()
        }

  @spec none(String.t()) :: t()
  def none(desc), do: build(desc, :none, nil, nil)

  @spec passes(String.t(), String.t() | nil) :: t()
  def passes(desc, because \\ nil), do: build(desc, :passes, because, nil)

  @doc "A function of the user's decides."
  @spec unknown(String.t(), tuple()) :: t()
  def unknown(desc, mfa),
    do: build(desc, :unknown, "#{Format.function(mfa)} is not run here", nil)

  @spec refuses(String.t(), term(), String.t() | nil) :: t()
  def refuses(desc, failure, because), do: build(desc, :refuses, because, failure)

  defp build(desc, decision, because, failure),
    do: %{desc: desc, decision: decision, because: because, failure: failure}
end
