defmodule SafePort.Conformance.OpenTest do
  use SafePort.Test.Conformance, async: true

  # Section 1: the names that open/2 takes

  ## {:spawn, command}

  same "O1", "a command line is the shell's: quotes, globs, variables, backslashes, redirection", subject do
    folder = tmp_dir()
    File.write!(Path.join(folder, "one.txt"), "")
    File.write!(Path.join(folder, "two.txt"), "")

    command = ~S(printf '[%s]' 'a   b' "c  d" e\ f $WORD *.txt > out; true)
    port = open(subject, {:spawn, command}, [:exit_status, :binary, cd: folder, env: [{~c"WORD", ~c"w"}]])

    assert result(port) == {"", 0}
    assert File.read!(Path.join(folder, "out")) == "[a   b][c  d][e f][w][one.txt][two.txt]"
  end

  same "O1", "the shell is called sh", subject do
    port = open(subject, {:spawn, ~S(printf %s "$0")}, [:binary, :exit_status])
    assert result(port) == {"sh", 0}
  end

  same "O1", "the shell has the program's environment", subject do
    port = open(subject, {:spawn, ~S(printf %s "$WORD")}, [:binary, :exit_status, env: [{~c"WORD", ~c"w"}]])
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

    port = open(subject, {:spawn, "only_here"}, [:binary, :exit_status, env: [{~c"PATH", path}]])
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
        # It is the shell's affair.
        assert [{:data, message}, {:EXIT, :normal}] = trace(port)
        assert List.to_string(message) =~ "ram_file_drv"
    end
  end

  same "O7", "a command is a binary, an atom, or a list of characters of any depth", subject do
    for command <- [
          "echo x",
          ~c"echo x",
          :"echo x",
          [~c"echo ", [~c"x"]],
          [?e, [?c, [?h, [?o]]], [[[]]], 32, ?x]
        ] do
      port = open(subject, {:spawn, command}, [:binary, :exit_status])
      assert result(port) == {"x\n", 0}
    end
  end

  same "O7", "anything else is refused, also the empty list and lists that hold binaries", subject do
    for command <- [
          [],
          ["echo x"],
          [~c"echo ", "x"],
          [?e | ?x],
          [:echo],
          1,
          1.0,
          {},
          %{},
          self(),
          fn -> 1 end
        ] do
      assert {command, raised(fn -> subject.open({:spawn, command}, []) end)} == {command, ArgumentError}

      assert {command, raised(fn -> subject.open({:spawn_executable, command}, []) end)} ==
               {command, ArgumentError}
    end
  end

  same "O8", "characters are encoded as UTF-8, binaries are passed as they are", subject do
    port = open(subject, {:spawn, ~c"printf %s äß→𝄞"}, [:binary, :exit_status])
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
    assert raised(fn -> subject.open({:spawn, ~c"echo\0 x"}, []) end) == ArgumentError
    assert raised(fn -> subject.open({:spawn_executable, ~c"/bin/echo\0"}, []) end) == ArgumentError

    for option <- [
          {:args, [~c"a\0b"]},
          {:arg0, ~c"a\0b"},
          {:cd, ~c"/\0"},
          {:env, [{~c"A", ~c"b\0"}]},
          {:env, [{~c"A\0", ~c"b"}]}
        ] do
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
    port =
      open(subject, {:spawn_executable, "/bin/echo"}, [:binary, :exit_status, args: ["$HOME", "*", "a  b;"]])

    assert result(port) == {"$HOME * a  b;\n", 0}
  end

  same "O10", "the file is a binary, an atom, or a list of characters of any depth", subject do
    for file <- ["/bin/echo", ~c"/bin/echo", :"/bin/echo", [~c"/bin", [~c"/", [?e | ~c"cho"]]]] do
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
      {"/bin/true", [env: [{~c"LONG", String.to_charlist(long)}]], 7, :e2big},
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
        assert subject.info(port, :name) == {:name, ~c"ram_file_drv and arguments"}
        assert subject.close(port)
        assert_exit(port, :normal)

      SafePort ->
        assert raised(open) == ArgumentError
    end
  end

  ## other names

  better "O19", "a bare file name opens a file in Port, and is refused by SafePort", subject do
    file = Path.join(tmp_dir(), "file")
    File.write!(file, "content")

    case {subject, System.otp_release()} do
      {Port, "25"} ->
        port = Port.open(String.to_charlist(file), [:binary])
        assert trace(port) == [{:data, "content"}, {:EXIT, :normal}]
        assert raised(fn -> Port.open(~c"/no/such/file", []) end) == :einval

      {Port, _later} ->
        # From OTP 27 at the latest it is refused as well.
        :ok

      {SafePort, _any} ->
        assert raised(fn -> SafePort.open(String.to_charlist(file), []) end) == ArgumentError
        assert raised(fn -> SafePort.open(String.to_atom(file), []) end) == ArgumentError
    end
  end

  same "O20", "anything else is refused", subject do
    names = [
      "echo",
      {},
      {:spawn},
      {:spawn, "echo", []},
      {:other, "echo"},
      {"spawn", "echo"},
      1,
      1.5,
      %{},
      self(),
      make_ref()
    ]

    for name <- names do
      assert {name, raised(fn -> subject.open(name, []) end)} == {name, ArgumentError}
    end
  end
end

defmodule SafePort.Conformance.OpenAloneTest do
  # Changes the working directory and the environment of the VM.
  use SafePort.Test.Conformance, async: false

  same "O5", "a PATH set in the VM counts from the next open on", subject do
    folder = tmp_dir()
    script(folder, "only_here", "#!/bin/sh\necho found\n")
    path = System.get_env("PATH")

    try do
      System.put_env("PATH", folder <> ":" <> path)
      assert result(open(subject, {:spawn, "only_here"}, [:binary, :exit_status])) == {"found\n", 0}
    after
      System.put_env("PATH", path)
    end

    assert {_message, 127} =
             result(open(subject, {:spawn, "only_here"}, [:binary, :exit_status, :stderr_to_stdout]))
  end

  same "O13", "a relative file is looked for from the VM's folder", subject do
    before = File.cwd!()
    folder = tmp_dir()
    script(folder, "program", "#!/bin/sh\necho here\n")

    try do
      File.cd!(folder)

      for file <- ["./program", "program"],
          do:
            assert(result(open(subject, {:spawn_executable, file}, [:binary, :exit_status])) == {"here\n", 0})
    after
      File.cd!(before)
    end
  end
end
