defmodule SafePort.Flow.ReceiveTest do
  # Reading in the owner's own context: who may, how a wait ends, and that it leaves nothing behind.
  use SafePort.Test.Conformance, async: true

  defp cat(options \\ []), do: open(SafePort, {:spawn, "cat"}, [:binary, active: false] ++ options)

  # An actor that waits in a read.
  defp wait(actor, function) do
    reference = Actor.ask(actor, function)

    Proc.wait_until("the reader waits", fn ->
      Process.info(actor.pid, :current_function) ==
        {:current_function, {SafePort.Core.Client, :await_readable, 4}}
    end)

    reference
  end

  defp assert_no_messages, do: assert(Process.info(self(), :messages) == {:messages, []})

  describe "a timeout" do
    test "leaves no message, however close the data comes" do
      port = cat()

      for number <- 1..500 do
        SafePort.command(port, "x")
        assert read_with(port, rem(number, 2)) == "x"
      end

      assert_no_messages()
      finish(SafePort)
    end

    defp read_with(port, timeout) do
      case SafePort.recv(port, timeout) do
        {:ok, data} -> data
        {:error, :timeout} -> read_with(port, timeout)
      end
    end

    test "loses nothing, and the next read goes on" do
      port = cat(packet: 2)
      assert SafePort.recv(port, 0) == {:error, :timeout}
      assert SafePort.recv_batch(port, 1) == {:error, :timeout}
      assert SafePort.request(port, "a", 5_000) == {:ok, "a"}
      SafePort.command(port, "b")
      SafePort.command(port, "c")
      assert SafePort.recv(port) == {:ok, "b"}
      assert SafePort.recv(port) == {:ok, "c"}
      finish(SafePort)
    end

    test "of a request leaves the answer to the next read" do
      gate = gate()
      script = "read go < \"$1\"; cat"
      port = open_sh(SafePort, script, [:binary, packet: 1, active: false, argv: [gate]])
      assert SafePort.request(port, "late", 0) == {:error, :timeout}
      open_gate(gate)
      assert SafePort.recv(port) == {:ok, "late"}
      finish(SafePort)
    end
  end

  describe "the end" do
    test "comes after the last data, and what is told of it follows" do
      port = open_sh(SafePort, "printf 'a\\nb'; exit 3", [:binary, :line, :exit_status, active: false])
      assert SafePort.recv(port) == {:ok, {:eol, "a"}}
      assert SafePort.recv(port) == {:ok, {:noeol, "b"}}
      assert SafePort.recv(port) == {:error, :closed}
      assert trace(port) == [{:exit_status, 3}, {:EXIT, :normal}]
      assert SafePort.recv(port) == {:error, :closed}
      assert SafePort.recv_batch(port, 0) == {:error, :closed}
      finish(SafePort)
    end

    test "leaves no message of a wait that two things ended at once" do
      for _program <- 1..100 do
        port = open_sh(SafePort, "echo last", [:binary, active: false])
        assert SafePort.recv(port) == {:ok, "last\n"}
        assert SafePort.recv(port) == {:error, :closed}
        assert_receive {:EXIT, ^port, :normal}, 5_000
      end

      assert_no_messages()
      finish(SafePort)
    end

    test "of the program ends a wait while another process holds the pipe" do
      gate = gate()
      options = [:binary, active: false, orphans: :leave, argv: [gate]]
      port = open_sh(SafePort, "(read go < \"$1\") & exit 0", options)
      assert SafePort.recv(port) == {:error, :closed}
      assert_receive {:EXIT, ^port, :normal}, 5_000
      open_gate(gate)
      finish(SafePort)
    end

    test "is told to a reader also after the last message that was asked for" do
      for mode <- [true, :once, 1] do
        port = open(SafePort, {:spawn, "cat"}, [:binary, :eof, active: mode])
        SafePort.command(port, "x")
        assert_receive {^port, {:data, "x"}}, 5_000
        SafePort.setopts(port, active: true)
        if mode == 1, do: assert_receive({^port, :passive}, 5_000)
        SafePort.close_stdin(port)
        assert_receive {^port, :eof}, 5_000
        assert SafePort.recv(port) == {:error, :closed}
      end

      finish(SafePort)
    end

    test "with :eof can be asked for again and again" do
      port = open(SafePort, {:spawn, "echo x"}, [:binary, :eof, active: false])
      assert SafePort.recv(port) == {:ok, "x\n"}
      for _again <- 1..3, do: assert(SafePort.recv(port) == {:error, :closed})
      assert_receive {^port, :eof}, 5_000
      finish(SafePort)
    end

    for {what, ending} <- [
          {"closed", quote(do: &SafePort.close/1)},
          {"killed", quote(do: &Process.exit(&1, :kill))},
          {"closed while its queue is flushed", quote(do: &SafePort.Flow.ReceiveTest.close_full/1)}
        ] do
      test "of a port that is #{what} ends a wait" do
        reader = Actor.start(trap_exit: true)
        gate = gate()

        port =
          Actor.run(reader, fn ->
            SafePort.open({:spawn_executable, "/bin/sh"}, [
              :binary,
              active: false,
              args: ["-c", "read go < \"$1\"; cat > /dev/null", "sh", gate]
            ])
          end)

        answer = wait(reader, fn -> SafePort.recv(port) end)
        unquote(ending).(port)
        assert await_answer(answer) == {:ok, {:error, :closed}}
        Proc.wait_until("the port is gone", fn -> not Process.alive?(port) end)
        open_gate(gate)
        assert [{:EXIT, ^port, _reason}] = Actor.messages(reader)
        finish(SafePort)
      end
    end
  end

  @doc false
  def close_full(port) do
    SafePort.command(port, :binary.copy("x", 1_000_000))
    SafePort.close(port)
  end

  describe "only the owner reads" do
    test "a stranger is refused" do
      port = cat()
      stranger = Actor.start()
      assert Actor.run(stranger, fn -> SafePort.recv(port) end) == {:error, :not_owner}
      assert Actor.run(stranger, fn -> SafePort.recv_batch(port, 0) end) == {:error, :not_owner}
      assert Actor.run(stranger, fn -> SafePort.request(port, "") end) == {:error, :not_owner}
      finish(SafePort)
    end

    test "a request whose reply would not reach its caller is not sent" do
      port = cat()
      stranger = Actor.start()
      assert Actor.run(stranger, fn -> SafePort.request(port, "stranger") end) == {:error, :not_owner}
      SafePort.setopts(port, active: true)
      assert SafePort.request(port, "active") == {:error, :einval}
      SafePort.setopts(port, active: false)
      assert SafePort.request(port, "owner") == {:ok, "owner"}
      SafePort.close(port)
      assert_receive {:EXIT, ^port, :normal}
      assert SafePort.request(port, "late") == {:error, :closed}
      finish(SafePort)
    end

    test "beside a reader that waits, a second one is refused, and the first goes on" do
      port = cat()
      reader = Actor.start()
      SafePort.connect(port, reader.pid)
      answer = wait(reader, fn -> SafePort.recv(port) end)
      assert SafePort.recv(port) == {:error, :not_owner}
      SafePort.command(port, "x")
      assert await_answer(answer) == {:ok, {:ok, "x"}}
      finish(SafePort)
    end

    test "an owner that waits is told when there is another one, and the new one reads" do
      port = cat()
      reader = Actor.start()
      SafePort.connect(port, reader.pid)
      answer = wait(reader, fn -> SafePort.recv(port) end)
      SafePort.connect(port, self())
      assert await_answer(answer) == {:ok, {:error, :not_owner}}
      SafePort.command(port, "x")
      assert SafePort.recv(port) == {:ok, "x"}
      assert Actor.messages(reader) == []
      finish(SafePort)
    end

    test "the new owner may read as soon as the old one is told" do
      for _turn <- 1..50 do
        port = cat()
        other = Actor.start()
        send(port, {self(), {:connect, other.pid}})
        assert_receive {^port, :connected}, 5_000
        assert Actor.run(other, fn -> SafePort.recv(port, 0) end) == {:error, :timeout}
      end

      finish(SafePort)
    end
  end

  describe "only a passive port is read from" do
    test "an active one refuses" do
      port = open(SafePort, {:spawn, "cat"}, [:binary])
      assert SafePort.recv(port) == {:error, :einval}
      assert SafePort.recv_batch(port, 0) == {:error, :einval}
      finish(SafePort)
    end

    test "a reader that waits is told when the port becomes active" do
      port = cat()
      reader = Actor.start()
      SafePort.connect(port, reader.pid)
      answer = wait(reader, fn -> SafePort.recv(port) end)
      assert SafePort.setopts(port, active: true) == :ok
      assert await_answer(answer) == {:ok, {:error, :einval}}
      SafePort.command(port, "x")
      Proc.wait_until("the data is there", fn -> Actor.messages(reader) == [{port, {:data, "x"}}] end)
      finish(SafePort)
    end

    for mode <- [:once, 1] do
      test "the last message of #{inspect(mode)} allows it" do
        port = cat(packet: 1)

        for _turn <- 1..300 do
          assert SafePort.setopts(port, active: unquote(mode)) == :ok
          SafePort.command(port, "a")
          SafePort.command(port, "b")
          assert_receive {^port, {:data, "a"}}, 5_000
          assert SafePort.recv(port) == {:ok, "b"}
          if unquote(mode) == 1, do: assert_receive({^port, :passive}, 5_000)
        end

        finish(SafePort)
      end
    end
  end

  test "a regular file is read to its end" do
    file = Path.join(tmp_dir(), "file")
    File.write!(file, "one\ntwo")

    %{result: result, output: output} =
      in_vm SafePort, shell: "exec 5<'#{file}'" do
        port = subject.open({:fd, 5, 5}, [:in, :binary, :line, :eof, active: false])
        for _read <- 1..3, do: subject.recv(port, 5_000)
      end

    assert result == [{:ok, {:eol, "one"}}, {:ok, {:noeol, "two"}}, {:error, :closed}], output
  end

  for wrong <- [-1, 1.5, :soon, 0x1_0000_0000] do
    test "#{inspect(wrong)} is no timeout" do
      port = cat()
      message = "timeout must be :infinity or 0 to 4294967295 (ms), got: #{inspect(unquote(wrong))}"
      assert_raise ArgumentError, message, fn -> SafePort.recv(port, unquote(wrong)) end
      assert_raise ArgumentError, message, fn -> SafePort.recv_batch(port, unquote(wrong)) end
      assert_raise ArgumentError, message, fn -> SafePort.request(port, "", unquote(wrong)) end
      finish(SafePort)
    end
  end
end
