defmodule Mix.Tasks.PhoenixGenApi.ContractTest do
  use ExUnit.Case, async: false

  alias Mix.Tasks.PhoenixGenApi.Contract, as: Write
  alias Mix.Tasks.PhoenixGenApi.Contract.Check
  alias PhoenixGenApi.{ConfigDb, Contract}
  alias PhoenixGenApi.Structs.FunConfig

  defmodule Prices do
    use PhoenixGenApi.Service, service: "contract_prices"

    @api version: "1.0.0"
    @spec price(item :: String.t(), quantity :: pos_integer()) :: {:ok, float()}
    def price(item, quantity), do: {:ok, 1.0 * byte_size(item) * quantity}
  end

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)

    %{
      out: Path.join(dir, "api/contract.json"),
      described: Contract.describe(functions: Prices.__gen_api__())
    }
  end

  defp save(dir, name, configs) do
    file = Path.join(dir, name)
    File.write!(file, JSON.encode!(Contract.describe(functions: configs)))
    file
  end

  describe "phoenix_gen_api.contract" do
    test "writes the description of modules, a value on each line", %{
      out: out,
      described: described
    } do
      Write.run(["--apis", inspect(Prices), "--out", out])
      assert_received {:mix_shell, :info, ["* wrote " <> _]}
      text = File.read!(out)
      assert JSON.decode!(text) == described
      assert text =~ ~s(\n          "request_type": "price",\n)
      Write.run(["--apis", inspect(Prices), "--out", out])
      assert File.read!(out) == text
    end

    test "prints it where there is no file", %{described: described} do
      Write.run(["--apis", inspect(Prices)])
      assert_received {:mix_shell, :info, [text]}
      assert JSON.decode!(text) == described
    end

    test "writes an OpenAPI document", %{out: out, described: described} do
      Write.run([
        "--openapi",
        "--apis",
        inspect(Prices),
        "--title",
        "Prices",
        "--api-version",
        "3",
        "--out",
        out
      ])

      document = out |> File.read!() |> JSON.decode!()
      assert document == Contract.openapi(description: described, title: "Prices", version: "3")
      assert Map.keys(document["paths"]) == ["/contract_prices/price"]
    end

    test "describes a gateway that runs, and that of the project", %{out: out} do
      service = "contract_gateway"

      config = %FunConfig{
        service: service,
        request_type: "first",
        nodes: :local,
        mfa: {List, :first, []}
      }

      :ok = ConfigDb.add(config)
      on_exit(fn -> ConfigDb.delete(service, "first") end)

      for args <- [[], ["--node", Atom.to_string(node())]] do
        Write.run(args ++ ["--out", out])
        services = JSON.decode!(File.read!(out))["services"]
        assert Enum.any?(services, &(&1["service"] == service))
      end
    end

    test "says mistakes in a sentence", %{tmp_dir: dir} do
      for {args, sentence} <- [
            {["x"], "unexpected argument: x"},
            {["--apis", "String", "--node", "n@h"], "only one of"},
            {["--contract", dir <> "/none"], "no such file"}
          ],
          do: assert_raise(Mix.Error, ~r/#{sentence}/, fn -> Write.run(args) end)

      assert_raise OptionParser.ParseError, fn -> Write.run(["--html"]) end
    end
  end

  describe "phoenix_gen_api.contract.check" do
    test "fails on a breaking change, with a sentence for each change", %{tmp_dir: dir} do
      [config] = Prices.__gen_api__()

      old =
        save(dir, "old.json", [%{config | arg_types: [{"item", {:string, 40}}], arg_orders: nil}])

      new =
        save(dir, "new.json", [
          %{
            config
            | arg_types: [{"item", {:string, 10}}, {"note", {:string, allow_nil?: true}}],
              arg_orders: nil
          }
        ])

      assert catch_exit(Check.run([old, new])) == {:shutdown, 1}

      assert_received {:mix_shell, :error,
                       [
                         "breaking: contract_prices price 1.0.0: argument item has a maximum length of 10 instead of 40"
                       ]}

      assert_received {:mix_shell, :info,
                       ["compatible: contract_prices price 1.0.0: argument note is new"]}

      Check.run([old, old])
      assert_received {:mix_shell, :info, ["no breaking change"]}
    end

    test "compares with modules of the project", %{tmp_dir: dir} do
      [config] = Prices.__gen_api__()
      Check.run([save(dir, "old.json", [config]), "--apis", inspect(Prices)])
      assert_received {:mix_shell, :info, ["no breaking change"]}

      old = save(dir, "old.json", [config, %{config | request_type: "prices"}])
      assert catch_exit(Check.run([old, "--apis", inspect(Prices)])) == {:shutdown, 1}
      assert_received {:mix_shell, :error, ["breaking: contract_prices prices has been removed"]}
    end

    test "says mistakes in a sentence", %{tmp_dir: dir} do
      file = save(dir, "old.json", [])

      for {args, sentence} <- [
            {[], "name one file"},
            {[file, file, file], "name one file"},
            {[file, file, "--apis", "String"], "only one of"},
            {[dir <> "/none", file], "no such file"}
          ],
          do: assert_raise(Mix.Error, ~r/#{sentence}/, fn -> Check.run(args) end)
    end
  end
end
