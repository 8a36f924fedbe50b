defmodule SafePort.Core.Signal do
  @moduledoc false
  # The usual signals by name, with the numbers of Linux on the architectures the BEAM runs on (signal(7)).

  @numbers [
    sighup: 1,
    sigint: 2,
    sigquit: 3,
    sigill: 4,
    sigtrap: 5,
    sigabrt: 6,
    sigbus: 7,
    sigfpe: 8,
    sigkill: 9,
    sigusr1: 10,
    sigsegv: 11,
    sigusr2: 12,
    sigpipe: 13,
    sigalrm: 14,
    sigterm: 15,
    sigstkflt: 16,
    sigchld: 17,
    sigcont: 18,
    sigstop: 19,
    sigtstp: 20,
    sigttin: 21,
    sigttou: 22,
    sigurg: 23,
    sigxcpu: 24,
    sigxfsz: 25,
    sigvtalrm: 26,
    sigprof: 27,
    sigwinch: 28,
    sigio: 29,
    sigpwr: 30,
    sigsys: 31
  ]

  @doc """
  The number of a signal given by name or number; raises `ArgumentError` for what is neither.
  """
  @spec number!(term()) :: 1..64
  def number!(number) when is_integer(number) and number in 1..64, do: number

  for {name, number} <- @numbers do
    def number!(unquote(name)), do: unquote(number)
  end

  def number!(other) do
    raise ArgumentError,
          "signal must be a name such as :sigterm or a number from 1 to 64, got: #{inspect(other)}"
  end

  @doc """
  The name of a signal, or its number if it has none.
  """
  @spec name(1..64) :: atom() | 1..64
  for {name, number} <- @numbers do
    def name(unquote(number)), do: unquote(name)
  end

  def name(number), do: number
end
