defmodule SafePort.Conformance.OpenFdTest do
  use SafePort.Test.Conformance, async: true

  # Section 1, continued: descriptors of the VM itself

  same "O16", "descriptors are small integers", subject do
    for name <- [{:fd, 0}, {:fd}, {:fd, 0, 1, 2}, {:fd, "0", 1}, {:fd, 0, :b}, {:fd, 0.0, 1}, {:fd, nil, nil}] do
      assert {name, raised(fn -> subject.open(name, []) end)} == {name, ArgumentError}
    end

    for name <- [{:fd, -1, 1}, {:fd, 0, -1}, {:fd, 0x7FFF_FFFF, 1}, {:fd, 0, 0x7FFF_FFFF}] do
      assert {name, raised(fn -> subject.open(name, []) end)} == {name, :einval}
    end
  end

  same "O16", "a closed descriptor is not noticed by reading", subject do
    port = open(subject, {:fd, 901, 901}, [:in])
    assert subject.info(port, :name) == {:name, ~c"901/901"}
    assert subject.close(port)
    assert_exit(port, :normal)
  end

  same "O16", "writing to a closed descriptor ends the port", subject do
    port = open(subject, {:fd, 902, 902}, [:out])
    assert subject.command(port, "x")
    assert_exit(port, :ebadf)
  end

  same "O17", "data comes in and goes out", subject do
    {input, output, pipe} = pipes()
    port = open(subject, {:fd, input, output}, [:binary])
    assert subject.info(port, :name) == {:name, String.to_charlist("#{input}/#{output}")}
    assert subject.info(port, :os_pid) == {:os_pid, :undefined}

    assert :prim_file.write(pipe.inside, "from outside") == :ok
    assert read(port, 12) == "from outside"
    assert subject.command(port, "from inside")
    assert :prim_file.read(pipe.outside, 11) == {:ok, "from inside"}
  end

  same "O17", "closing the port leaves the descriptors open", subject do
    {input, output, _pipe} = pipes()
    port = open(subject, {:fd, input, output})
    assert subject.close(port)
    assert_exit(port, :normal)
    assert %{^input => _, ^output => _} = Proc.descriptors(Proc.vm())
  end

  same "O17", "packets, lines and directions work", subject do
    {input, output, pipe} = pipes()
    port = open(subject, {:fd, input, output}, [:binary, packet: 2])
    assert subject.command(port, "abc")
    assert :prim_file.read(pipe.outside, 5) == {:ok, <<0, 3, "abc">>}
    assert :prim_file.write(pipe.inside, <<0, 2, "xy", 0, 0>>) == :ok
    assert_receive {^port, {:data, "xy"}}
    assert_receive {^port, {:data, ""}}
    subject.close(port)
    assert_exit(port, :normal)

    port = open(subject, {:fd, input, output}, [:in, line: 80])
    assert :prim_file.write(pipe.inside, "a line\n") == :ok
    assert_receive {^port, {:data, {:eol, ~c"a line"}}}
    subject.close(port)
    assert_exit(port, :normal)
  end

  same "O17", "the end of the file is a normal exit, or :eof", subject do
    for {options, expected} <- [{[], [{:data, "all"}, {:EXIT, :normal}]}, {[:eof], [{:data, "all"}, :eof]}] do
      file = Path.join(tmp_dir(), "pipe")
      Proc.run("mkfifo", [file])
      {:ok, both} = open_pipe(file, [:read, :write])
      {:ok, reader} = open_pipe(file, [:read])
      :ok = :prim_file.write(both, "all")
      :ok = :prim_file.close(both)

      port = open(subject, {:fd, descriptor(reader), descriptor(reader)}, [:binary, :in | options])
      assert trace(port, if(options == [], do: :exit, else: :eof)) == expected
      if options == [:eof], do: subject.close(port) && assert_exit(port, :normal)
      :prim_file.close(reader)
    end
  end

  same "O17", ":exit_status, :args and :arg0 are refused", subject do
    for option <- [:exit_status, {:args, []}, {:arg0, "a"}] do
      assert raised(fn -> subject.open({:fd, 0, 1}, [option]) end) == ArgumentError
    end
  end

  same "O18", "what is queued is flushed at close", subject do
    {input, output, pipe} = pipes()
    data = :binary.copy("0123456789", 20_000)
    port = open(subject, {:fd, input, output}, [:out])
    assert subject.command(port, data)
    assert subject.close(port)
    assert_exit(port, :normal)
    # By a descriptor of its own: the one that is shared with the port is non-blocking until the port lets go.
    assert Proc.run("head", ["-c", "#{byte_size(data)}", pipe.outside_path]) == data
  end

  # Two named pipes of this VM: what is written to `inside` comes from the descriptor `input`, and what is written to
  # `output` comes from `outside`.
  defp pipes do
    folder = tmp_dir()

    [{inside, _path}, {outside, outside_path}] =
      for name <- ["inside", "outside"] do
        file = Path.join(folder, name)
        Proc.run("mkfifo", [file])
        {:ok, handle} = open_pipe(file, [:read, :write])
        {handle, file}
      end

    {descriptor(inside), descriptor(outside), %{inside: inside, outside: outside, outside_path: outside_path}}
  end

  # Files that are no regular files are refused otherwise.
  defp open_pipe(file, modes), do: :prim_file.open(file, [:raw, :binary, :skip_type_check | modes])

  defp descriptor(handle) do
    <<number::native-32>> = :prim_file.get_handle(handle)
    number
  end
end
