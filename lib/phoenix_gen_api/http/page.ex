defmodule PhoenixGenApi.Http.Page do
  @moduledoc false
  # What `GET` answers: the console, what it shows, and the OpenAPI document.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Http.{Answer, Call, Console, Options}
  alias PhoenixGenApi.Structs.Request

  @type t :: :console | :description | :openapi

  @doc "The page at a path; nil if none can be there."
  @spec find([String.t()], Options.t()) :: t() | nil
  def find([], %{console: true}), do: :console
  def find(["console.json"], %{console: true}), do: :description
  def find(["openapi.json"], _options), do: :openapi
  def find(_path, _options), do: nil

  @doc "The page for whoever has made the call; nil if they may not see it."
  @spec answer(t(), Call.t()) :: Answer.t() | nil
  def answer(:console, call) do
    {page, headers} = Console.page()
    Answer.full(200, Call.header_id(call), page, headers, "text/html; charset=utf-8")
  end

  def answer(:description, %{identity: identity, options: options} = call) do
    json(call, %{
      # On a server for development one may become anybody, and looks for what nobody may call yet.
      "contract" => Contract.describe(if(options.local, do: of(call), else: visible(call))),
      "identity" => %{"user_id" => identity.user_id, "user_roles" => identity.user_roles || []},
      "editable" => options.local
    })
  end

  def answer(:openapi, %{options: options} = call) do
    if describable?(Config.get(:describe), call.identity) do
      told = [as: as(call), public: options.public, statuses: options.statuses]
      json(call, Contract.openapi(told ++ of(call)))
    end
  end

  defp describable?(:public, _identity), do: true
  defp describable?(:any_authenticated, identity), do: identity.user_id != nil
  defp describable?(false, _identity), do: false

  defp visible(call), do: [as: as(call), visible: true] ++ of(call)

  defp of(%{options: %{services: nil}}), do: []
  defp of(%{options: %{services: services}}), do: [service: services]

  defp as(%{identity: identity}),
    do: %Request{user_id: identity.user_id, user_roles: identity.user_roles}

  defp json(call, document),
    do: Answer.full(200, Call.header_id(call), Answer.encode(document, call.library), [])
end
