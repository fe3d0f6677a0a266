# The gateway node, and what happens in the demo. Its exit status is the demo's.
alias Demo.{CallRecorder, Load, Nodes, Outage, Room, Run, Scenario, ServiceB, Transcript}

Application.put_env(:phoenix_gen_api, :gen_api,
  pull_interval: 1_000,
  service_configs: [ServiceB.service_config()]
)

Application.put_env(:phoenix_gen_api, :circuit_breaker,
  threshold: 2,
  cooldown_ms: Outage.cooldown_ms()
)

{:ok, _} = Application.ensure_all_started(:phoenix_gen_api)
# As in a release: no request waits for a module to be loaded.
:ok = :phoenix_gen_api |> Application.spec(:modules) |> Code.ensure_all_loaded()
CallRecorder.start()

phoenix =
  if match?({:error, _}, :code.lib_dir(:phoenix)),
    do: "the stand-in of test/support (Phoenix is not installed)",
    else: "Phoenix.Channel"

began = System.monotonic_time(:millisecond)
transcript = Transcript.new()

IO.write("""
phoenix_gen_api: two gateways and two service nodes on this machine, each a process of its own

  gateway    #{Nodes.gateway()}, process #{System.pid()}; Elixir #{System.version()}, OTP #{System.otp_release()}, #{System.schedulers_online()} cores
  gateway_2  #{Nodes.gateway_2()}
  service_a  #{Nodes.service_a()}
  service_b  #{Nodes.service_b()}
  channel    #{phoenix}; events "api" and "chat"

  > what the client sends    < what it gets, when, and how: as a reply (ok, error) or pushed
""")

%{transcript: transcript} =
  transcript |> Run.new() |> Scenario.play() |> Room.play() |> Load.play()

seconds = (System.monotonic_time(:millisecond) - began) / 1000
System.halt(Transcript.summary(transcript, seconds))
