//! When the callbacks of a driver are called: the rows of the contract's table, section 12.

mod driver_support;

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use driver_support::probe::global_calls;
use driver_support::{open, open_with, opening, runner, Opened, Script, Seen, DEAD, LONG, OWNER};
use safe_port_core::driver::{
    Bytes, CallError, CloseMode, CommandError, CommandMode, Failure, Library, OpenError, Options, Reason,
    Runner, StartRefusal, UnloadMode,
};
use safe_port_driver::{BadArg, Driver, Key, PortHandle, Ready, StartError, Term};

probe!(Plain, "plain");
probe!(Acking, "acking", INIT_ACK: bool = true);
probe!(Globally, "globally");

fn plain() -> Runner {
    runner(&[Library::builtin::<Plain>()])
}

fn stopped(port: &Opened) {
    port.called(&["stop"]);
    port.sees(&Seen::Closed);
    port.quiet();
}

#[test]
fn init_is_called_once_before_anything_else_and_finish_last() {
    let runner = runner(&[Library::builtin::<Globally>()]);
    assert_eq!(global_calls("globally"), ["globally init"]);
    let ports = [open(&runner, "globally", Script::new()), open(&runner, "globally", Script::new())];
    runner.shut_down(Duration::ZERO, LONG);
    for port in ports {
        port.sees(&Seen::Failed(Reason::Unloaded));
        stopped(&port);
    }
    assert_eq!(global_calls("globally"), ["globally init", "globally finish"]);
}

#[test]
fn start_gets_the_whole_command_and_knows_the_opener() {
    let runner = plain();
    let (sender, caller) = bounded(1);
    let script = Script::new().start(move |port| {
        sender.send((port.caller(), port.connected())).unwrap();
        Ok(())
    });
    let port = open(&runner, "plain", script);
    let (caller, connected) = caller.recv().unwrap();
    assert!(caller.is_some());
    assert_eq!(caller, connected);
    assert!(port.port.is_open());
}

#[test]
fn start_that_fails_makes_no_port_and_no_stop() {
    let runner = plain();
    let cases = [
        (StartError::General, StartRefusal::General),
        (StartError::Errno(28), StartRefusal::Errno(28)),
        (StartError::BadArg, StartRefusal::BadArg),
    ];
    for (error, refusal) in cases {
        let mut port =
            opening(&runner, "plain", Options::default(), Script::new().start(move |_| Err(error)));
        assert_eq!(port.reply.take().unwrap().wait().unwrap(), Err(refusal));
        port.called(&["start"]);
        port.quiet();
        assert!(!port.port.is_open());
        assert_eq!(port.port.command(vec![], OWNER, CommandMode::Refuse), Err(CommandError::Closed));
        assert_eq!(runner.list()[0].ports, 0);
    }
}

#[test]
fn a_start_that_panics_is_refused_with_the_message() {
    let runner = plain();
    let script = Script::new().start(|_| panic!("no luck"));
    let mut port = opening(&runner, "plain", Options::default(), script);
    let refusal = StartRefusal::Panic("no luck".to_owned());
    assert_eq!(port.reply.take().unwrap().wait().unwrap(), Err(refusal));
}

#[test]
fn an_unknown_or_empty_name_opens_nothing() {
    let runner = plain();
    for command in ["unknown x", "", " plain", "plainer"] {
        assert!(!runner.has_driver(command.as_bytes()), "{command}");
    }
    assert!(runner.has_driver(b"plain"));
    assert!(runner.has_driver(b"plain\targument"));
    let (seen, _events) = crossbeam_channel::unbounded();
    let owner = Arc::new(driver_support::Owner::new(seen));
    let result = runner.open(b"unknown", Options::default(), OWNER, owner);
    assert!(matches!(result, Err(OpenError::NoDriver)));
}

