defmodule PhoenixGenApi.ArgumentDifferentialTest do
  # The library against its oracle on random declarations and arguments. A failure
  # prints the seed; GEN_API_SEED=<seed> runs the same pairs again.
  use ExUnit.Case, async: true

  alias PhoenixGenApi.{ArgumentComparison, ArgumentGenerator, ArgumentModel}

  @declarations 4_000
  @args_per_declaration 25

  # Each declaration has its own seed, so that a failure does not need the ones before.
  defp seeds(salt) do
    first =
      case System.get_env("GEN_API_SEED") do
        nil -> ExUnit.configuration()[:seed]
        given -> String.to_integer(given)
      end

    for index <- 1..@declarations, do: {first, :erlang.phash2({first, salt, index}, 0x100000000)}
  end

  @tag timeout: 300_000
  test "converts 100,000 pairs of declaration and arguments as the oracle does" do
    outcomes =
      for {first, seed} <- seeds(:args), reduce: %{} do
        outcomes ->
          ArgumentGenerator.seed(seed)
          %{arg_types: types, arg_orders: orders} = made = ArgumentGenerator.declaration()
          assert {:ok, canonical} = ArgumentModel.validate_types(types, orders)
          config = ArgumentComparison.config(types, orders)

          for _ <- 1..@args_per_declaration, reduce: outcomes do
            outcomes ->
              args = ArgumentGenerator.args(made)

              if ArgumentComparison.conversion(canonical, config, args) do
                flunk(
                  "GEN_API_SEED=#{first}\n\n" <> ArgumentComparison.report(types, orders, args)
                )
              end

              Map.update(outcomes, outcome(canonical, args), 1, &(&1 + 1))
          end
      end

    # The comparison is worth something only while both answers are common.
    total = outcomes |> Map.values() |> Enum.sum()
    assert total == @declarations * @args_per_declaration
    assert outcomes[:ok] > total / 4
    assert outcomes[ArgumentError] > total / 10
    assert outcomes[PhoenixGenApi.Errors.InvalidType] > total / 100
  end

  test "accepts and refuses declarations as the oracle does" do
    for {first, seed} <- seeds(:declarations) do
      ArgumentGenerator.seed(seed)
      made = ArgumentGenerator.declaration()

      for {types, orders} <- [{made.arg_types, made.arg_orders}, ArgumentGenerator.broken(made)] do
        case ArgumentComparison.declaration(types, orders) do
          nil ->
            :ok

          {expected, got} ->
            flunk("""
            GEN_API_SEED=#{first}

            arg_types:  #{inspect(types, limit: :infinity)}
            arg_orders: #{inspect(orders, limit: :infinity)}
            expected:   #{inspect(expected)}
            got:        #{inspect(got)}
            """)
        end
      end
    end
  end

  defp outcome(canonical, args) do
    case ArgumentModel.convert_canonical(canonical, "shop.buy", args) do
      {:ok, _converted} -> :ok
      {:error, module, _message} -> module
    end
  end
end
