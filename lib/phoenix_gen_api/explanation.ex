defmodule PhoenixGenApi.Explanation do
  @moduledoc false
  # A pipeline stage's account of what it would do with a request, and why. Every stage has an
  # `explain` function beside its code that builds one without changing anything.
  # `PhoenixGenApi.Executor.Preview` calls them in pipeline order; diagnostics display the result.

  alias PhoenixGenApi.Format

  @typedoc """
  `desc` describes what the config asks for, `because` what is known about the request. The
  decision is `:unknown` where user code decides, and `:none` where the config asks for nothing or
  there is no request. A `failure` is a failure of `PhoenixGenApi.ErrorResponse` or the text sent to
  the client. A stage may add keys of its own.
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

  @doc "User code decides, and is not run."
  @spec unknown(String.t(), tuple()) :: t()
  def unknown(desc, mfa),
    do: build(desc, :unknown, "#{Format.function(mfa)} is not run here", nil)

  @spec refuses(String.t(), term(), String.t() | nil) :: t()
  def refuses(desc, failure, because), do: build(desc, :refuses, because, failure)

  defp build(desc, decision, because, failure),
    do: %{desc: desc, decision: decision, because: because, failure: failure}
end
