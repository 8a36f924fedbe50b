//! What a driver can do with its port: the functions D1 to D12 of the contract's section 12.

mod driver_support;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use driver_support::{open, open_with, runner, Script, Seen, DEAD, LONG, OWNER};
use safe_port_core::codec::Kind;
use safe_port_core::driver::{Bytes, CloseMode, CommandMode, Failure, Library, Options, Reason, Runner};
use safe_port_driver::{Key, Locking, PortHandle, Term};

probe!(Plain, "plain");
probe!(Together, "together", LOCKING: Locking = Locking::Driver);

fn plain() -> Runner {
    runner(&[Library::builtin::<Plain>()])
}

fn bytes(data: &[u8]) -> Vec<Bytes> {
    vec![Bytes::from(data)]
}

#[test]
fn d1_output_goes_to_the_owner_with_its_header() {
    let runner = plain();
    let script = Script::new().on("output", |port, data| {
        port.output(data);
        port.output2(b"hd", data);
        port.outputv(b"", &[&data[..1], &data[1..]]);
        port.outputv::<&[u8]>(b"h", &[]);
    });
    let port = open(&runner, "plain", script);
    port.command("data");
    port.sees(&Seen::Data(b"data".to_vec()));
    port.sees(&Seen::Headed(b"hd".to_vec(), b"data".to_vec()));
    port.sees(&Seen::Data(b"data".to_vec()));
    port.sees(&Seen::Headed(b"h".to_vec(), Vec::new()));
    port.called(&["output data"]);
    port.control(0);
    assert_eq!(port.port.info().input, 4 + 6 + 4 + 1);
}

#[test]
fn d1_output_in_line_mode_is_cut_into_lines() {
    let runner = plain();
    let script = Script::new().on("output", |port, data| {
        port.output(data);
        if data == b"end" {
            port.fail_eof();
        }
    });
    let port = open_with(&runner, "plain", Options { line: Some(4), ..Options::default() }, script);
    port.command("ab\ncdefg");
    port.command("h\r\nend");
    port.command("end");
    let line = |kind, line: &str| Seen::Line(kind, line.as_bytes().to_vec());
    for seen in [
        line(Kind::Eol, "ab"),
        line(Kind::Noeol, "cdef"),
        line(Kind::Eol, "gh"),
        line(Kind::Noeol, "ende"),
        line(Kind::Noeol, "nd"),
        Seen::Failed(Reason::Driver(Failure::Eof)),
        Seen::Closed,
    ] {
        port.sees(&seen);
    }
}

#[test]
fn d1_a_line_that_was_not_ended_is_lost_when_the_port_is_closed() {
    let runner = plain();
    let script = Script::new().on("output", PortHandle::output);
    let port = open_with(&runner, "plain", Options { line: Some(9), ..Options::default() }, script);
    port.command("rest");
    port.port.close(CloseMode::Flush);
    port.sees(&Seen::Closed);
}

#[test]
fn d4_the_timer_can_be_read_and_cancelled() {
    let runner = plain();
    let script = Script::new().control(|port, op, _| {
        match op {
            0 => port.cancel_timer(),
            ms => port.set_timer(Duration::from_millis(ms.into())),
        }
        Ok(vec![port.read_timer().map_or(0, |left| 1 + u8::from(left > Duration::from_secs(50)))])
    });
    let port = open(&runner, "plain", script);
    assert_eq!(port.control(60_000), [2]);
    assert_eq!(port.control(10_000), [1]);
    assert_eq!(port.control(0), [0]);
    assert_eq!(port.control(1).len(), 1);
    port.called(&["timeout"]);
}

#[test]
fn d4_a_timer_of_any_length_can_be_set() {
    let runner = plain();
    let port = open(
        &runner,
        "plain",
        Script::new().control(|port, _, _| {
            port.set_timer(Duration::MAX);
            Ok(vec![u8::from(port.read_timer().is_some())])
        }),
    );
    assert_eq!(port.control(0), [1]);
    port.port.close(CloseMode::Flush);
    port.called(&["stop"]);
}

#[test]
fn d5_jobs_without_a_key_run_side_by_side() {
    let runner = plain();
    // Each job waits until the other has begun.
    let (one, other) = (bounded::<()>(1), bounded::<()>(1));
    let script = Script::new().start(move |port| {
        let ((tell_one, hear_one), (tell_other, hear_other)) = (one, other);
        port.run(Key::None, move || {
            tell_one.send(()).unwrap();
            hear_other.recv_timeout(LONG).map(|()| "met".to_owned()).unwrap()
        });
        port.run(Key::None, move || {
            tell_other.send(()).unwrap();
            hear_one.recv_timeout(LONG).map(|()| "met".to_owned()).unwrap()
        });
        Ok(())
    });
    let port = open(&runner, "plain", script);
    port.called(&["ready_async met", "ready_async met"]);
}

