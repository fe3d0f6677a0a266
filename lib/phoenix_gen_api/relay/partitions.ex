defmodule PhoenixGenApi.Relay.Partitions do
  @moduledoc false
  # A server of which a fixed number of processes run, each with a number and the same name on
  # every gateway. `use PhoenixGenApi.Relay.Partitions, count: 8` defines in the module of the server,
  # which is started with its number:
  #
  #   * `count/0`, and `names/0` and `children/0` for the supervisor
  #   * `name/1` of a number, and `number/1` of a term: which of them cares for it

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

      @doc "The processes."
      @spec children() :: [Supervisor.child_spec()]
      def children do
        for n <- 0..(unquote(count) - 1),
            do: Supervisor.child_spec({__MODULE__, n}, id: {__MODULE__, n})
      end

      @doc false
      def start_link(n), do: GenServer.start_link(__MODULE__, n, name: name(n))

      @doc "The registered name of one."
      @spec name(non_neg_integer()) :: atom()
      def name(n), do: elem(@partition_name_tuple, n)

      @doc "Which of them cares for that."
      @spec number(term()) :: non_neg_integer()
      def number(key), do: :erlang.phash2(key, unquote(count))
    end
  end
end
