# What SafePort costs beside the built-in: every figure is taken from both in turn, in one run, as these things depend
# on the machine and on its mood. `bin/bench` runs it; `bin/bench NAME...` runs the measurements whose names contain one
# of the words.

Code.require_file("support.exs", __DIR__)
for file <- ~w(data spawn scale schedule drivers), do: Code.require_file("#{file}.exs", __DIR__)

Bench.main(
  Bench.Data.all() ++ Bench.Spawn.all() ++ Bench.Scale.all() ++ Bench.Schedule.all() ++ Bench.Drivers.all(),
  System.argv()
)
