defmodule SafePort.Conformance.OpenStartTest do
  use SafePort.Test.Conformance, async: true

  # Section 1, continued: what open/2 does beside looking at names

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

  cannot "O21",
         "raises SystemLimitError when there is no room for a port, which is a process for SafePort",
         subject do
    %{result: result, output: output} =
      in_vm subject, erl: "+Q 1024 +P 1024" do
        # Ports of the VM's own fill Port's table, processes SafePort's.
        fill = fn fill ->
          try do
            if subject == Port,
              do: Port.open({:spawn_driver, "ram_file_drv"}, []),
              else: spawn(fn -> receive do: (:never -> :ok) end)
          rescue
            SystemLimitError -> :full
          else
            _one_more -> fill.(fill)
          end
        end

        # The code is loaded now, which takes processes.
        subject.close(subject.open({:spawn, "cat"}, []))
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
    large = for number <- 1..20, do: {~c"LARGE_#{number}", List.duplicate(?x, 10_000)}
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
            port =
              subject.open({:spawn_executable, "/bin/sh"},
                args: ["-c", "echo > \"$1\"", "sh", file],
                env: [tag]
              )

            Process.unlink(port)
            if name in [:owner, :owner_killed], do: Process.link(port)
            goodbye.(port)
          end)

        assert_receive {:DOWN, ^monitor, :process, ^owner, _reason}, 5_000
        file
      end

    for file <- files, do: Proc.wait_until("#{file} is there", fn -> File.exists?(file) end)
  end
end
