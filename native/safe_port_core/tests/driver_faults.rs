//! Drivers that panic, take long, or never come back: nothing but their own port suffers.

mod driver_support;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, Receiver, Sender};
use driver_support::{open, runner, Opened, Script, Seen, LONG, OWNER};
use safe_port_core::driver::{
    Bytes, CallError, CloseMode, Config, Failure, Library, Reason, Runner, UnloadMode, MAX_LOST_WORKERS,
    MAX_WORKERS,
};
use safe_port_driver::{Key, Locking, PortHandle, Ready, Term};

probe!(Plain, "plain");
probe!(Together, "together", LOCKING: Locking = Locking::Driver);

fn plain() -> Runner {
    runner(&[Library::builtin::<Plain>()])
}

fn nothing() -> Bytes {
    Bytes::from(&b""[..])
}

/// A script whose output callback does not return before the sender is used or dropped.
fn blocking() -> (Script, Sender<()>) {
    let (go, wait): (_, Receiver<()>) = bounded(0);
    let script = Script::new().on("output", move |_, _| {
        let _ = wait.recv();
    });
    (script, go)
}

fn panicked(port: &Opened, message: &str) {
    port.sees(&Seen::Failed(Reason::Driver(Failure::Panic(message.to_owned()))));
    port.sees(&Seen::Closed);
}

#[test]
fn a_panic_in_any_callback_ends_its_port_with_the_message_and_a_stop() {
    let runner = plain();
    let neighbour = open(&runner, "plain", Script::new().on("output", PortHandle::output));
    let (near, far) = UnixStream::pair().unwrap();
    let near = Arc::new(near);
    drop(far);
    let prepare = move |port: &PortHandle, op: u32, _: &[u8]| {
        match op {
            0 => port.set_timer(Duration::ZERO),
            1 => port.run(Key::None, || "done".to_owned()),
            2 => port.select(&near, Ready::READ).unwrap(),
            3 => port.select(&near, Ready::WRITE).unwrap(),
            4 => drop(port.monitor(port.pid_from_term(&Term::from(7)).unwrap())),
            _ => panic!("in control"),
        }
        Ok(Vec::new())
    };
    let callbacks = [
        (0, "timeout", "timeout"),
        (1, "ready_async", "ready_async done"),
        (2, "ready_input", "ready_input"),
        (3, "ready_output", "ready_output"),
        (4, "process_exit", "process_exit true"),
    ];
    for (op, callback, call) in callbacks {
        let script = Script::new().control(prepare.clone()).on(callback, move |_, _| panic!("in {callback}"));
        let port = open(&runner, "plain", script);
        port.control(op);
        if op == 4 {
            let Seen::Monitor(monitor) = port.events.recv().unwrap() else { panic!("no monitor") };
            port.port.process_exited(monitor);
            port.sees(&Seen::Demonitor(monitor));
        }
        port.called(&[call, "stop"]);
        panicked(&port, &format!("in {callback}"));
    }
    let port = open(&runner, "plain", Script::new().on("output", |_, _| panic!("in output")));
    port.command("x");
    port.called(&["output x", "stop"]);
    panicked(&port, "in output");
    let port = open(&runner, "plain", Script::new().control(prepare));
    let reply = port.port.control(9, nothing(), OWNER).wait();
    assert_eq!(reply, Err(CallError::Panic("in control".to_owned())));
    port.called(&["stop"]);
    panicked(&port, "in control");
    let port = open(&runner, "plain", Script::new().call(|_, _| panic!("in call")));
    let term = Bytes::from(Term::from(1).encode().unwrap());
    assert_eq!(port.port.call(9, term, OWNER).wait(), Err(CallError::Panic("in call".to_owned())));
    panicked(&port, "in call");
    neighbour.command("still here");
    neighbour.sees(&Seen::Data(b"still here".to_vec()));
}

#[test]
fn a_panic_in_flush_or_stop_is_logged_and_the_port_closed() {
    let runner = plain();
    let script = Script::new()
        .start(|port| {
            port.enq(&b"data"[..]);
            Ok(())
        })
        .on("flush", |_, _| panic!("in flush"))
        .on("stop", |_, _| panic!("in stop"));
    let port = open(&runner, "plain", script);
    port.port.close(CloseMode::Flush);
    port.called(&["flush", "stop"]);
    let log = |text: &str| Seen::Log(format!("driver plain panicked {text}"));
    port.sees(&log("while it emptied its queue: in flush"));
    port.sees(&log("when it was stopped: in stop"));
    port.sees(&Seen::Closed);
}

#[test]
fn a_slow_callback_delays_its_own_port_only() {
    let runner = plain();
    let (script, go) = blocking();
    let slow = open(&runner, "plain", script);
    slow.command("x");
    slow.called(&["output x"]);
    slow.command("y");
    let other = open(&runner, "plain", Script::new().on("output", PortHandle::output));
    for _ in 0..100 {
        other.command("quick");
        other.sees(&Seen::Data(b"quick".to_vec()));
    }
    slow.quiet();
    assert!(slow.port.info().callback.is_some());
    drop(go);
    slow.called(&["output y"]);
}

#[test]
fn there_are_as_many_workers_as_slow_ports() {
    let runner = plain();
    let ports: Vec<_> = (0..20)
        .map(|_| {
            let (script, go) = blocking();
            let port = open(&runner, "plain", script);
            port.command("x");
            port.called(&["output x"]);
            (port, go)
        })
        .collect();
    let crew = runner.info().workers;
    assert!((20..=MAX_WORKERS).contains(&crew.live), "{crew:?}");
    for (port, go) in ports {
        drop(go);
        port.port.close(CloseMode::Flush);
        port.called(&["stop"]);
    }
}

