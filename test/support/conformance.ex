defmodule SafePort.Test.Conformance do
  @moduledoc """
  A case whose tests are written once and run twice: against `Port` and against `SafePort`.

  Each test belongs to a clause of the built-in's behaviour, and says in which of three states the clause is:

      same "K1", "close returns true", subject do ... end       # both modules do the same
      better "O14", "...", subject do ... end                   # SafePort differs on purpose
      cannot "Q6", "...", subject do ... end                    # the nearest that SafePort can do

  `subject` is bound to the module under test. The test process traps exits. When the body is done, every port that
  `open/3` opened is closed; a message that was not taken is a failure, and so is a child that does not end.

  The table of all clauses with their states is made by `SafePort.Test.Clauses`.
  """

  use ExUnit.CaseTemplate

  alias SafePort.Test.Ports

  @subjects [Port, SafePort]

  using do
    quote do
      import SafePort.Test.Conformance, only: [same: 4, better: 4, cannot: 4]
      import SafePort.Test.Ports
      import SafePort.Test.Vm, only: [in_vm: 2, in_vm: 3]
      alias SafePort.Test.{Actor, Proc}

      # What the built-in logs about wrong data is no news.
      @moduletag :capture_log
    end
  end

  setup do
    Ports.watch_programs()
    :ok
  end

  for state <- [:same, :better, :cannot] do
    @doc "Defines a test of `clause`, which is in the state `:#{state}`, for both modules."
    defmacro unquote(state)(clause, sentence, subject, do: body) do
      SafePort.Test.Conformance.define(unquote(state), clause, sentence, subject, body)
    end
  end

  @doc false
  def define(state, clause, sentence, subject, body) do
    quote do
      for subject <- unquote(@subjects) do
        @tag clause: unquote(clause), state: unquote(state), subject: subject
        test "#{unquote(clause)} [#{inspect(subject)}] #{unquote(sentence)}", context do
          unquote(subject) = context.subject
          unquote(body)
          SafePort.Test.Ports.finish(unquote(subject))
        end
      end
    end
  end
end
