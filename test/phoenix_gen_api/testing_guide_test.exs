# The tests that the guide shows are tests of this suite.
for %{not_run: "testing_guide_test.exs runs it", code: code, line: line} <-
      PhoenixGenApi.DocBlocks.blocks(File.read!("guides/testing.md")) do
  Code.compile_string(code, "guides/testing.md:#{line}")
end

defmodule PhoenixGenApi.TestingGuideTest do
  use ExUnit.Case, async: true

  test "the tests of the guide are part of this suite" do
    for module <- [Shop.CatalogTest, Shop.StockTest, Shop.HttpTest] do
      assert Code.ensure_loaded?(module)
      assert module.__ex_unit__().tests != []
    end
  end
end
