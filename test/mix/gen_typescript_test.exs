defmodule Mix.Tasks.PhoenixGenApi.Gen.TypescriptTest do
  use ExUnit.Case, async: false

  alias Mix.Tasks.PhoenixGenApi.Gen.Typescript
  alias PhoenixGenApi.Contract
  alias PhoenixGenApi.Contract.TypeScript
  alias PhoenixGenApi.Structs.FunConfig
  alias PhoenixGenApi.Test.Cluster

  defmodule Prices do
    use PhoenixGenApi.Service, service: "typescript_prices"

    @api true
    @spec price(String.t(), pos_integer()) :: {:ok, float()}
    def price(item, quantity), do: {:ok, 1.0 * byte_size(item) * quantity}
  end

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    %{out: Path.join(dir, "js/gen_api.ts")}
  end

  test "modules of the project", %{out: out} do
    Typescript.run(["--out", out, "--apis", inspect(Prices)])
    assert_receive {:mix_shell, :info, ["* wrote " <> _]}
    text = File.read!(out)
    assert text == TypeScript.file(Contract.describe(functions: Prices.__gen_api__()))

    assert text =~
             "price(args: {item: string; quantity: number}, options?: CallOptions): Promise<number>"

    Typescript.run(["--out", out, "--apis", inspect(Prices)])
    refute_received {:mix_shell, :info, ["* wrote " <> _]}
  end

  test "a description in a file, and --check", %{out: out, tmp_dir: dir} do
    contract = Path.join(dir, "contract.json")
    File.write!(contract, JSON.encode!(Contract.describe(functions: Prices.__gen_api__())))
    args = ["--out", out, "--contract", contract]

    assert_raise Mix.Error, ~r/is not up to date/, fn -> Typescript.run(args ++ ["--check"]) end
    refute File.exists?(out)
    Typescript.run(args)
    assert Typescript.run(args ++ ["--check"])
    assert_received {:mix_shell, :info, [up_to_date]}
    assert up_to_date =~ "wrote" or up_to_date =~ "is up to date"
    File.write!(out, "// by hand\n", [:append])
    assert_raise Mix.Error, ~r/is not up to date/, fn -> Typescript.run(args ++ ["--check"]) end
  end

  test "the gateway of the project", %{out: out} do
    :ok =
      PhoenixGenApi.ConfigDb.add(%FunConfig{
        service: "typescript_gateway",
        request_type: "first",
        nodes: :local,
        mfa: {List, :first, []}
      })

    on_exit(fn -> PhoenixGenApi.ConfigDb.delete("typescript_gateway", "first") end)
    Typescript.run(["--out", out])
    assert File.read!(out) =~ "typescript_gateway: {\n    first("
  end

  test "a gateway that runs", %{out: out} do
    {_peer, node} = peer = Cluster.start_peer(app: [client_mode: false])

    config = %FunConfig{
      service: "typescript_node",
      request_type: "first",
      nodes: :local,
      mfa: {List, :first, []},
      response_type: :stream
    }

    :ok = Cluster.call(peer, PhoenixGenApi.ConfigDb, :add, [config])
    Typescript.run(["--out", out, "--node", to_string(node)])
    assert File.read!(out) =~ "AsyncIterable<unknown>"

    assert_raise Mix.Error, ~r/cannot connect with nobody@/, fn ->
      Typescript.run(["--out", out, "--node", "nobody@127.0.0.1"])
    end
  end

  test "mistakes are said in a sentence", %{out: out, tmp_dir: dir} do
    broken = Path.join(dir, "broken.json")
    File.write!(broken, "{}")

    for {args, sentence} <- [
          {[], "--out FILE is missing"},
          {["--out", out, "x"], "unexpected argument: x"},
          {["--out", out, "--apis", "No.Such"], "there is no module No.Such"},
          {["--out", out, "--apis", "String"], "String has no @api functions"},
          {["--out", out, "--apis", "String", "--contract", "c"], "only one of"},
          {["--out", out, "--contract", dir <> "/none"], "no such file"},
          {["--out", out, "--contract", broken], "is no description"},
          {["--out", out, "--watch", "--check"], "--watch writes"}
        ] do
      assert_raise Mix.Error, ~r/#{Regex.escape(sentence)}/, fn -> Typescript.run(args) end
    end

    refute File.exists?(out)
  end

  test "--watch writes whenever the functions change", %{out: out, tmp_dir: dir} do
    contract = Path.join(dir, "contract.json")
    write = &File.write!(contract, JSON.encode!(Contract.describe(functions: &1)))
    write.([])

    watcher =
      spawn_link(fn -> Typescript.run(["--out", out, "--contract", contract, "--watch"]) end)

    PhoenixGenApi.Await.until(fn -> File.exists?(out) end)
    File.write!(contract, "half")
    write.(Prices.__gen_api__())
    PhoenixGenApi.Await.until(fn -> File.read!(out) =~ "price" end)
    Process.unlink(watcher)
    Process.exit(watcher, :kill)
  end
end
