# The time from a command to its answer, SafePort beside the built-in Port:
#
#     MIX_ENV=prod mix run bench/round_trip.exs

for file <- ~w(support data), do: Code.require_file("#{file}.exs", __DIR__)
Bench.main(Bench.Data.all(), ["round trip"])
