# Tests with real sockets need Phoenix and a web server, which are Hex packages.
installed? = PhoenixGenApi.PhoenixGateway.adapters() != []

unless installed?,
  do: IO.puts("Left out: the tests tagged :phoenix (no Phoenix with a web server is installed)")

judges? = PhoenixGenApi.Test.Judges.installed?()

unless judges?,
  do: IO.puts("Left out: the tests tagged :judges (bin/judges installs the validators they need)")

# What tests have the library log is no news, and hides what is. Those that look at it capture it.
:ok = :logger.set_handler_config(:default, :level, :emergency)

PhoenixGenApi.Test.Options.open_no_pool_circuits()

# Before any test: some begin while the files of others are still being compiled, and what a node
# does that gets its name meanwhile may fail.
PhoenixGenApi.Test.Cluster.start_distribution()

ExUnit.start(
  formatters: [ExUnit.CLIFormatter, PhoenixGenApi.Test.Watchdog],
  exclude: for({false, tag} <- [{installed?, :phoenix}, {judges?, :judges}], do: tag),
  # A busy machine takes its time. Only a test that fails waits as long.
  assert_receive_timeout: 30_000,
  timeout: 180_000
)
