defmodule PhoenixGenApi.Channel.Options do
  @moduledoc false
  # The options of `use PhoenixGenApi`, checked once where they are written.

  @defaults [
    event: "phoenix_gen_api",
    override_user_id: true,
    require_verified_user_id: false,
    trust_client_roles: false,
    deliver: :reply,
    concurrency: 1,
    max_pending: 100,
    max_running: 100,
    max_wait_ms: 10_000,
    relay: :auto,
    relay_event: nil,
    relay_request_id: true
  ]

  # Whether later results say which event they are for, see Delivery: where the module dispatches
  # events itself there may be several, while `use` serves one.
  defstruct @defaults ++ [marks_event: true]

  @type t :: %__MODULE__{
          event: String.t(),
          override_user_id: boolean(),
          require_verified_user_id: boolean(),
          trust_client_roles: boolean(),
          deliver: :reply | :push | :both,
          concurrency: pos_integer(),
          max_pending: non_neg_integer(),
          max_running: non_neg_integer(),
          max_wait_ms: pos_integer(),
          relay: :auto | :channel | :fastlane,
          # nil: that of requests
          relay_event: String.t() | nil,
          relay_request_id: boolean(),
          marks_event: boolean()
        }

  @doc "The event of relay messages."
  @spec relay_event(t()) :: String.t()
  def relay_event(options), do: options.relay_event || options.event

  @doc "The options as a struct; raises `ArgumentError` for unknown ones and bad values."
  @spec new!(t() | keyword()) :: t()
  def new!(%__MODULE__{} = options), do: options

  def new!(options) do
    case check(options, Keyword.keys(@defaults)) do
      {:ok, options} -> options
      {:error, sentence} -> raise ArgumentError, sentence
    end
  end

  @doc "Same for the options of a `use`, of which only `names` are known: a `CompileError` at its line."
  @spec compile!(term(), Macro.Env.t(), module(), [atom()]) :: t()
  def compile!(options, env, used, names \\ Keyword.keys(@defaults)) do
    case check(options, names) do
      {:ok, options} ->
        %{options | marks_event: false}

      {:error, sentence} ->
        raise CompileError,
          file: env.file,
          line: env.line,
          description: "use #{inspect(used)}: #{sentence}"
    end
  end

  defp check(options, names) do
    with true <- Keyword.keyword?(options),
         :ok <- each(options, names) do
      # Of a key given twice the first one counts, as everywhere in keyword lists.
      {:ok, struct!(__MODULE__, Enum.reverse(options))}
    else
      false -> {:error, "expected a keyword list of options, got #{inspect(options)}"}
      {:error, sentence} -> {:error, sentence}
    end
  end

  defp each([], _names), do: :ok

  defp each([{key, value} | rest], names) do
    cond do
      key not in names ->
        known = Enum.map_join(names, ", ", &inspect/1)
        {:error, "unknown option #{inspect(key)}, expected one of #{known}"}

      expected = wrong(key, value) ->
        {:error, "#{key} must be #{expected}, got #{inspect(value)}"}

      true ->
        each(rest, names)
    end
  end

  defp wrong(:event, event),
    do: unless(is_binary(event) and event != "", do: "a non-empty string")

  defp wrong(:relay_event, nil), do: nil
  defp wrong(:relay_event, event), do: wrong(:event, event)

  defp wrong(:deliver, deliver),
    do: unless(deliver in [:reply, :push, :both], do: ":reply, :push or :both")

  defp wrong(:relay, relay),
    do: unless(relay in [:auto, :channel, :fastlane], do: ":auto, :channel or :fastlane")

  defp wrong(:concurrency, count),
    do: unless(is_integer(count) and count > 0, do: "a positive integer")

  defp wrong(:max_wait_ms, ms),
    do: unless(ms in 1..0xFFFF_FFFF, do: "a positive number of milliseconds")

  defp wrong(max, count) when max in [:max_pending, :max_running],
    do: unless(is_integer(count) and count >= 0, do: "a non-negative integer")

  defp wrong(_switch, value), do: unless(is_boolean(value), do: "true or false")
end
