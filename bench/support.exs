defmodule Bench do
  @moduledoc """
  Runs measurements round by round, one contestant after the other, and prints medians and ratios.

  A measurement is `{name, unit, better, target, contestants}`: `better` is `:more` or `:less`, `target` the ratio to
  the built-in that is asked for (or nil), and `contestants` a list of `{label, fun}`, each fun returning one number.
  The first contestant is the one that the others are compared with. `{label, fun, :limit}` marks a C program that
  shows what the machine allows.
  """

  @rounds 7

  def main(measurements, words) do
    programs = compile_programs()
    :persistent_term.put(__MODULE__, programs)

    IO.puts("#{machine()}\n#{@rounds} rounds, medians, min to max in brackets\n")

    for {name, _, _, _, _} = measurement <- measurements, words == [] or Enum.any?(words, &(name =~ &1)) do
      measure(measurement)
    end
  end

  @doc "The path of one of the programs in bench/programs."
  def program(name), do: Path.join(:persistent_term.get(__MODULE__), name)

  @doc "Microseconds that `fun` takes."
  def time(fun), do: fun |> :timer.tc() |> elem(0)

  @doc "CPU microseconds that this VM used while `fun` ran."
  def cpu(fun) do
    before = cpu_us()
    fun.()
    cpu_us() - before
  end

  defp cpu_us do
    {user, system} = "/proc/self/stat" |> File.read!() |> cpu_ticks()
    (user + system) * 10_000
  end

  defp cpu_ticks(stat) do
    fields = stat |> String.split(") ") |> List.last() |> String.split(" ")
    {fields |> Enum.at(11) |> String.to_integer(), fields |> Enum.at(12) |> String.to_integer()}
  end

  def median(numbers) do
    sorted = Enum.sort(numbers)
    Enum.at(sorted, div(length(sorted), 2))
  end

  defp measure({name, unit, better, target, contestants}) do
    # A warm-up, then rounds in which every contestant has its turn.
    for contestant <- contestants, do: elem(contestant, 1).()

    rounds =
      for _round <- 1..@rounds do
        for contestant <- contestants do
          :erlang.garbage_collect()
          elem(contestant, 1).()
        end
      end

    results = rounds |> Enum.zip() |> Enum.map(&Tuple.to_list/1)
    [reference | _] = medians = Enum.map(results, &median/1)

    IO.puts("#{name} (#{unit}, #{if better == :more, do: "more", else: "less"} is better)")

    for {contestant, median, numbers} <- Enum.zip([contestants, medians, results]) do
      # Nothing can be compared with a cost too small to be measured.
      ratio = if reference != 0, do: median / reference
      IO.puts("  " <> row(contestant, median, numbers, ratio) <> verdict(contestant, better, target, ratio))
    end

    IO.puts("")
  end

  defp row(contestant, median, numbers, ratio) do
    label = contestant |> elem(0) |> String.pad_trailing(26)
    spread = "[#{figure(Enum.min(numbers))} to #{figure(Enum.max(numbers))}]"

    times = if ratio, do: :erlang.float_to_binary(ratio, decimals: 2), else: "-"

    "#{label} #{median |> figure() |> String.pad_leading(11)}  x#{times}  #{spread}"
  end

  defp verdict({label, _}, better, target, ratio) when target != nil do
    case target do
      %{^label => wanted} ->
        met = if better == :more, do: ratio >= wanted, else: ratio <= wanted

        "  #{if met, do: "met", else: "MISSED"}: #{if better == :more, do: "at least", else: "at most"} x#{wanted}"

      _none ->
        ""
    end
  end

  defp verdict(_contestant, _better, _target, _ratio), do: ""

  defp figure(number) when number >= 1_000_000, do: "#{Float.round(number / 1_000_000, 2)} M"
  defp figure(number) when number >= 10_000, do: "#{Float.round(number / 1_000, 1)} k"
  defp figure(number), do: "#{Float.round(number / 1, 2)}"

  defp machine do
    model =
      case Regex.run(~r/model name\s*: (.*)/, File.read!("/proc/cpuinfo")) do
        [_, model] -> model
        nil -> "unknown processor"
      end

    release = File.read!("/proc/sys/kernel/osrelease") |> String.trim()

    "#{model}, #{System.schedulers_online()} schedulers, Linux #{release}, OTP #{System.otp_release()}, " <>
      "Elixir #{System.version()}"
  end

  defp compile_programs do
    target = Path.join(System.tmp_dir!(), "safe_port_bench_#{System.pid()}")
    File.mkdir_p!(target)
    System.at_exit(fn _ -> File.rm_rf!(target) end)

    for source <- Path.wildcard(Path.join(__DIR__, "programs/*.c")) do
      program = Path.join(target, Path.basename(source, ".c"))
      {_, 0} = System.cmd("cc", ["-O2", "-o", program, source])
    end

    target
  end
end
