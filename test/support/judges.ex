defmodule PhoenixGenApi.Test.Judges do
  @moduledoc false
  # Validators that others have written, each in a process of its own: see test/tools.

  @tools Path.expand("../tools", __DIR__)
  @python Path.expand("../../_build/judges/bin/python", __DIR__)

  @doc "Whether bin/judges has installed them."
  @spec installed?() :: boolean()
  def installed? do
    System.find_executable("node") != nil and File.exists?(@python) and
      File.dir?(Path.join(@tools, "node_modules/ajv"))
  end

  @doc "Starts one. It ends with the calling process, which alone may ask it."
  @spec start(:node | :python) :: port()
  def start(:node), do: open(System.find_executable("node"), "judge.mjs")
  def start(:python), do: open(@python, "judge.py")

  defp open(program, script) do
    Port.open({:spawn_executable, program}, [
      :binary,
      :exit_status,
      packet: 4,
      args: [Path.join(@tools, script)]
    ])
  end

  @doc "Sends a question, JSON with a `kind`. Answers come in the order of the questions."
  @spec ask(port(), iodata()) :: :ok
  def ask(judge, question) do
    Port.command(judge, question)
    :ok
  end

  @doc "Waits for the next answer."
  @spec answer(port()) :: term()
  def answer(judge) do
    receive do
      {^judge, {:data, data}} ->
        case JSON.decode!(data) do
          %{"answer" => answer} -> answer
          %{"error" => error} -> raise "the judge: #{error}"
        end

      {^judge, {:exit_status, status}} ->
        raise "the judge has ended with #{status}"
    end
  end
end
