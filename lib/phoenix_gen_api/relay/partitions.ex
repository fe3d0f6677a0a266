defmodule PhoenixGenApi.Relay.Partitions do
  @moduledoc false
  # A server of which a fixed number of processes run, each with a number and the same name on
  # every gateway. `use PhoenixGenApi.Relay.Partitions, count: 8` defines in the module that names them:
  #
  #   * `count/0` and `names/0`
  #   * `name/1` of a number, and `number/1` of a term: which of them cares for it

  @doc "The processes, for their supervisor: `server` is started with each number."
  @spec children(module(), pos_integer()) :: [Supervisor.child_spec()]
  def children(server, count),
    do: for(n <- 0..(count - 1), do: Supervisor.child_spec({server, n}, id: {server, n}))

  defmacro __using__(count: count) do
    quote do
      @partition_names for n <- 0..(unquote(count) - 1), do: Module.concat(__MODULE__, "N#{n}")
      # A constant: no name is put together at run time.
      @partition_name_tuple List.to_tuple(@partition_names)

      @spec count() :: pos_integer()
      def count, do: unquote(count)

      @doc "Their registered names."
      @spec names() :: [atom()]
      def names, do: @partition_names

      @doc "The registered name of one."
      @spec name(non_neg_integer()) :: atom()
      def name(n), do: elem(@partition_name_tuple, n)

      @doc "Which of them cares for that."
      @spec number(term()) :: non_neg_integer()
      def number(key), do: :erlang.phash2(key, unquote(count))
    end
  end
end
