defmodule PhoenixGenApi.ArgumentGenerator.Chance do
  @moduledoc false
  # Dice, thrown with the seed of the process.

  def int(low, high), do: low + :rand.uniform(high - low + 1) - 1
  def chance(one_in), do: :rand.uniform(one_in) == 1
  def pick(list), do: Enum.at(list, :rand.uniform(length(list)) - 1)

  # One option, or none.
  def some(one_in, key, value), do: if(chance(one_in), do: [{key, value.()}], else: [])
end
