defmodule SafePort.Conformance.OptionsProgramTest do
  use SafePort.Test.Conformance, async: true

  # Section 2, continued: folder, environment and arguments of the program

  same "P9", "a folder is a binary, an atom or a list of characters", subject do
    folder = tmp_dir()

    for cd <- [folder, String.to_charlist(folder), String.to_atom(folder), [String.to_charlist(folder), []]] do
      assert result(open(subject, {:spawn, "pwd"}, [:binary, :exit_status, cd: cd])) == {folder <> "\n", 0}
    end

    for cd <- [1, {}, %{}, 1.0, ["/tmp"], [-1]] do
      assert {cd, raised(fn -> subject.open({:spawn, "pwd"}, cd: cd) end)} == {cd, ArgumentError}
    end
  end

  same "P9", "an empty list is no folder, and takes an earlier one back", subject do
    port = open(subject, {:spawn, "pwd"}, [:binary, :exit_status, cd: "/no/such/folder", cd: []])
    assert result(port) == {File.cwd!() <> "\n", 0}
  end

  same "P9", "a relative folder is relative to the VM's", subject do
    relative = String.duplicate("../", length(Path.split(File.cwd!())) - 1) <> "usr"
    assert result(open(subject, {:spawn, "pwd"}, [:binary, :exit_status, cd: relative])) == {"/usr\n", 0}
  end

  same "P9", "the variable PWD is left alone", subject do
    port = open(subject, {:spawn_executable, "/bin/cat"}, args: ["/proc/self/environ"], cd: "/usr")
    assert [{:data, environment}, {:EXIT, :normal}] = trace(port)
    pwd = Enum.find(String.split(List.to_string(environment), <<0>>), &String.starts_with?(&1, "PWD="))
    assert pwd == (System.get_env("PWD") && "PWD=" <> System.get_env("PWD"))
  end

  better "P10", "a bad folder becomes an exit status of Port, and raises in SafePort", subject do
    folder = tmp_dir()
    file = Path.join(folder, "file")
    File.write!(file, "")

    # In a VM of its own, because Port complains on standard error.
    %{result: result, output: output} =
      in_vm subject, bind: [bad: ["/no/such/folder", file, :no_such_folder, nil]] do
        for cd <- bad do
          try do
            port = subject.open({:spawn, "echo a"}, [:exit_status, cd: cd])

            receive do
              {^port, {:exit_status, status}} -> status
            end
          rescue
            error in ErlangError -> error.original
          end
        end
      end

    case subject do
      Port ->
        assert result == [2, 20, 2, 2], output
        assert output =~ "Could not cd to /no/such/folder\r\n"
        assert output =~ "Could not cd to nil\r\n"

      SafePort ->
        assert result == [:enoent, :enotdir, :enoent, :enoent], output
        assert output == ""
    end
  end

  better "P11", "an empty folder name is no folder for SafePort, and crashes Port's helper", subject do
    port = open(subject, {:spawn, "pwd"}, [:binary, :exit_status, cd: ""])

    case {subject, System.otp_release()} do
      {Port, "25"} -> assert result(port) == {"", 139}
      {Port, _later} -> trace(port)
      {SafePort, _any} -> assert result(port) == {File.cwd!() <> "\n", 0}
    end
  end

  same "P12", "a variable is a pair of character lists; false and the empty list remove it", subject do
    changes = [
      {~c"ONE", ~c"1"},
      {~c"TWO", ~c"2"},
      {~c"THREE", [~c"3", [?3]]},
      {~c"TWO", false},
      {~c"FOUR", ~c"4"},
      {~c"FOUR", []},
      {~c"NEVER_THERE", false}
    ]

    port =
      open(subject, {:spawn, ~S(printf '%s' "$ONE-$TWO-$THREE-$FOUR-")}, [:binary, :exit_status, env: changes])

    assert result(port) == {"1--33--", 0}
  end

  same "P12", "the environment is a proper list of pairs; atoms are no text", subject do
    wrong = [
      :a,
      nil,
      %{},
      {~c"A", ~c"b"},
      [:a],
      [~c"A"],
      [{~c"A"}],
      [{~c"A", ~c"b", ~c"c"}],
      [{~c"A", ~c"b"} | :c],
      [{~c"A", nil}],
      [{~c"A", true}]
    ]

    wrong =
      wrong ++
        [
          [{~c"A", :b}],
          [{:A, ~c"b"}],
          [{nil, ~c"b"}],
          [{~c"A", 1}],
          [{1, ~c"b"}],
          [{~c"A", [~c"b", -1]}],
          [{~c"A", ["b"]}]
        ]

    for env <- wrong do
      assert {env, raised(fn -> subject.open({:spawn, "cat"}, env: env) end)} == {env, ArgumentError}
    end
  end

  better "P12", "SafePort takes binaries too, and with them empty values", subject do
    changes = [{"ONE", "1"}, {~c"TWO", "2"}, {"THREE", ~c"3"}, {"EMPTY", ""}, {"HOME", false}]
    open = fn -> open(subject, {:spawn_executable, "/usr/bin/env"}, [:binary, :exit_status, env: changes]) end

    case subject do
      Port ->
        # Later releases may take them.
        if System.otp_release() == "25", do: assert(raised(open) == ArgumentError)

      SafePort ->
        {output, 0} = result(open.())
        lines = String.split(output, "\n")
        for line <- ["ONE=1", "TWO=2", "THREE=3", "EMPTY="], do: assert(line in lines)
        refute Enum.any?(lines, &String.starts_with?(&1, "HOME="))
    end
  end

  same "P13", "names hold neither = nor NUL, values may hold =", subject do
    for env <- [
          [{~c"A=B", ~c"c"}],
          [{~c"=A", ~c"b"}],
          [{~c"=", ~c"b"}],
          [{~c"A\0", ~c"b"}],
          [{~c"A", ~c"b\0"}]
        ] do
      assert {env, raised(fn -> subject.open({:spawn, "cat"}, env: env) end)} == {env, ArgumentError}
    end

    port =
      open(subject, {:spawn, ~S(printf %s "$A,$a")}, [
        :binary,
        :exit_status,
        env: [{~c"A", ~c"b=c="}, {~c"a", ~c"other"}]
      ])

    assert result(port) == {"b=c=,other", 0}
  end

  same "P13", "an empty name is accepted", subject do
    port =
      open(subject, {:spawn_executable, "/bin/cat"}, [
        :binary,
        :exit_status,
        args: ["/proc/self/environ"],
        env: [{[], ~c"b"}]
      ])

    {environment, 0} = result(port)
    assert "=b" in String.split(environment, <<0>>)
  end

  same "P14", "the last of several changes of a variable counts", subject do
    for {changes, expected} <- [
          {[{~c"A", ~c"1"}, {~c"A", ~c"2"}], "2"},
          {[{~c"A", ~c"1"}, {~c"A", false}], "unset"},
          {[{~c"A", false}, {~c"A", ~c"2"}], "2"},
          {[{~c"A", ~c"1"}, {~c"A", []}, {~c"A", ~c"3"}], "3"}
        ] do
      port = open(subject, {:spawn, ~S(printf %s "${A-unset}")}, [:binary, :exit_status, env: changes])
      assert {changes, result(port)} == {changes, {expected, 0}}
    end
  end

  same "P14", "a second :env replaces the first", subject do
    port =
      open(subject, {:spawn, ~S(printf %s "${A-unset}${B-unset}")}, [
        :binary,
        :exit_status,
        env: [{~c"A", ~c"1"}],
        env: [{~c"B", ~c"2"}]
      ])

    assert result(port) == {"unset2", 0}
  end

  same "P16", "characters of names and values are encoded as UTF-8", subject do
    options = [:binary, :exit_status, args: ["/proc/self/environ"], env: [{~c"GRÖSSE", ~c"äß→"}]]
    {environment, 0} = result(open(subject, {:spawn_executable, "/bin/cat"}, options))
    assert "GRÖSSE=äß→" in String.split(environment, <<0>>)
  end

  same "P17",
       "arguments are binaries, atoms or lists of characters, and reach the program as they are",
       subject do
    args = ["a b", ~c"ä→", :atom, "", [], [~c"de", [?e, ~c"p"]], <<0xFF, 0xFE>>, "*", "$HOME", nil]

    port =
      open(subject, {:spawn_executable, "/usr/bin/printf"}, [:binary, :exit_status, args: ["[%s]" | args]])

    expected = "[a b][ä→][atom][][][deep]" <> <<?[, 0xFF, 0xFE, ?]>> <> "[*][$HOME][nil]"
    assert result(port) == {expected, 0}
  end

  same "P17", "no argument is none", subject do
    for options <- [[args: []], []] do
      port = open(subject, {:spawn_executable, "/usr/bin/env"}, [:exit_status | options])
      assert [{:data, _environment}, {:exit_status, 0}, {:EXIT, :normal}] = trace(port)
    end
  end

  same "P17",
       "arguments go only with {:spawn_executable, file}, and only as a proper list of texts",
       subject do
    for args <- [[], ["a"]] do
      assert raised(fn -> subject.open({:spawn, "cat"}, args: args) end) == ArgumentError
    end

    for args <- ["a", :a, nil, 1, [1], ["a" | "b"], [["a"]], [{}], [1.0], [%{}]] do
      assert {args, raised(fn -> subject.open({:spawn_executable, "/bin/true"}, args: args) end)} ==
               {args, ArgumentError}
    end
  end

  same "P18", "the zeroth argument is the file as given, or :arg0", subject do
    echo = fn options ->
      result(open(subject, {:spawn_executable, "/bin/sh"}, [:binary, :exit_status | options]))
    end

    args = {:args, ["-c", ~S(tr '\0' '|' < /proc/$$/cmdline)]}

    assert {"/bin/sh|-c|" <> _rest, 0} = echo.([args])
    assert {"other|-c|" <> _rest, 0} = echo.([args, arg0: "other"])
    assert {"ä|-c|" <> _rest, 0} = echo.([{:arg0, ~c"ä"}, args])
    assert {"atom|-c|" <> _rest, 0} = echo.([{:arg0, :atom}, args])
    assert {"|-c|" <> _rest, 0} = echo.([args, arg0: ""])
    assert {"kept|-c|" <> _rest, 0} = echo.([{:arg0, "kept"}, {:args, ["-c", "exit 1"]}, args])
  end

  same "P18", "the zeroth argument goes only with {:spawn_executable, file}, and is a text", subject do
    assert raised(fn -> subject.open({:spawn, "cat"}, arg0: "a") end) == ArgumentError

    for arg0 <- [1, {}, ["a"], 1.0, [-1]] do
      assert {arg0, raised(fn -> subject.open({:spawn_executable, "/bin/true"}, arg0: arg0) end)} ==
               {arg0, ArgumentError}
    end
  end
end

defmodule SafePort.Conformance.OptionsProgramAloneTest do
  # Changes the environment of the VM.
  use SafePort.Test.Conformance, async: false

  better "P15", "the environment is the VM's of the moment; SafePort adds one variable", subject do
    name = "SAFE_PORT_P15"
    System.put_env(name, "seen")
    on_exit(fn -> System.delete_env(name) end)

    port = open(subject, {:spawn, "cat"})
    {:os_pid, os_pid} = subject.info(port, :os_pid)
    Proc.wait_until("cat runs", fn -> Proc.arguments(os_pid) == ["cat"] end)

    vm = for {key, value} <- System.get_env(), do: key <> "=" <> value
    # A shell sets these itself.
    shells = ["PWD=", "OLDPWD=", "_="]
    plain = fn entries -> entries |> Enum.reject(&String.starts_with?(&1, shells)) |> Enum.sort() end
    added = plain.(Proc.environment(os_pid)) -- plain.(vm)

    assert plain.(vm) -- plain.(Proc.environment(os_pid)) == []
    assert (name <> "=seen") in Proc.environment(os_pid)

    case subject do
      Port -> assert added == []
      SafePort -> assert ["SAFE_PORT_COOKIE=" <> _id] = added
    end
  end
end
