defmodule SafePort.Test.Vm do
  @moduledoc """
  Running a block of code in a VM of its own, for what changes or ends the VM.
  """

  @marker "safe_port_result:"

  @doc """
  Runs `block` in a fresh VM, with `subject` bound to the module under test.

  Returns `%{result: value | nil, output: text, status: status}`: the value of the block, what came on standard output
  and standard error, and the exit status of the VM; the result is nil if the VM ended before.

  Options:

    * `:bind` - variables for the block, as a keyword list
    * `:shell` - commands for the shell that starts the VM, such as `"ulimit -n 200"`
    * `:erl` - flags of the emulator, such as `"+Q 1024"`
    * `:input` - a file for the VM's standard input; default `/dev/null`
  """
  defmacro in_vm(subject, options \\ [], do: block) do
    quote do
      SafePort.Test.Vm.run(unquote(subject), unquote(Macro.to_string(block)), unquote(options))
    end
  end

  @doc false
  def run(subject, code, options) do
    variables = Keyword.put(Keyword.get(options, :bind, []), :subject, subject)

    assignments =
      Enum.map_join(variables, fn {name, value} -> "#{name} = #{inspect(value, limit: :infinity)}\n" end)

    program = """
    #{if subject == SafePort, do: "{:ok, _} = Application.ensure_all_started(:safe_port)"}
    #{assignments}
    result = (#{code}
    )
    IO.puts(#{inspect(@marker)} <> Base.encode64(:erlang.term_to_binary(result)))
    """

    shell = """
    #{options[:shell]}
    exec timeout -s KILL 50 elixir #{if options[:erl], do: "--erl '#{options[:erl]}'"} #{paths()} -e "$1" <#{options[:input] || "/dev/null"} >"$2" 2>&1
    """

    # A file, because a pipe would be held by programs that survive the VM.
    file = Path.join(System.tmp_dir!(), "safe_port_vm_#{System.pid()}_#{System.unique_integer([:positive])}")

    try do
      args = ["-c", shell, "sh", program, file]
      {_nothing, status} = SafePort.Test.Proc.cmd("/bin/sh", args, env: [{"ERL_CRASH_DUMP_SECONDS", "0"}])
      {output, result} = file |> File.read!() |> split()
      %{result: result, output: output, status: status}
    after
      File.rm(file)
    end
  end

  # The folders of the modules under test and of this one.
  defp paths do
    [SafePort, __MODULE__]
    |> Enum.map(&:code.which/1)
    |> Enum.filter(&is_list/1)
    |> Enum.map(&Path.dirname/1)
    |> Enum.uniq()
    |> Enum.map_join(" ", &"-pa '#{&1}'")
  end

  defp split(output) do
    case String.split(output, @marker) do
      [output, result] ->
        [encoded | rest] = String.split(result, "\n", parts: 2)
        {Enum.join([output | rest]), encoded |> Base.decode64!() |> :erlang.binary_to_term()}

      [output] ->
        {output, nil}
    end
  end
end