#[test]
fn a_port_that_is_stuck_can_be_closed_and_its_worker_is_written_off() {
    let runner = plain();
    let (script, go) = blocking();
    let port = open(&runner, "plain", script);
    port.command("x");
    port.called(&["output x"]);
    let (other_script, other_go) = blocking();
    let other = open(&runner, "plain", other_script);
    other.command("x");
    other.called(&["output x"]);
    let before = Instant::now();
    port.port.close(CloseMode::Flush);
    port.sees(&Seen::Closed);
    assert!(before.elapsed() >= Duration::from_millis(50), "given up too early");
    assert!(port.port.info().written_off);
    assert_eq!(runner.info().workers.lost, 1);
    assert_eq!(port.port.control(0, nothing(), OWNER).take(), None);
    // Nobody closes the other one: it may take its time.
    assert!(!other.port.info().written_off);
    drop(other_go);
    // It comes back after all: its driver is stopped now, its thread ends, and nothing is said twice.
    drop(go);
    port.called(&["stop"]);
    let end = Instant::now() + LONG;
    while runner.info().workers.lost > 0 && Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(runner.info().workers.lost, 0);
    port.quiet();
}

#[test]
fn a_stuck_stop_is_given_up_too() {
    let runner = plain();
    let (go, wait) = bounded::<()>(0);
    let port = open(
        &runner,
        "plain",
        Script::new().on("stop", move |_, _| {
            let _ = wait.recv();
        }),
    );
    port.port.close(CloseMode::Kill);
    port.called(&["stop"]);
    port.sees(&Seen::Closed);
    assert!(port.port.info().written_off);
    drop(go);
}

#[test]
fn a_stuck_driver_whose_ports_exclude_each_other_loses_them_all() {
    let runner = runner(&[Library::builtin::<Together>(), Library::builtin::<Plain>()]);
    let (script, go) = blocking();
    let stuck = open(&runner, "together", script);
    let innocent = open(&runner, "together", Script::new());
    let other = open(&runner, "plain", Script::new());
    stuck.command("x");
    stuck.called(&["output x"]);
    innocent.port.close(CloseMode::Flush);
    innocent.sees(&Seen::Closed);
    assert!(innocent.port.info().written_off);
    other.command("y");
    other.called(&["output y"]);
    drop(go);
    innocent.called(&["stop"]);
}

#[test]
fn at_the_limits_ports_can_still_be_closed_and_opened() {
    let config = Config { stuck_after: Duration::from_millis(20) };
    let runner = Runner::new(config, &[Library::builtin::<Plain>()]).unwrap();
    let (go, wait) = bounded::<()>(0);
    let mut stuck = Vec::new();
    for _ in 0..MAX_LOST_WORKERS + 4 {
        let wait = wait.clone();
        let port = open(
            &runner,
            "plain",
            Script::new().on("output", move |_, _| {
                let _ = wait.recv();
            }),
        );
        port.command("x");
        port.called(&["output x"]);
        port.port.close(CloseMode::Kill);
        port.sees(&Seen::Closed);
        stuck.push(port);
    }
    let crew = runner.info().workers;
    assert_eq!(crew.lost, MAX_LOST_WORKERS);
    assert!(crew.live <= MAX_WORKERS, "{crew:?}");
    let port = open(&runner, "plain", Script::new());
    port.port.close(CloseMode::Flush);
    port.called(&["stop"]);
    drop(go);
    for port in stuck {
        port.called(&["stop"]);
    }
}

#[test]
fn with_all_workers_busy_a_port_waits_and_can_be_closed() {
    let runner = plain();
    let (go, wait) = bounded::<()>(0);
    let idle = open(&runner, "plain", Script::new());
    let busy: Vec<_> = (0..MAX_WORKERS)
        .map(|_| {
            let wait = wait.clone();
            let port = open(
                &runner,
                "plain",
                Script::new().on("output", move |_, _| {
                    let _ = wait.recv();
                }),
            );
            port.command("x");
            port.called(&["output x"]);
            port
        })
        .collect();
    assert_eq!(runner.info().workers.live, MAX_WORKERS);
    idle.command("waits");
    idle.port.close(CloseMode::Flush);
    idle.sees(&Seen::Closed);
    idle.quiet();
    drop(go);
    idle.called(&["output waits", "stop"]);
    drop(busy);
}

#[test]
fn a_driver_with_a_stuck_port_is_unloaded_without_its_finish() {
    let runner = plain();
    let (script, go) = blocking();
    let port = open(&runner, "plain", script);
    port.command("x");
    port.called(&["output x"]);
    // A built-in driver is only unloaded at the end.
    assert!(runner.unload("plain", UnloadMode::Kill).wait().unwrap().is_err());
    runner.shut_down(Duration::ZERO, LONG);
    port.sees(&Seen::Failed(Reason::Unloaded));
    port.sees(&Seen::Closed);
    assert!(runner.list().is_empty());
    drop(go);
    port.called(&["stop"]);
}

#[test]
fn callers_of_a_port_that_closes_get_an_answer() {
    let runner = plain();
    let (script, go) = blocking();
    let port = open(&runner, "plain", script);
    port.command("x");
    let replies: Vec<_> = (0..3).map(|op| port.port.control(op, nothing(), OWNER)).collect();
    port.port.close(CloseMode::Kill);
    drop(go);
    for reply in replies {
        assert_eq!(reply.wait(), Err(CallError::Closed));
    }
}
