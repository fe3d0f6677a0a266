defmodule PhoenixGenApi.Diagnostics.PushedServicesTest do
  # The one table of pushed services, and standard output.
  use ExUnit.Case, async: false

  import ExUnit.{CaptureIO, CaptureLog}

  alias PhoenixGenApi.{ConfigPusher, ConfigReceiver}
  alias PhoenixGenApi.Structs.FunConfig

  setup do
    on_exit(fn ->
      for name <- ["seen", "paged"], do: ConfigReceiver.delete_pushed_service(name)
    end)
  end

  defp push(service, types, opts) do
    functions =
      for type <- types do
        %FunConfig{service: service, request_type: type, nodes: :local, mfa: {String, :trim, []}}
      end

    push = ConfigPusher.from_service_config(service, [:a@h1, "b@h1"], functions, opts)
    capture_log(fn -> assert ConfigReceiver.push(push) == {:ok, :accepted} end)
  end

  defp printed do
    {:ok, text} = with_io(fn -> PhoenixGenApi.pushed_services_status() end)
    text
  end

  test "prints that nothing was pushed" do
    assert printed() == "pushed services: 0\n  none\n"
  end

  test "prints each service with its version, its functions and its nodes" do
    push("seen", ["find", "buy"], config_version: "1.2.0")
    listing = [module: Nowhere, function: :list]
    push("paged", ["find"], [config_version: "7\e[31m"] ++ listing)

    assert printed() == """
           pushed services: 2
             paged "7\\e[31m": 1 functions on a@h1, b@h1, also pulled
             seen 1.2.0: 2 functions on a@h1, b@h1
           """
  end
end
