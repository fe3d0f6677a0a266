defmodule Mix.Tasks.PhoenixGenApi.Doctor do
  @shortdoc "Finds what is wrong with a cluster of gateways and services"

  @moduledoc """
  Says what is wrong with a running cluster, why it matters, and what to do.

      mix phoenix_gen_api.doctor --node gateway@10.0.0.7 --cookie "$COOKIE"
      mix phoenix_gen_api.doctor

  With `--node` it connects with that node, as a hidden one, and examines it and all nodes that are connected with it.
  If it cannot connect, it says why: name, host, epmd, port, cookie or TLS. Without, it starts the application of
  this project and examines that.

  | Option | Meaning |
  |---|---|
  | `--node NAME` | a node of the cluster; a gateway sees most |
  | `--cookie COOKIE` | its cookie, unless it is that of `~/.erlang.cookie` |
  | `--strict` | warnings count, too |

  The exit status is 1 if there are errors, with `--strict` also if there are warnings, otherwise 0. What is examined
  is listed in `PhoenixGenApi.Doctor`. Secrets are compared, never shown.
  """

  use Mix.Task

  alias PhoenixGenApi.Doctor
  alias PhoenixGenApi.Doctor.Connection

  @switches [node: :string, cookie: :string, strict: :boolean]
  # For all nodes together.
  @examine_ms 60_000

  @impl true
  @spec run([String.t()]) :: :ok
  def run(args) do
    options = options(args)
    findings = findings(options[:node], options[:cookie])
    for finding <- findings, do: Mix.shell().info(Doctor.format(finding))
    Mix.shell().info(summary(findings))

    if failed?(findings, options[:strict] == true), do: exit({:shutdown, 1})
    :ok
  end

  defp options(args) do
    case OptionParser.parse(args, strict: @switches) do
      {options, [], []} ->
        options

      {_options, rest, invalid} ->
        wrong = rest ++ Enum.map(invalid, &elem(&1, 0))

        Mix.raise(
          "unexpected: #{Enum.join(wrong, " ")}; the options are --node, --cookie and --strict"
        )
    end
  end

  defp findings(nil, _cookie) do
    Mix.Task.run("app.start")
    Doctor.examine()
  end

  defp findings(name, cookie) do
    start_distribution(name)
    if cookie, do: Node.set_cookie(String.to_atom(name), String.to_atom(cookie))

    with [] <- Connection.findings(name), do: examine(String.to_atom(name))
  end

  # With the kind of name that the node has. Hidden, so that the cluster does not see it.
  defp start_distribution(name) do
    unless Node.alive?() do
      {domain, host} =
        if String.contains?(name, "."), do: {:longnames, "@127.0.0.1"}, else: {:shortnames, ""}

      own = :"phoenix_gen_api_doctor_#{System.pid()}#{host}"

      with {:error, reason} <- :net_kernel.start(own, %{name_domain: domain, hidden: true}),
           do: Mix.raise("distribution does not start: #{inspect(reason)}")
    end
  end

  defp examine(node) do
    :erpc.call(node, Doctor, :examine, [], @examine_ms)
  catch
    :error, {:exception, :undef, _stack} ->
      Mix.raise(
        "#{node} has no PhoenixGenApi.Doctor: it runs without the library, or with an older version"
      )

    _kind, reason ->
      Mix.raise("#{node} does not answer: #{inspect(reason)}")
  end

  defp failed?(findings, strict?),
    do: Enum.any?(findings, &(&1.level == :error or strict?))

  defp summary([]), do: "Nothing found."

  defp summary(findings) do
    {errors, warnings} = Enum.split_with(findings, &(&1.level == :error))
    "#{length(errors)} errors, #{length(warnings)} warnings."
  end
end