#[test]
fn a_driver_with_init_ack_opens_when_it_says_so() {
    let runner = runner(&[Library::builtin::<Acking>()]);
    let script = Script::new()
        .start(|port| {
            port.set_timer(Duration::from_millis(1));
            Ok(())
        })
        .on("timeout", |port, _| port.ack_start(Ok(())));
    let port = open(&runner, "acking", script);
    port.called(&["timeout"]);
    let script = Script::new()
        .start(|port| {
            port.set_timer(Duration::from_millis(1));
            Ok(())
        })
        .on("timeout", |port, _| port.ack_start(Err(StartError::Errno(2))));
    let mut port = opening(&runner, "acking", Options::default(), script);
    assert_eq!(port.reply.take().unwrap().wait().unwrap(), Err(StartRefusal::Errno(2)));
    port.called(&["start", "timeout"]);
    stopped(&port);
}

#[test]
fn output_is_called_once_per_command_in_order() {
    let runner = plain();
    let port = open(&runner, "plain", Script::new());
    for number in 0..100 {
        port.command(&number.to_string());
    }
    for number in 0..100 {
        port.called(&[&format!("output {number}")]);
    }
    assert_eq!(port.port.info().output, 190);
}

#[test]
fn output_gets_the_pieces_of_a_command_joined() {
    let runner = plain();
    let port = open(&runner, "plain", Script::new());
    let pieces = vec![Bytes::from(&b"ab"[..]), Bytes::from(&b""[..]), Bytes::from(&b"c"[..])];
    port.port.command(pieces, OWNER, CommandMode::Refuse).unwrap();
    port.called(&["output abc"]);
    port.port.command(vec![], OWNER, CommandMode::Refuse).unwrap();
    port.called(&["output "]);
}

/// Keeps what it is sent, and tells where it is in memory.
struct Keeper {
    kept: Vec<Bytes>,
}

impl Driver for Keeper {
    const NAME: &'static str = "keeper";

    fn start(_port: &PortHandle, _command: &[u8]) -> Result<Keeper, StartError> {
        Ok(Keeper { kept: Vec::new() })
    }

    fn output(&mut self, _port: &PortHandle, _data: &[u8]) {
        panic!("output beside outputv");
    }

    fn outputv(&mut self, port: &PortHandle, data: Vec<Bytes>) {
        port.enqv(&data, 1);
        self.kept.extend(data);
    }

    fn control(&mut self, port: &PortHandle, _op: u32, _data: &[u8]) -> Result<Vec<u8>, BadArg> {
        let places =
            self.kept.iter().chain(&port.peekq()).map(|piece| piece.as_ptr() as u64).collect::<Vec<_>>();
        Ok(places.iter().flat_map(|place| place.to_ne_bytes()).collect())
    }
}

#[test]
fn outputv_gets_the_pieces_as_they_are_and_keeps_and_queues_them_without_a_copy() {
    let runner = runner(&[Library::builtin::<Keeper>()]);
    let (seen, _events) = crossbeam_channel::unbounded();
    let owner = Arc::new(driver_support::Owner::new(seen));
    let opening = runner.open(b"keeper", Options::default(), OWNER, owner).unwrap();
    opening.started.wait().unwrap().unwrap();
    let pieces = [Bytes::from(&b"ab"[..]), Bytes::from(&b"cd"[..])];
    let [first, second] = [0, 1].map(|index| pieces[index].as_ptr() as u64);
    opening.port.command(pieces.to_vec(), OWNER, CommandMode::Refuse).unwrap();
    drop(pieces);
    let reply = opening.port.control(0, Bytes::from(&b""[..]), OWNER).wait().unwrap();
    let places: Vec<u64> =
        reply.bytes.chunks(8).map(|place| u64::from_ne_bytes(place.try_into().unwrap())).collect();
    // Two that it keeps, and two in the queue, whose first byte was skipped.
    assert_eq!(places, [first, second, first + 1, second]);
    assert_eq!(opening.port.info().queue_size, 3);
}

