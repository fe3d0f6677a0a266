defmodule PhoenixGenApi.ConfigDbDocTest do
  use ExUnit.Case, async: true
  doctest PhoenixGenApi.ConfigDb
  doctest PhoenixGenApi.ArgumentHandler
  doctest PhoenixGenApi.Structs.FunConfig
end
