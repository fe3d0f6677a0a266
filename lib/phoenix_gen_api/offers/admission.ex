defmodule PhoenixGenApi.Offers.Admission do
  @moduledoc false
  # What a gateway asks of a process that offers, and of what it offers. Each in a process of its own,
  # that ends with the answer: one that hangs keeps no other waiting.

  alias PhoenixGenApi.Config
  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.ConfigFailed
  alias PhoenixGenApi.Offers.Store
  alias PhoenixGenApi.SafeInspect
  alias PhoenixGenApi.Security
  alias PhoenixGenApi.Service.{Content, Offer, Proof}

  @protocols [1]
  @hello_ms 5_000
  # A large one takes its time.
  @fetch_ms 60_000

  @typedoc "`:later` is no answer; `:gone` is one that takes its offer back, or makes none here."
  @type answer(value) :: {:ok, value} | {:refused, [String.t()]} | :later | :gone

  @doc "Has `fun` answered by a process that ends with `{Admission, answer}`; its monitor."
  @spec start((-> answer(term()))) :: reference()
  def start(fun) do
    {_pid, monitor} = spawn_monitor(fn -> exit({__MODULE__, fun.()}) end)
    monitor
  end

  @doc "Whether this process may offer here."
  @spec hello(pid(), String.t(), Content.hash()) :: answer(nil)
  def hello(pid, service, hash) do
    node = node(pid)

    with :ok <- gate(),
         :ok <- accept(node, Config.get(:service, :accept)) do
      token = Application.get_env(:phoenix_gen_api, :push_token)
      nonce = Proof.nonce()

      case call(pid, {:hello, @protocols, service, hash, nonce}, @hello_ms) do
        {:ok, {:ok, _protocol, answer}} ->
          if Proof.valid?(answer, token, nonce, hash, node),
            do: {:ok, nil},
            else:
              {:refused, ["the push token of #{node} is another one than that of this gateway"]}

        {:ok, {:error, {:protocols, theirs}}} ->
          {:refused, ["#{node} offers by other protocols: #{SafeInspect.inspect(theirs)}"]}

        {:ok, _taken_back} ->
          :gone

        :error ->
          :later
      end
    end
  end

  defp gate do
    with {:error, :admin_action_denied} <- Security.gate(:push_config),
         do: {:refused, [":admin_actions of this gateway is set without :push_config"]}
  end

  @doc "Whether a node may offer, by `config :phoenix_gen_api, :service, accept`."
  @spec accept(node(), :any | [node() | String.t()]) :: :ok | {:refused, [String.t()]}
  def accept(_node, :any), do: :ok
  def accept(node, _patterns) when node == node(), do: :ok

  def accept(node, patterns) do
    if Enum.any?(patterns, &accepts?(&1, Atom.to_string(node))),
      do: :ok,
      else: {:refused, ["config :phoenix_gen_api, :service, accept does not list #{node}"]}
  end

  defp accepts?(pattern, name) do
    case pattern |> to_string() |> String.split("*") do
      [exact] ->
        exact == name

      [first | rest] ->
        String.starts_with?(name, first) and fits?(rest, String.replace_prefix(name, first, ""))
    end
  end

  # The rest of a pattern after a star.
  defp fits?([last], name), do: String.ends_with?(name, last)

  defp fits?([part | rest], name) do
    case String.split(name, part, parts: 2) do
      [_skipped, after_it] -> fits?(rest, after_it)
      [_not_there] -> false
    end
  end

  @doc "The functions of a content that this gateway does not know."
  @spec fetch(pid(), String.t(), Content.hash()) :: answer(Store.functions())
  def fetch(pid, service, hash) do
    case call(pid, {:fetch, service, hash}, @fetch_ms) do
      {:ok, {:ok, bytes}} when is_binary(bytes) -> read(bytes, service, hash, node(pid))
      {:ok, _taken_back} -> :gone
      :error -> :later
    end
  end

  defp read(bytes, service, hash, node) do
    with {:hash, true} <- {:hash, Content.hash(bytes) == hash},
         {:ok, configs} <- Content.unpack(bytes) do
      if Enum.all?(configs, &named?/1),
        do: check(configs, service, node),
        else: {:refused, ["#{node} offers a function without a name"]}
    else
      {:hash, false} -> {:refused, ["what #{node} offers is not what it announces"]}
      {:error, sentence} -> {:refused, [sentence]}
    end
  end

  defp named?(%{service: service, request_type: type, version: version}) do
    (is_binary(service) or is_atom(service)) and is_binary(type) and
      (is_binary(version) or version == nil)
  end

  # The gates of a push. All of it, or nothing.
  defp check(configs, service, node) do
    from = if node == node(), do: :this_node, else: :another_node
    foreign = for config <- configs, to_string(config.service) != service, do: config
    hooks = if from == :another_node, do: Enum.flat_map(configs, &hooks/1), else: []

    rejected =
      for(config <- foreign, do: {config, ["is of another service"]}) ++
        hooks ++ repeated(configs) ++ ConfigDb.rejected(configs, from)

    if rejected == [] do
      {:ok, Map.new(configs, &{Content.key(&1), {Content.definition(&1), &1}})}
    else
      for {config, sentences} <- rejected, do: ConfigFailed.record(config, sentences, :push, node)

      {:refused,
       for {config, sentences} <- rejected, sentence <- sentences do
         "#{SafeInspect.text("#{config.request_type} #{config.version}")}: #{sentence}"
       end}
    end
  end

  # What runs on the gateway itself is only what its allowlist names.
  defp hooks(config) do
    for mfa <- Security.on_gateway(config), not Security.allowlisted?(mfa) do
      {config,
       ["#{SafeInspect.inspect(mfa)} would run on the gateway and is not in its :mfa_allowlist"]}
    end
  end

  defp repeated(configs) do
    counts = Enum.frequencies_by(configs, &Content.key/1)

    for config <- configs,
        counts[Content.key(config)] > 1,
        do: {config, ["is listed more than once"]}
  end

  defp call(pid, request, timeout) do
    {:ok, GenServer.call(pid, {Offer.tag(), request}, timeout)}
  catch
    :exit, _no_answer -> :error
  end
end