#[test]
fn stop_is_called_once_when_the_port_is_closed() {
    let runner = plain();
    for mode in [CloseMode::Flush, CloseMode::Kill, CloseMode::Force] {
        let port = open(&runner, "plain", Script::new());
        port.port.close(mode);
        port.port.close(mode);
        stopped(&port);
        port.port.close(mode);
        assert_eq!(port.port.command(vec![], OWNER, CommandMode::Refuse), Err(CommandError::Closed));
        assert_eq!(port.port.control(0, Bytes::from(&b""[..]), OWNER).wait(), Err(CallError::Closed));
        port.quiet();
    }
}

#[test]
fn commands_sent_before_the_close_come_before_the_stop() {
    let runner = plain();
    let port = open(&runner, "plain", Script::new());
    port.command("a");
    port.command("b");
    port.port.close(CloseMode::Flush);
    port.called(&["output a", "output b"]);
    stopped(&port);
}

#[test]
fn d6_ready_input_is_called_as_long_as_there_is_something_to_read() {
    let runner = plain();
    let (near, far) = UnixStream::pair().unwrap();
    let near = Arc::new(near);
    let source = Arc::clone(&near);
    let script = Script::new().start(move |port| Ok(port.select(&source, Ready::READ)?)).on(
        "ready_input",
        move |_, _| {
            // One byte at a time: the rest makes it ready again.
            let mut byte = [0];
            std::io::Read::read_exact(&mut &*near, &mut byte).unwrap();
        },
    );
    let port = open(&runner, "plain", script);
    std::io::Write::write_all(&mut &far, b"abc").unwrap();
    port.called(&["ready_input", "ready_input", "ready_input"]);
    port.control(0);
    port.quiet();
}

#[test]
fn d6_ready_output_is_called_until_it_is_deselected() {
    let runner = plain();
    let (near, _far) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    let near = Arc::new(near);
    let mut calls = 0;
    let script = Script::new().start(move |port| Ok(port.select(&near, Ready::BOTH)?)).on(
        "ready_output",
        move |port, given| {
            assert_eq!(given, fd.to_ne_bytes());
            calls += 1;
            if calls == 3 {
                port.deselect(fd, Ready::WRITE);
            }
        },
    );
    let port = open(&runner, "plain", script);
    port.called(&["ready_output", "ready_output", "ready_output"]);
    port.control(0);
    port.quiet();
}

#[test]
fn d11_control_replies_in_the_form_that_the_driver_has_set() {
    let runner = plain();
    let script = Script::new().control(|port, op, data| {
        port.set_control_binary(op == 2);
        let mut reply = op.to_be_bytes().to_vec();
        reply.extend(data);
        Ok(reply)
    });
    let port = open(&runner, "plain", script);
    for (op, binary) in [(u32::MAX, false), (2, true), (0, false)] {
        let reply = port.port.control(op, Bytes::from(&b"data"[..]), OWNER).wait().unwrap();
        assert_eq!(reply.bytes[..], [&op.to_be_bytes()[..], b"data"].concat());
        assert_eq!(reply.binary, binary);
    }
}

#[test]
fn control_and_call_without_an_answer_are_bad_arguments() {
    let runner = plain();
    let port = open(&runner, "plain", Script::new().control(|_, _, _| Err(BadArg)));
    let empty = || Bytes::from(&b""[..]);
    assert_eq!(port.port.control(1, empty(), OWNER).wait(), Err(CallError::BadArg));
    let term = Bytes::from(Term::from(1).encode().unwrap());
    assert_eq!(port.port.call(1, term, OWNER).wait(), Err(CallError::BadArg));
    assert_eq!(port.port.call(1, empty(), OWNER).wait(), Err(CallError::BadArg));
    assert!(port.port.is_open());
}

