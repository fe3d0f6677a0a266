defmodule Demo.ServiceB do
  # A service that the gateway pulls. Its functions run on both service nodes.
  @moduledoc false

  alias Demo.Nodes
  alias PhoenixGenApi.Structs.FunConfig

  @doc "What the gateway is configured to pull."
  def service_config do
    %{
      service: "math",
      nodes: [Nodes.service_b()],
      module: "Demo.ServiceB",
      function: "functions",
      version_module: "Demo.ServiceB",
      version_function: "version"
    }
  end

  def version, do: "7"

  def functions do
    numbers = [{"a", :integer}, {"b", :integer}, {"c", :integer}]

    {:ok,
     [
       api("add", :add, numbers),
       %{api("desk", :desk, []) | timeout: 800},
       api("slow", :slow, [{"text", :string}]),
       api("volume", :volume, numbers)
     ]}
  end

  defp api(type, function, arg_types) do
    %FunConfig{
      service: "math",
      request_type: type,
      nodes: [Nodes.service_a(), Nodes.service_b()],
      choose_node_mode: :round_robin,
      mfa: {Demo.Math, function, []},
      arg_types: arg_types,
      timeout: 5_000
    }
  end
end
