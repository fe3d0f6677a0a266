defmodule PhoenixGenApi.Http.Page do
  @moduledoc false
  # What `GET` answers.

  alias PhoenixGenApi.Http.{Answer, Call, Options}

  @type t :: :openapi

  @doc "The page at a path; nil if none can be there."
  @spec find([String.t()], Options.t()) :: t() | nil
  def find(["openapi.json"], _options), do: :openapi
  def find(_path, _options), do: nil

  @doc "The page for an identity; nil if they may not see it."
  @spec answer(t(), Call.t()) :: Answer.t() | nil
  def answer(:openapi, _call), do: nil
end
