# A stand-in for the Telemetry.Metrics library: the definitions that reporters read, with the
# same checks. The real one wins whenever it is there.
if match?({:error, _}, :code.lib_dir(:telemetry_metrics)) do
  defmodule Telemetry.Metrics do
    @moduledoc false

    for kind <- [Counter, Sum, LastValue, Summary, Distribution] do
      defmodule Module.concat(__MODULE__, kind) do
        @moduledoc false
        defstruct [
          :name,
          :event_name,
          :measurement,
          :tags,
          :tag_values,
          :keep,
          :description,
          :unit,
          :reporter_options
        ]
      end
    end

    def counter(name, options \\ []), do: define(__MODULE__.Counter, name, options)
    def sum(name, options \\ []), do: define(__MODULE__.Sum, name, options)
    def last_value(name, options \\ []), do: define(__MODULE__.LastValue, name, options)
    def summary(name, options \\ []), do: define(__MODULE__.Summary, name, options)
    def distribution(name, options \\ []), do: define(__MODULE__.Distribution, name, options)

    defp define(kind, name, options) do
      true = is_list(name) and Enum.all?(name, &is_atom/1)
      {event, [measurement]} = Enum.split(name, -1)

      options =
        Keyword.validate!(options,
          event_name: event,
          measurement: measurement,
          tags: [],
          tag_values: &Function.identity/1,
          keep: nil,
          description: nil,
          unit: :unit,
          reporter_options: []
        )

      true = is_list(options[:tags]) and is_function(options[:tag_values], 1)
      true = Keyword.keyword?(options[:reporter_options])
      {unit, measurement} = convert(options[:unit], options[:measurement])
      struct!(kind, [name: name] ++ Keyword.merge(options, unit: unit, measurement: measurement))
    end

    defp convert({from, to}, measurement) do
      ratio = 1 / System.convert_time_unit(1, to, from)
      {to, fn measurements -> measurements[measurement] * ratio end}
    end

    defp convert(unit, measurement) when is_atom(unit), do: {unit, measurement}
  end
end
