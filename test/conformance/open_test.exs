defmodule SafePort.Conformance.OpenTest do
  use SafePort.Test.Conformance, async: true

  # Section 1: the names that open/2 takes

  ## {:spawn, command}

  same "O1", "a command line is the shell's: quotes, globs, variables, backslashes, redirection", subject do
    folder = tmp_dir()
    File.write!(Path.join(folder, "one.txt"), "")
    File.write!(Path.join(folder, "two.txt"), "")

    command = ~S(printf '[%s]' 'a   b' "c  d" e\ f $WORD *.txt > out; true)
    port = open(subject, {:spawn, command}, [:exit_status, :binary, cd: folder, env: [{'WORD', 'w'}]])

    assert result(port) == {"", 0}
    assert File.read!(Path.join(folder, "out")) == "[a   b][c  d][e f][w][one.txt][two.txt]"
  end

  same "O1", "the shell is called sh", subject do
    port = open(subject, {:spawn, ~S(printf %s "$0")}, [:binary, :exit_status])
    assert result(port) == {"sh", 0}
  end

  same "O1", "the shell has the program's environment", subject do
    port = open(subject, {:spawn, ~S(printf %s "$WORD")}, [:binary, :exit_status, env: [{'WORD', 'w'}]])
    assert result(port) == {"w", 0}
  end

  same "O2", "only the first simple command runs, as it is exec'd", subject do
    for command <- ["echo a; echo b | cat", "echo a\necho b", "  \t echo a && echo b"] do
      port = open(subject, {:spawn, command}, [:binary, :exit_status])
      assert {command, result(port)} == {command, {"a\n", 0}}
    end
  end

  same "O3", "assignments, builtins and keywords are not found", subject do
    for command <- ["VAR=x echo", "cd /", "exit 3", "if true"] do
      port = open(subject, {:spawn, command}, [:binary, :exit_status, :stderr_to_stdout])
      assert {message, 127} = result(port)
      assert message =~ "not found"
    end
  end

  same "O3", "a subshell is a syntax error", subject do
    port = open(subject, {:spawn, "( echo a )"}, [:binary, :exit_status, :stderr_to_stdout])
    assert {message, 2} = result(port)
    assert message =~ "yntax error"
  end

  same "O3", "an empty command ends at once", subject do
    for command <- ["", "   ", "\t"] do
      port = open(subject, {:spawn, command}, [:binary, :exit_status])
      assert result(port) == {"", 0}
    end
  end

  same "O4", "an unknown program is the shell's affair: status 127", subject do
    port = open(subject, {:spawn, "no_such_program_at_all"}, [:binary, :exit_status, :stderr_to_stdout])
    assert {message, 127} = result(port)
    assert message =~ "not found"
  end

  same "O4", "a file that is not executable, and a folder, give status 126", subject do
    folder = tmp_dir()
    file = Path.join(folder, "plain")
    File.write!(file, "echo a")

    for path <- [file, folder] do
      port = open(subject, {:spawn, path}, [:binary, :exit_status, :stderr_to_stdout])
      assert {_message, 126} = result(port)
    end
  end

  same "O4", "without :exit_status a failure shows only as a normal exit", subject do
    port = open(subject, {:spawn, "no_such_program_at_all 2>/dev/null"})
    assert_exit(port, :normal)
  end

  same "O5", "a PATH in :env decides where the shell looks", subject do
    folder = tmp_dir()
    script(folder, "only_here", "#!/bin/sh\necho found\n")
    path = String.to_charlist(folder)

    port = open(subject, {:spawn, "only_here"}, [:binary, :exit_status, env: [{'PATH', path}]])
    assert result(port) == {"found\n", 0}

    port = open(subject, {:spawn, "only_here"}, [:binary, :exit_status, :stderr_to_stdout, env: []])
    assert {_message, 127} = result(port)
  end

  same "O5", "an executable text without an interpreter line is run by the shell", subject do
    path = script(tmp_dir(), "text", "echo interpreted\n")
    port = open(subject, {:spawn, path}, [:binary, :exit_status])
    assert result(port) == {"interpreted\n", 0}
  end

  cannot "O6", "the names of the VM's own drivers come first for Port only", subject do
    port = open(subject, {:spawn, "ram_file_drv foo"}, [:stderr_to_stdout])

    case subject do
      Port ->
        assert subject.info(port, :os_pid) == {:os_pid, :undefined}
        assert subject.close(port)
        assert_exit(port, :normal)

      SafePort ->
        assert {:os_pid, os_pid} = subject.info(port, :os_pid)
        assert is_integer(os_pid)
        assert [{:data, message}, {:EXIT, :normal}] = trace(port)
        assert List.to_string(message) =~ "ram_file_drv"
    end
  end

  same "O7", "a command is a binary, an atom, or a list of characters of any depth", subject do
    for command <- ["echo x", 'echo x', :"echo x", ['echo ', ['x']], [?e, [?c, [?h, [?o]]], [[[]]], 32, ?x]] do
      port = open(subject, {:spawn, command}, [:binary, :exit_status])
      assert result(port) == {"x\n", 0}
    end
  end

  same "O7", "anything else is refused, also the empty list and lists that hold binaries", subject do
    for command <- [[], ["echo x"], ['echo ', "x"], [?e | ?x], [:echo], 1, 1.0, {}, %{}, self(), fn -> 1 end] do
      assert {command, raised(fn -> subject.open({:spawn, command}, []) end)} == {command, ArgumentError}
      assert {command, raised(fn -> subject.open({:spawn_executable, command}, []) end)} == {command, ArgumentError}
    end
  end

  same "O8", "characters are encoded as UTF-8, binaries are passed as they are", subject do
    port = open(subject, {:spawn, 'printf %s äß→𝄞'}, [:binary, :exit_status])
    assert result(port) == {"äß→𝄞", 0}

    port = open(subject, {:spawn, "printf %s " <> <<0xFF, 0xFE, 0x80>>}, [:binary, :exit_status])
    assert result(port) == {<<0xFF, 0xFE, 0x80>>, 0}

    port = open(subject, {:spawn, :"printf %s ä"}, [:binary, :exit_status])
    assert result(port) == {"ä", 0}
  end

  same "O8", "what is no character is refused", subject do
    for character <- [0x110000, 0xD800, 0xDFFF, -1, 0x1_0000_0000] do
      assert raised(fn -> subject.open({:spawn, [?e, character]}, []) end) == ArgumentError
    end
  end

  same "O9", "a list of characters must not hold NUL", subject do
    assert raised(fn -> subject.open({:spawn, 'echo\0 x'}, []) end) == ArgumentError
    assert raised(fn -> subject.open({:spawn_executable, '/bin/echo\0'}, []) end) == ArgumentError

    for option <- [{:args, ['a\0b']}, {:arg0, 'a\0b'}, {:cd, '/\0'}, {:env, [{'A', 'b\0'}]}, {:env, [{'A\0', 'b'}]}] do
      assert {option, raised(fn -> subject.open({:spawn_executable, "/bin/true"}, [option]) end)} ==
               {option, ArgumentError}
    end
  end

  better "O9", "NUL in a binary cuts the text for Port, and is refused by SafePort", subject do
    texts = [
      {{:spawn, "echo a\0b"}, []},
      {{:spawn_executable, "/bin/echo\0b"}, args: ["a"]},
      {{:spawn_executable, "/bin/echo"}, args: ["a\0b"]},
      {{:spawn_executable, "/bin/echo"}, args: ["a"], arg0: "echo\0b"},
      {{:spawn_executable, "/bin/echo"}, args: ["a"], cd: "/\0no/such/folder"}
    ]

    for {name, options} <- texts do
      case subject do
        Port -> assert result(open(subject, name, [:binary, :exit_status | options])) == {"a\n", 0}
        SafePort -> assert raised(fn -> subject.open(name, options) end) == ArgumentError
      end
    end
  end

  ## {:spawn_executable, file}

  same "O10", "the file runs without shell and without PATH", subject do
    port = open(subject, {:spawn_executable, "/bin/echo"}, [:binary, :exit_status, args: ["$HOME", "*", "a  b;"]])
    assert result(port) == {"$HOME * a  b;\n", 0}
  end

  same "O10", "the file is a binary, an atom, or a list of characters of any depth", subject do
    for file <- ["/bin/echo", '/bin/echo', :"/bin/echo", ['/bin', ['/', [?e | 'cho']]]] do
      port = open(subject, {:spawn_executable, file}, [:binary, :exit_status, args: ["x"]])
      assert result(port) == {"x\n", 0}
    end
  end

  same "O10", "a path may hold blanks and any character", subject do
    path = script(tmp_dir(), "a program – ä", "#!/bin/sh\necho here\n")

    for file <- [path, String.to_charlist(path)] do
      port = open(subject, {:spawn_executable, file}, [:binary, :exit_status])
      assert result(port) == {"here\n", 0}
    end
  end

  same "O11", "what cannot be executed raises its error number at open", subject do
    folder = tmp_dir()
    plain = Path.join(folder, "plain")
    File.write!(plain, "")
    File.chmod!(plain, 0o644)
    ring = Path.join(folder, "ring")
    File.ln_s!(ring, ring)

    failures = [
      {"", :enoent},
      {"echo", :enoent},
      {"/no/such/file", :enoent},
      {plain, :eacces},
      {plain <> "/below", :enotdir},
      {"/bin/" <> String.duplicate("a", 300), :enametoolong},
      {"/" <> String.duplicate("a/", 3000), :enametoolong},
      {ring, :eloop}
    ]

    for {file, reason} <- failures do
      assert {file, raised(fn -> subject.open({:spawn_executable, file}, []) end)} == {file, reason}
    end

    refute_received {:EXIT, _port, _reason}
  end

  better "O12", "a folder is found to be no program after the start by Port, at open by SafePort", subject do
    open = fn -> open(subject, {:spawn_executable, tmp_dir()}, [:binary, :exit_status]) end

    case subject do
      Port -> assert result(open.()) == {"", 13}
      SafePort -> assert raised(open) == :eacces
    end
  end

  same "O13", "a relative file must exist in the VM's folder", subject do
    folder = tmp_dir()
    script(folder, "program", "#!/bin/sh\necho here\n")
    assert raised(fn -> subject.open({:spawn_executable, "./program"}, cd: folder) end) == :enoent
  end

  better "O13", "a relative file must exist in the folder of :cd, which SafePort checks at open", subject do
    folder = tmp_dir()
    here = File.cwd!()
    # A path to /bin/echo from the VM's folder, which leads nowhere from a deeper one.
    relative = String.duplicate("../", length(Path.split(here)) - 1) <> "bin/echo"
    deeper = Path.join([folder | List.duplicate("deeper", length(Path.split(here)))])
    File.mkdir_p!(deeper)

    port = open(subject, {:spawn_executable, relative}, [:binary, :exit_status, args: ["x"]])
    assert result(port) == {"x\n", 0}

    open = fn -> open(subject, {:spawn_executable, relative}, [:binary, :exit_status, cd: deeper]) end

    case subject do
      Port -> assert result(open.()) == {"", 2}
      SafePort -> assert raised(open) == :enoent
    end
  end

  better "O14", "what exec refuses is an exit status of Port, and raises in SafePort", subject do
    folder = tmp_dir()
    without_interpreter = script(folder, "one", "#!/no/such/interpreter\n")
    text = script(folder, "two", "echo a\n")
    empty = script(folder, "three", "")
    broken = script(folder, "four", "\x7FELF and no more")
    long = String.duplicate("a", 200_000)

    failures = [
      {without_interpreter, [], 2, :enoent},
      {text, [], 8, :enoexec},
      {empty, [], 8, :enoexec},
      {broken, [], 8, :enoexec},
      {"/bin/true", [args: [long]], 7, :e2big},
      {"/bin/true", [env: [{'LONG', String.to_charlist(long)}]], 7, :e2big},
      {"/bin/true", [args: List.duplicate(String.duplicate("a", 100_000), 100)], 7, :e2big}
    ]

    for {file, options, status, reason} <- failures do
      open = fn -> open(subject, {:spawn_executable, file}, [:binary, :exit_status | options]) end

      case subject do
        Port -> assert result(open.()) == {"", status}
        SafePort -> assert raised(open) == reason
      end
    end
  end

  ## {:spawn_driver, command}

  same "O15", "unknown drivers, and names that are no text, are refused", subject do
    for command <- ["no_such_driver", "no_such_driver with arguments", "", [], 1, ["a"]] do
      assert raised(fn -> subject.open({:spawn_driver, command}, []) end) == ArgumentError
    end
  end

  same "O15", ":exit_status and :args are refused", subject do
    for option <- [:exit_status, {:args, []}, {:arg0, "a"}] do
      assert raised(fn -> subject.open({:spawn_driver, "ram_file_drv"}, [option]) end) == ArgumentError
    end
  end

  cannot "O15", "the VM's drivers start in Port only; SafePort has drivers of its own", subject do
    open = fn -> subject.open({:spawn_driver, "ram_file_drv and arguments"}, []) end

    case subject do
      Port ->
        port = open.()
        assert subject.info(port, :name) == {:name, 'ram_file_drv and arguments'}
        assert subject.close(port)
        assert_exit(port, :normal)

      SafePort ->
        assert raised(open) == ArgumentError
    end
  end

  ## {:fd, in, out}

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
    assert subject.info(port, :name) == {:name, '901/901'}
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
    assert %{^input => _, ^output => _} = Proc.descriptors(vm())
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
    assert_receive {^port, {:data, {:eol, 'a line'}}}
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
    assert read_all(pipe.outside, byte_size(data), []) == data
  end

  ## other names

  better "O19", "a bare file name opens a file in Port, and is refused by SafePort", subject do
    file = Path.join(tmp_dir(), "file")
    File.write!(file, "content")

    case subject do
      Port ->
        port = Port.open(String.to_charlist(file), [:binary])
        assert trace(port) == [{:data, "content"}, {:EXIT, :normal}]
        assert raised(fn -> Port.open('/no/such/file', []) end) == :einval

      SafePort ->
        assert raised(fn -> SafePort.open(String.to_charlist(file), []) end) == ArgumentError
        assert raised(fn -> SafePort.open(String.to_atom(file), []) end) == ArgumentError
    end
  end

  same "O20", "anything else is refused", subject do
    names = ["echo", {}, {:spawn}, {:spawn, "echo", []}, {:other, "echo"}, {"spawn", "echo"}, 1, 1.5, %{}, self(), make_ref()]

    for name <- names do
      assert {name, raised(fn -> subject.open(name, []) end)} == {name, ArgumentError}
    end
  end

  ## open/2

  same "O21", "returns when the program has its process id", subject do
    port = open(subject, {:spawn, "cat"})
    assert {:os_pid, os_pid} = subject.info(port, :os_pid)
    assert Proc.exists?(os_pid)
  end

  same "O21", "raises :emfile when the VM is out of descriptors", subject do
    %{result: result, output: output} =
      in_vm subject, shell: "ulimit -n 200" do
        open_all = fn open_all, count ->
          try do
            subject.open({:spawn, "cat"}, [])
          rescue
            error in ErlangError -> {count, error.original}
          else
            _port -> open_all.(open_all, count + 1)
          end
        end

        open_all.(open_all, 0)
      end

    assert {count, :emfile} = result, output
    assert count in 20..99
  end

  cannot "O21", "raises SystemLimitError when there is no room for a port, which is a process for SafePort", subject do
    %{result: result, output: output} =
      in_vm subject, erl: "+Q 1024 +P 1024" do
        # Ports of the VM's own fill Port's table, processes SafePort's.
        fill = fn fill ->
          try do
            if subject == Port, do: Port.open({:spawn_driver, "ram_file_drv"}, []), else: spawn(fn -> receive do: (:never -> :ok) end)
          rescue
            SystemLimitError -> :full
          else
            _one_more -> fill.(fill)
          end
        end

        :full = fill.(fill)

        try do
          subject.open({:spawn, "cat"}, [])
        rescue
          error -> error.__struct__
        end
      end

    assert result == SystemLimitError, output
  end

  cannot "O22", "a SafePort is counted as a process, not as a port", subject do
    port = open(subject, {:spawn, "cat"})
    assert port in :erlang.ports() == (subject == Port)
    assert port in Process.list() == (subject == SafePort)
    assert :erlang.system_info(:port_limit) >= 1024
  end

  same "O23", "a command may follow at once, also behind a large environment", subject do
    large = for number <- 1..20, do: {'LARGE_#{number}', List.duplicate(?x, 10_000)}
    port = open(subject, {:spawn, "cat"}, [:binary, env: large])
    assert subject.command(port, "hello")
    assert read(port, 5) == "hello"
  end

  same "O24", "links the caller and makes it the owner", subject do
    port = open(subject, {:spawn, "cat"})
    {:links, links} = Process.info(self(), :links)
    assert port in links
    assert subject.info(port, :connected) == {:connected, self()}
    assert subject.info(port, :links) == {:links, [self()]}
  end

  cannot "O25", "raises ArgumentError for what is malformed, with a text of its own", subject do
    error = assert_raise ArgumentError, fn -> subject.open({:spawn, "cat"}, [:nonsense]) end

    case subject do
      Port -> assert Exception.message(error) =~ "invalid option"
      SafePort -> assert Exception.message(error) =~ ":nonsense"
    end

    error = assert_raise ArgumentError, fn -> subject.open({:nonsense, "cat"}, []) end

    case subject do
      Port -> assert Exception.message(error) =~ "invalid port name"
      SafePort -> assert Exception.message(error) =~ "{:nonsense, \"cat\"}"
    end

    port = open(subject, {:spawn, "cat"})
    subject.close(port)
    assert_exit(port, :normal)
    assert_raise ArgumentError, fn -> subject.command(port, "x") end
    assert_raise ArgumentError, fn -> subject.close(port) end
    assert_raise ArgumentError, fn -> subject.connect(port, self()) end
  end

  same "O26", "the program runs, however soon the port goes", subject do
    folder = tmp_dir()

    goodbyes = [
      close: &subject.close/1,
      exit: &Process.exit(&1, :gone),
      kill: &Process.exit(&1, :kill),
      owner: fn _port -> exit(:normal) end,
      owner_killed: fn _port -> Process.exit(self(), :kill) end
    ]

    files =
      for {name, goodbye} <- goodbyes, number <- 1..5 do
        file = Path.join(folder, "#{name}_#{number}")
        tag = tag()

        {owner, monitor} =
          spawn_monitor(fn ->
            port = subject.open({:spawn_executable, "/bin/sh"}, args: ["-c", "echo > \"$1\"", "sh", file], env: [tag])
            Process.unlink(port)
            if name in [:owner, :owner_killed], do: Process.link(port)
            goodbye.(port)
          end)

        assert_receive {:DOWN, ^monitor, :process, ^owner, _reason}, 5_000
        file
      end

    for file <- files, do: Proc.wait_until("#{file} is there", fn -> File.exists?(file) end)
  end

  # The number of the VM's own process.
  defp vm, do: String.to_integer(System.pid())

  # Two named pipes of this VM: what is written to `inside` comes from the descriptor `input`, and what is written to
  # `output` comes from `outside`.
  defp pipes do
    folder = tmp_dir()

    [inside, outside] =
      for name <- ["inside", "outside"] do
        file = Path.join(folder, name)
        Proc.run("mkfifo", [file])
        {:ok, handle} = open_pipe(file, [:read, :write])
        handle
      end

    {descriptor(inside), descriptor(outside), %{inside: inside, outside: outside}}
  end

  # Files that are no regular files are refused otherwise.
  defp open_pipe(file, modes), do: :prim_file.open(file, [:raw, :binary, :skip_type_check | modes])

  defp descriptor(handle) do
    <<number::native-32>> = :prim_file.get_handle(handle)
    number
  end

  defp read_all(_handle, 0, read), do: read |> Enum.reverse() |> IO.iodata_to_binary()

  defp read_all(handle, left, read) do
    case :prim_file.read(handle, left) do
      {:ok, data} -> read_all(handle, left - byte_size(data), [data | read])
      # The port's descriptors are non-blocking while it is open.
      {:error, :eagain} -> read_all(handle, left, read)
    end
  end
end
