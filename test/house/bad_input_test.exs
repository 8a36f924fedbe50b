defmodule SafePort.House.BadInputTest do
  # Whatever is wrong, the error says what it is, what it must be, and what it was. That the built-in raises the same
  # exception is tested with the clauses of its behaviour.
  use ExUnit.Case, async: true

  @cat {:spawn_executable, "/bin/cat"}

  for {what, name, options, message} <- [
        {"an unknown option", @cat, [:nonsense], "unknown option :nonsense for SafePort.open/2"},
        {"a wrong range", @cat, [packet: 3], "option :packet must be 1, 2 or 4 (bytes), got: 3"},
        {"a wrong type", @cat, [line: "80"], ~s|option :line must be a positive integer (bytes), got: "80"|},
        {"a wrong unit", @cat, [kill_timeout: 0.5],
         "option :kill_timeout must be 0 to 4294967295 (ms), got: 0.5"},
        {"improper options", @cat, [:binary | :eof], "options must be a proper list, got: [:binary | :eof]"},
        {"improper arguments", @cat, [args: ["a" | "b"]],
         ~s(option :args must be a proper list of binaries, charlists or atoms, got: ["a" | "b"])},
        {"a wrong argument", @cat, [args: [1]],
         "an element of option :args must be a binary, an atom or a list of characters, got: 1"},
        {"a wrong environment", @cat, [env: %{}],
         "option :env must be a proper list of {name, value} tuples, got: %{}"},
        {"NUL in a name", {:spawn_executable, "/bin/c\0t"}, [],
         ~s(the file of {:spawn_executable, file} must not contain NUL, got: <<47, 98, 105, 110, 47, 99, 0, 116>>)},
        {"NUL in a directory", @cat, [cd: "a\0"], "option :cd must not contain NUL, got: <<97, 0>>"},
        {"a name of no kind", :cat, [],
         "invalid port name: expected {:spawn, command}, {:spawn_executable, file}, {:spawn_driver, command} or " <>
           "{:fd, in, out}, got: :cat"}
      ] do
    test "#{what} is named" do
      {name, options} = {unquote(Macro.escape(name)), unquote(Macro.escape(options))}
      assert_raise ArgumentError, unquote(message), fn -> SafePort.open(name, options) end
    end
  end

  test "a closed port, a pid that is no port and data that is no iodata are named" do
    closed = SafePort.open(@cat, [])
    SafePort.close(closed)

    for port <- [closed, self()] do
      message = "expected an open port, got: #{inspect(port)}"
      assert_raise ArgumentError, message, fn -> SafePort.command(port, "data") end
      assert_raise ArgumentError, message, fn -> SafePort.close(port) end
      assert_raise ArgumentError, message, fn -> SafePort.connect(port, self()) end
    end

    assert_raise ArgumentError, "no port: #{inspect(self())}", fn -> SafePort.info(self()) end

    port = SafePort.open(@cat, [])
    message = "data must be iodata, got: [:data]"
    assert_raise ArgumentError, message, fn -> SafePort.command(port, [:data]) end
    assert SafePort.close(port)
  end
end
