defmodule PhoenixGenApi.Test.Vectors do
  @moduledoc false
  # The wire vectors, and the functions that they are about.

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Structs.{FunConfig, StreamHelper}

  @path "clients/vectors/requests.json"

  def all do
    @path |> File.read!() |> JSON.decode!() |> Map.fetch!("vectors")
  end

  @doc "Registers the functions, on this node."
  def register do
    books = for config <- Books.Directory.list(), do: %{config | nodes: :local}
    :ok = ConfigDb.batch_add(books ++ own()) |> elem(0)
  end

  defp own do
    isbn = %{"isbn" => :string}

    [
      book("off", {String, :upcase, ["x"]}, disabled: true),
      book("note", {String, :upcase, []}, arg_types: isbn, response_type: :none),
      book("slow", {Process, :sleep, [:infinity]}),
      book("lost", {String, :upcase, []}, arg_types: isbn, nodes: [:vectors@nowhere]),
      book("torn", {__MODULE__, :torn, []}, response_type: :stream, request_info: true),
      %{book("up", {String, :upcase, []}, arg_types: %{"text" => {:string, 5}}) | service: "util"}
    ]
  end

  defp book(type, mfa, fields \\ []) do
    config = %FunConfig{service: "books", request_type: type, nodes: :local, mfa: mfa}
    struct!(config, fields)
  end

  def torn(%StreamHelper{} = out) do
    StreamHelper.send_result(out, 1)
    StreamHelper.send_error(out, :torn)
  end

  @doc "Those fields of a response that a vector names."
  def named(response, expected), do: Map.take(response, Map.keys(expected))
end
