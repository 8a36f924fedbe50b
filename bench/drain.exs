# How fast a program's output is taken, as a stream, in packets and in lines, SafePort beside the built-in Port:
#
#     MIX_ENV=prod mix run bench/drain.exs

for file <- ~w(support data), do: Code.require_file("#{file}.exs", __DIR__)
Bench.main(Bench.Data.all(), ["stream drain", "packet-4 frames", "lines"])