#[test]
fn call_takes_a_term_and_replies_with_one() {
    let runner = plain();
    let script =
        Script::new().call(|port, term| Ok(Term::tuple([term, Term::from(port.caller().is_some())])));
    let port = open(&runner, "plain", script);
    let call = |term: &[u8]| port.port.call(7, Bytes::from(term), OWNER).wait();
    let reply = call(&Term::atom("x").encode().unwrap()).unwrap();
    assert_eq!(Term::decode(&reply), Ok(Term::tuple([Term::atom("x"), Term::from(true)])));
    assert_eq!(call(b"no term"), Err(CallError::BadArg));
}

#[test]
fn an_answer_that_is_no_term_is_a_bad_argument() {
    let runner = plain();
    let port = open(&runner, "plain", Script::new().call(|_, _| Ok(Term::from(f64::NAN))));
    let term = Bytes::from(Term::from(1).encode().unwrap());
    assert_eq!(port.port.call(0, term, OWNER).wait(), Err(CallError::BadArg));
}

#[test]
fn an_answer_that_is_too_large_is_refused_with_its_size() {
    let runner = plain();
    let bytes = safe_port_core::driver::MAX_REPLY_BYTES;
    let script = Script::new().control(move |_, op, _| Ok(vec![0; bytes + op as usize]));
    let port = open(&runner, "plain", script);
    let control = |op| port.port.control(op, Bytes::from(&b""[..]), OWNER).wait();
    assert_eq!(control(1), Err(CallError::TooLarge(bytes + 1)));
    assert_eq!(control(0).unwrap().bytes.len(), bytes);
}

#[test]
fn d4_timeout_is_called_once_per_timer() {
    let runner = plain();
    let port = open(
        &runner,
        "plain",
        Script::new().control(|port, op, _| {
            port.set_timer(Duration::from_millis(op.into()));
            Ok(Vec::new())
        }),
    );
    port.control(1);
    port.called(&["timeout"]);
    // The second replaces the first.
    port.control(100_000);
    assert_eq!(port.control(1), b"");
    port.called(&["timeout"]);
    port.port.close(CloseMode::Flush);
    stopped(&port);
}

#[test]
fn d5_ready_async_gets_the_results_of_jobs_with_one_key_in_order() {
    let runner = plain();
    let script = Script::new().on("output", |port, data| {
        let text = String::from_utf8_lossy(data).into_owned();
        port.run(Key::Port, move || format!("done {text}"));
    });
    let port = open(&runner, "plain", script);
    let numbers: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for number in &numbers {
        port.command(number);
    }
    let mut results = Vec::new();
    while results.len() < numbers.len() {
        let call = port.calls.recv_timeout(LONG).unwrap();
        results.extend(call.strip_prefix("ready_async done ").map(str::to_owned));
    }
    assert_eq!(results, numbers);
}

