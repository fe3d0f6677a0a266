defmodule PhoenixGenApi do
  @moduledoc """
  Turns a Phoenix application into a dynamic API gateway for an Erlang cluster.
  """
end
