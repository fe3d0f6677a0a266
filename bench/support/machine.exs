# The heading of a page of results: what ran where.
[command] = System.argv()

cpu =
  case File.read("/proc/cpuinfo") do
    {:ok, info} ->
      [_, model] = Regex.run(~r/^model name\s*: (.*)$/m, info) || [nil, "unknown"]
      model

    {:error, _} ->
      "sysctl" |> System.cmd(["-n", "machdep.cpu.brand_string"]) |> elem(0) |> String.trim()
  end

otp = :code.root_dir() |> Path.join("releases/#{System.otp_release()}/OTP_VERSION")
otp = with {:ok, version} <- File.read(otp), do: version, else: (_ -> System.otp_release())
{os, 0} = System.cmd("uname", ["-srm"])

{commit, _} = System.cmd("git", ["rev-parse", "--short", "HEAD"])

IO.puts("""
# Benchmarks, #{Date.utc_today()}

`#{String.trim(command)}` at #{String.trim(commit)}

- CPU: #{cpu}, #{:erlang.system_info(:logical_processors_available)} logical cores available, #{System.schedulers_online()} schedulers
- OTP #{String.trim(otp)} (#{:erlang.system_info(:emu_flavor)}), Elixir #{System.version()}
- OS: #{String.trim(os)}
""")