/// Reports when it is dropped.
struct Dropped(crossbeam_channel::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn d5_ready_async_is_not_called_when_the_port_has_stopped_before() {
    let runner = plain();
    let (go, wait) = bounded::<()>(0);
    let (sender, dropped) = bounded(1);
    let script = Script::new().start(move |port| {
        port.run(Key::None, move || {
            let _ = wait.recv();
            Dropped(sender)
        });
        Ok(())
    });
    let port = open(&runner, "plain", script);
    port.port.close(CloseMode::Flush);
    stopped(&port);
    go.send(()).unwrap();
    dropped.recv_timeout(LONG).unwrap();
    port.quiet();
}

#[test]
fn d7_process_exit_is_called_with_the_monitor_still_valid() {
    let runner = plain();
    let script = Script::new().start(|port| {
        let dead = port.pid_from_term(&Term::from(DEAD)).unwrap();
        assert!(port.monitor(dead).is_none());
        let pid = port.pid_from_term(&Term::from(7)).unwrap();
        let monitor = port.monitor(pid).unwrap();
        assert_eq!(monitor.pid(), pid);
        Ok(())
    });
    let port = open(&runner, "plain", script);
    let Seen::Monitor(monitor) = port.events.recv().unwrap() else { panic!("no monitor") };
    assert_eq!(port.port.info().monitors, [7]);
    port.port.process_exited(monitor);
    port.called(&["process_exit true"]);
    port.sees(&Seen::Demonitor(monitor));
    assert!(port.port.info().monitors.is_empty());
    port.port.process_exited(monitor);
    port.control(0);
    port.quiet();
}

#[test]
fn d7_monitors_are_dropped_when_the_port_stops() {
    let runner = plain();
    let script = Script::new().start(|port| {
        let pid = port.pid_from_term(&Term::from(7)).unwrap();
        assert!(port.monitor(pid).is_some());
        Ok(())
    });
    let port = open(&runner, "plain", script);
    let Seen::Monitor(monitor) = port.events.recv().unwrap() else { panic!("no monitor") };
    port.port.close(CloseMode::Flush);
    port.sees(&Seen::Demonitor(monitor));
    stopped(&port);
    port.port.process_exited(monitor);
    port.quiet();
}

#[test]
fn d6_stop_select_is_called_in_release_or_after_stop() {
    let runner = plain();
    let pair = || UnixStream::pair().map(|(near, far)| (Arc::new(near), far)).unwrap();
    let ((first, _far), (second, _other)) = (pair(), pair());
    let fds = [first.as_raw_fd(), second.as_raw_fd()];
    let stop_selects = move || fds.map(|fd| global_calls(&format!("stop_select {fd} ")).len());
    let before = stop_selects();
    let weak = [Arc::downgrade(&first), Arc::downgrade(&second)];
    let (sender, inside) = bounded(1);
    let script = Script::new()
        .start(move |port| {
            port.select(&first, Ready::READ)?;
            Ok(port.select(&second, Ready::READ)?)
        })
        .on("output", move |port, _| {
            port.release(fds[0]);
            sender.send(stop_selects()).unwrap();
        });
    let port = open(&runner, "plain", script);
    port.command("");
    assert_eq!(inside.recv().unwrap(), [before[0] + 1, before[1]]);
    port.called(&["output "]);
    port.port.close(CloseMode::Flush);
    stopped(&port);
    assert_eq!(stop_selects(), [before[0] + 1, before[1] + 1]);
    assert!(weak.iter().all(|source| source.upgrade().is_none()));
}

#[test]
fn d2_d3_an_end_of_file_or_a_failure_calls_stop_and_no_flush() {
    let runner = plain();
    let failures = [
        (1, Failure::Eof),
        (2, Failure::Code(42)),
        (3, Failure::Atom("reason".to_owned())),
        (4, Failure::Errno(32)),
        (5, Failure::Exit(0)),
    ];
    for (op, failure) in failures {
        let script = Script::new().control(|port, op, _| {
            port.enq(&b"in the queue"[..]);
            match op {
                1 => port.fail(0),
                2 => port.fail(42),
                3 => port.fail_atom("reason"),
                4 => port.fail_posix(32),
                _ => port.exit(0),
            }
            // What comes after the first failure does not count.
            port.output(b"dropped");
            port.fail_atom("another");
            Ok(Vec::new())
        });
        let port = open(&runner, "plain", script);
        port.control(op);
        port.sees(&Seen::Failed(Reason::Driver(failure)));
        stopped(&port);
    }
}

#[test]
fn d2_with_the_eof_option_the_port_stays_open_at_its_end() {
    let runner = plain();
    let options = Options { eof: true, ..Options::default() };
    let script = Script::new().on("output", |port, _| port.fail_eof());
    let port = open_with(&runner, "plain", options, script);
    port.command("1");
    port.command("2");
    port.called(&["output 1", "output 2"]);
    port.sees(&Seen::Eof);
    port.control(0);
    port.quiet();
    assert!(port.port.is_open());
}

#[test]
fn no_port_can_be_opened_of_a_runner_that_was_shut_down() {
    let runner = plain();
    runner.shut_down(Duration::ZERO, LONG);
    assert!(!runner.has_driver(b"plain"));
    assert!(runner.unload("plain", UnloadMode::Wait).wait().unwrap().is_err());
}
