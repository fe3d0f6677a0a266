defmodule PhoenixGenApi.Diagnostics.Statistics do
  @moduledoc false

  alias PhoenixGenApi.Diagnostics.{Components, Health}
  alias PhoenixGenApi.Telemetry

  @spec collect() :: map()
  def collect do
    %{
      node: node(),
      collected_at_ms: System.system_time(:millisecond),
      vm: vm(),
      phoenix_gen_api: gateway()
    }
  end

  defp gateway do
    client? = Health.mode() == :client
    statuses = if client?, do: Components.no_statuses(), else: Components.statuses()
    events = length(Telemetry.list_events())
    Map.merge(statuses, %{client_mode: client?, telemetry_events: events})
  end

  defp vm do
    {uptime_ms, _since} = :erlang.statistics(:wall_clock)
    {reductions, _since} = :erlang.statistics(:reductions)
    {{:input, input}, {:output, output}} = :erlang.statistics(:io)

    %{
      memory: Map.new(:erlang.memory()),
      processes: :erlang.system_info(:process_count),
      ports: :erlang.system_info(:port_count),
      atoms: :erlang.system_info(:atom_count),
      run_queue: :erlang.statistics(:total_run_queue_lengths),
      schedulers_online: System.schedulers_online(),
      reductions: reductions,
      io_bytes: %{input: input, output: output},
      uptime_ms: uptime_ms,
      otp_release: System.otp_release(),
      elixir_version: System.version()
    }
  end
end