#[test]
fn d5_jobs_with_a_shared_key_keep_their_order_across_ports() {
    let runner = plain();
    let (sender, done) = unbounded();
    let (go, wait) = bounded::<()>(0);
    let script = |number: u32| {
        let (sender, wait) = (sender.clone(), wait.clone());
        Script::new().on("output", move |port, _| {
            let (sender, wait) = (sender.clone(), wait.clone());
            port.run(Key::Shared(5), move || {
                if number == 0 {
                    let _ = wait.recv();
                }
                sender.send(number).unwrap();
                String::new()
            });
        })
    };
    let ports: Vec<_> = (0..3).map(|number| open(&runner, "plain", script(number))).collect();
    for port in &ports {
        port.command("");
        // Answered when the command has been dealt with, and its job handed over.
        port.control(0);
    }
    go.send(()).unwrap();
    let order: Vec<u32> = (0..3).map(|_| done.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn d5_a_job_that_panics_ends_its_port_with_the_message() {
    let runner = plain();
    let script = Script::new().start(|port| {
        port.run(Key::None, || -> u8 { panic!("job failed: {}", 7) });
        Ok(())
    });
    let port = open(&runner, "plain", script);
    port.sees(&Seen::Failed(Reason::Driver(Failure::Panic("job failed: 7".to_owned()))));
    port.called(&["stop"]);
    port.sees(&Seen::Closed);
}

#[test]
fn d7_a_monitor_can_be_taken_back_once() {
    let runner = plain();
    let script = Script::new().control(|port, _, _| {
        let pid = port.pid_from_term(&Term::from(7)).unwrap();
        let monitor = port.monitor(pid).unwrap();
        Ok(vec![u8::from(port.demonitor(monitor)), u8::from(port.demonitor(monitor))])
    });
    let port = open(&runner, "plain", script);
    assert_eq!(port.control(0), [1, 0]);
    let Seen::Monitor(monitor) = port.events.recv().unwrap() else { panic!("no monitor") };
    port.sees(&Seen::Demonitor(monitor));
    port.port.process_exited(monitor);
    port.control(0);
    assert!(port.calls.is_empty());
}

#[test]
fn d8_the_queue_takes_data_at_both_ends() {
    let runner = plain();
    let script = Script::new().control(|port, op, data| {
        match op {
            0 => port.enq(data),
            1 => port.pushq(data),
            2 => port.enqv(&[Bytes::from(data), Bytes::from(data)], 3),
            3 => port.pushqv(&[Bytes::from(data), Bytes::from(&b"|"[..])], 1),
            _ => return Ok(vec![port.deq(op as usize).map_or(255, |left| left as u8)]),
        }
        assert_eq!(port.peekq().concat().len(), port.sizeq());
        Ok(port.peekq().concat())
    });
    let port = open(&runner, "plain", script);
    let control = |op, data: &str| {
        port.port.control(op, Bytes::from(data.as_bytes()), OWNER).wait().unwrap().bytes.to_vec()
    };
    assert_eq!(control(0, "cd"), b"cd");
    assert_eq!(control(1, "ab"), b"abcd");
    assert_eq!(control(2, "xy"), b"abcdy");
    assert_eq!(control(3, "-+"), b"+|abcdy");
    assert_eq!(port.port.info().queue_size, 7);
    assert_eq!(control(8, ""), [255]);
    assert_eq!(control(4, ""), [3]);
    assert_eq!(control(0, ""), b"cdy");
}

#[test]
fn d8_the_queue_may_be_emptied_from_another_thread() {
    let runner = plain();
    let (sender, handle) = bounded(1);
    let script = Script::new().start(move |port| {
        port.enq(&b"data"[..]);
        sender.send(port.clone()).unwrap();
        Ok(())
    });
    let port = open(&runner, "plain", script);
    let handle = handle.recv().unwrap();
    port.port.close(CloseMode::Flush);
    port.called(&["flush"]);
    assert_eq!(handle.deq(4), Some(0));
    port.called(&["stop"]);
    port.sees(&Seen::Closed);
    // The handle outlives the port, and does nothing.
    handle.output(b"late");
    handle.set_timer(Duration::ZERO);
    handle.fail_eof();
    assert!(handle.connected().is_some());
    port.quiet();
}

#[test]
fn d10_terms_go_to_the_owner_and_to_any_process() {
    let runner = plain();
    let script = Script::new().control(|port, _, _| {
        let term = Term::tuple([Term::atom("hello"), Term::from(1)]);
        port.output_term(&term).unwrap();
        let alive = port.pid_from_term(&Term::from(7)).unwrap();
        let dead = port.pid_from_term(&Term::from(DEAD)).unwrap();
        assert_eq!(port.pid_to_term(alive), Some(Term::from(7)));
        assert!(port.output_term(&Term::from(f64::NAN)).is_err());
        let sent = [port.send_term(alive, &term).unwrap(), port.send_term(dead, &term).unwrap()];
        Ok(sent.map(u8::from).to_vec())
    });
    let port = open(&runner, "plain", script);
    assert_eq!(port.control(0), [1, 0]);
    let term = || Term::tuple([Term::atom("hello"), Term::from(1)]);
    port.sees(&Seen::Term(term()));
    port.sees(&Seen::Sent(7, term()));
    port.sees(&Seen::Sent(DEAD, term()));
}

#[test]
fn d10_terms_can_be_sent_from_a_thread_of_the_driver() {
    let runner = plain();
    let script = Script::new().start(|port| {
        let port = port.clone();
        std::thread::spawn(move || port.output_term(&Term::atom("from_afar")));
        Ok(())
    });
    let port = open(&runner, "plain", script);
    port.sees(&Seen::Term(Term::atom("from_afar")));
}

#[test]
fn d11_the_caller_is_known_in_calls_and_only_there() {
    let runner = plain();
    let (sender, callers) = unbounded();
    let report = move |port: &PortHandle| {
        let caller = port.caller().and_then(|pid| port.pid_to_term(pid)).and_then(|term| term.as_int());
        sender.send(caller).unwrap();
    };
    let (one, two, three) = (report.clone(), report.clone(), report);
    let script = Script::new()
        .on("output", move |port, _| one(port))
        .on("timeout", move |port, _| two(port))
        .control(move |port, _, _| {
            three(port);
            port.set_timer(Duration::ZERO);
            Ok(Vec::new())
        });
    let port = open(&runner, "plain", script);
    port.port.command(vec![], 11, CommandMode::Refuse).unwrap();
    port.port.control(0, Bytes::from(&b""[..]), 12).wait().unwrap();
    let seen: Vec<_> = (0..3).map(|_| callers.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(seen, [Some(11), Some(12), None]);
}

#[test]
fn d11_a_driver_can_make_another_port() {
    let runner = plain();
    let (sender, made) = bounded(1);
    let script = Script::new().control(move |port, op, _| {
        let owner = port.pid_from_term(&Term::from(if op == 0 { 7 } else { DEAD })).unwrap();
        let (log, calls) = unbounded();
        let script = Script::new().on("output", PortHandle::output);
        let driver = Plain(driver_support::probe::Probe::made(script, log));
        match port.create_port(owner, "clone", driver) {
            Ok(port) => {
                port.output(b"born");
                sender.send((port, calls)).unwrap();
                Ok(b"made".to_vec())
            }
            Err(_) => Ok(b"refused".to_vec()),
        }
    });
    let port = open(&runner, "plain", script);
    assert_eq!(port.control(1), b"refused");
    assert_eq!(runner.list()[0].ports, 1);
    assert_eq!(port.control(0), b"made");
    port.sees(&Seen::CreatePort(7, "clone".to_owned()));
    assert_eq!(runner.list()[0].ports, 2);
    let (_, calls) = made.recv().unwrap();
    let (clone, events) = port.made.lock().unwrap().pop().unwrap();
    assert_eq!(events.recv_timeout(LONG), Ok(Seen::Data(b"born".to_vec())));
    clone.command(bytes(b"x"), OWNER, CommandMode::Refuse).unwrap();
    assert_eq!(events.recv_timeout(LONG), Ok(Seen::Data(b"x".to_vec())));
    clone.close(CloseMode::Flush);
    assert_eq!(events.recv_timeout(LONG), Ok(Seen::Closed));
    assert_eq!(calls.iter().take(2).collect::<Vec<_>>(), ["output x", "stop"]);
    assert!(port.port.is_open());
}

#[test]
fn d11_the_os_pid_is_what_the_driver_says() {
    let runner = plain();
    let port = open(
        &runner,
        "plain",
        Script::new().control(|port, op, _| {
            port.set_os_pid(op);
            Ok(Vec::new())
        }),
    );
    assert_eq!(port.port.info().os_pid, None);
    port.control(4711);
    assert_eq!(port.port.info().os_pid, Some(4711));
}

#[test]
fn callbacks_of_all_ports_exclude_each_other_if_the_driver_wants_that() {
    let runner = runner(&[Library::builtin::<Together>(), Library::builtin::<Plain>()]);
    let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let script = || {
        let inside = Arc::clone(&inside);
        Script::new().on("output", move |port, _| {
            use std::sync::atomic::Ordering::SeqCst;
            let others = inside.fetch_add(1, SeqCst);
            std::thread::yield_now();
            inside.fetch_sub(1, SeqCst);
            port.output(&[others as u8]);
        })
    };
    let ports: Vec<_> = (0..4).map(|_| open(&runner, "together", script())).collect();
    for _ in 0..50 {
        for port in &ports {
            port.command("");
        }
    }
    for port in &ports {
        for _ in 0..50 {
            port.sees(&Seen::Data(vec![0]));
        }
        assert!(port.port.info().driver_locking);
    }
    assert!(!open(&runner, "plain", Script::new()).port.info().driver_locking);
}
