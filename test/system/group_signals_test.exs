defmodule SafePort.System.GroupSignalsTest do
  use SafePort.Test.Tree, async: true

  # What a terminal sends to the foreground group, and a service manager to all processes of a service.
  for signal <- ["INT", "TERM", "HUP"] do
    test "the whole tree ends when SIG#{signal} goes to the VM's group and to the guardian", %{tag: tag} do
      in_vm_with_tree tag, bind: [signal: unquote(signal)] do
        guardian = SafePort.Core.Native.guardian_pid()
        everything = "-#{Proc.stat(Proc.vm()).pgid} #{guardian} #{Proc.stat(guardian).ppid}"
        # From another group, so that the sender does not hit itself before it is done.
        System.cmd("/bin/sh", ["-c", "exec setsid kill -#{signal} -- #{everything}"])
        receive do: (:never -> :ok)
      end
    end
  end

  test "signals do not end the guardian, nor its sentinel, while the VM is there", %{tag: tag} do
    %{result: result, output: output} =
      in_vm_with_tree tag do
        guardian = SafePort.Core.Native.guardian_pid()
        sentinel = Proc.stat(guardian).ppid

        for name <- ~w(INT TERM HUP QUIT USR1 USR2 PIPE ALRM TSTP),
            os_pid <- [guardian, sentinel],
            do: Proc.signal(os_pid, name)

        SafePort.close(tree.port)
        await_ended(tree)
        {Proc.alive?(sentinel), SafePort.Core.Native.guardian_pid() == guardian}
      end

    assert result == {true, true}, output
  end
end
