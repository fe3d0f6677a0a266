defmodule Bench.Gateway do
  @moduledoc "Configs and requests that the benchmarks share, and more than one table of configs."

  alias PhoenixGenApi.ConfigDb
  alias PhoenixGenApi.Gateway
  alias PhoenixGenApi.Native
  alias PhoenixGenApi.Structs.{FunConfig, Request}

  @doc "A valid config; `changes` replace its fields."
  def config(changes \\ []) do
    struct!(
      %FunConfig{
        service: "users",
        request_type: "get_user",
        nodes: nodes(10),
        mfa: {String, :upcase, []},
        arg_types: three_scalars(),
        arg_orders: ["name", "age", "active"],
        check_permission: :any_authenticated,
        choose_node_mode: :hash
      },
      changes
    )
  end

  def three_scalars do
    %{
      "name" => {:string, 255},
      "age" => [type: :integer, min: 0, max: 150],
      "active" => :boolean
    }
  end

  @doc "A record within a record, 7 values."
  def order do
    %{
      "id" => :integer,
      "note" => {:string, 200},
      "qty" => [type: :integer, min: 1, max: 999],
      "customer" => {:map, person()}
    }
  end

  @doc "The record within it."
  def person, do: %{"name" => {:string, 100}, "email" => {:string, 100}, "vip" => :boolean}

  def nodes(count), do: for(n <- 1..count, do: :"node#{n}@10.0.0.#{n}")

  @doc "Names of `count` functions, spread over 50 services."
  def names(count), do: for(n <- 1..count, do: {"service_#{rem(n, 50)}", "get_thing_#{n}"})

  def request(changes \\ []) do
    struct!(
      %Request{
        request_id: "5f0c1e0a-8f0e-4c38-9b5e-2f6f9d3f0001",
        request_type: "get_user",
        service: "users",
        user_id: "user-17",
        device_id: "phone-3",
        args: %{"name" => "Grace Hopper", "age" => 85, "active" => true}
      },
      changes
    )
  end

  @doc "The plan of a config that is stored on the way."
  def plan(config) do
    :ok = ConfigDb.add(config)
    {:ok, plan} = ConfigDb.fetch(config.service, config.request_type, nil)
    plan
  end

  @doc "A table of its own that holds these configs; `use_table/1` puts it in place."
  def table(configs) do
    table = Native.config_db_new()
    own = use_table(table)
    {:ok, _count} = ConfigDb.batch_add(configs)
    use_table(own)
    table
  end

  @doc "Puts a table of configs in place and returns the one that was there."
  def use_table(table) do
    all = [:config_db, :node_selector, :rate_limiter, :relay, :relay_forwarders]
    instances = Map.new(all, &{&1, Gateway.handle!(&1)})
    Gateway.publish(%{instances | config_db: table})
    instances.config_db
  end
end
