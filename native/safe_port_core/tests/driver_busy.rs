//! When commands have to wait: D9 of the contract's section 12.

mod driver_support;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use driver_support::{open, open_with, runner, Script, Seen, LONG, OWNER};
use safe_port_core::driver::{
    BusyLimits, Bytes, CallError, CloseMode, CommandError, CommandMode, Library, Options, Runner,
};

probe!(Plain, "plain");
probe!(Soft, "soft", SOFT_BUSY: bool = true);
probe!(Unlimited, "unlimited", NO_BUSY_MSGQ: bool = true);

fn plain() -> Runner {
    runner(&[Library::builtin::<Plain>()])
}

fn bytes(data: &[u8]) -> Vec<Bytes> {
    vec![Bytes::from(data)]
}

/// A script whose first command holds the driver until the sender is used.
fn held_up() -> (Script, crossbeam_channel::Sender<()>) {
    let (go, wait) = bounded::<()>(0);
    let mut first = true;
    let script = Script::new().on("output", move |_, _| {
        if std::mem::take(&mut first) {
            let _ = wait.recv_timeout(LONG);
        }
    });
    (script, go)
}

#[test]
fn d9_a_busy_port_refuses_commands_but_not_control() {
    let runner = plain();
    let script = Script::new().control(|port, op, _| {
        port.set_busy(op == 1);
        Ok(Vec::new())
    });
    let port = open(&runner, "plain", script);
    port.control(1);
    port.sees(&Seen::Busy(true));
    assert!(port.port.is_busy());
    assert_eq!(port.port.command(bytes(b"x"), OWNER, CommandMode::Refuse), Err(CommandError::Busy));
    assert_eq!(port.port.command(bytes(b"x"), OWNER, CommandMode::Force), Err(CommandError::NotSupported));
    port.control(1);
    port.control(0);
    port.sees(&Seen::Busy(false));
    port.command("y");
    port.called(&["output y"]);
}

#[test]
fn d9_commands_taken_before_the_port_became_busy_wait_in_order() {
    let runner = plain();
    let script = Script::new()
        .on("output", |port, data| {
            if data == b"1" {
                port.set_busy(true);
                port.set_timer(Duration::from_millis(5));
            }
        })
        .on("timeout", |port, _| port.set_busy(false))
        .control(|_, _, _| Ok(b"not held up".to_vec()));
    let port = open(&runner, "plain", script);
    let commands = ["1", "2", "3"];
    let taken: Vec<bool> = commands
        .iter()
        .map(|data| port.port.command(bytes(data.as_bytes()), OWNER, CommandMode::Refuse).is_ok())
        .collect();
    assert_eq!(port.control(0), b"not held up");
    let mut expected = vec!["output 1".to_owned()];
    // Those that came after the port was busy were refused.
    expected.push("timeout".to_owned());
    expected.extend(
        commands
            .iter()
            .zip(taken)
            .skip(1)
            .filter(|(_, taken)| *taken)
            .map(|(data, _)| format!("output {data}")),
    );
    port.called(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn d9_a_forced_command_reaches_a_busy_driver_that_allows_it() {
    let runner = runner(&[Library::builtin::<Soft>()]);
    let script = Script::new().control(|port, _, _| {
        port.set_busy(true);
        Ok(Vec::new())
    });
    let port = open(&runner, "soft", script);
    port.control(0);
    assert_eq!(port.port.command(bytes(b"x"), OWNER, CommandMode::Refuse), Err(CommandError::Busy));
    assert_eq!(port.port.command(bytes(b"forced"), OWNER, CommandMode::Force), Ok(()));
    port.called(&["output forced"]);
}

#[test]
fn d9_waiting_commands_make_the_port_busy_between_the_limits() {
    let runner = plain();
    let (script, go) = held_up();
    let limits = BusyLimits::Bytes { low: 4, high: 8 };
    let port = open_with(&runner, "plain", Options { busy_limits: limits, ..Options::default() }, script);
    port.command("1234");
    port.called(&["output 1234"]);
    port.command("567");
    assert!(!port.port.is_busy());
    port.command("8");
    port.sees(&Seen::Busy(true));
    assert_eq!(port.port.command(bytes(b"x"), OWNER, CommandMode::Refuse), Err(CommandError::Busy));
    go.send(()).unwrap();
    port.called(&["output 567", "output 8"]);
    port.sees(&Seen::Busy(false));
}

#[test]
fn d9_the_limits_are_8192_and_4096_bytes_by_default() {
    let runner = plain();
    let (script, go) = held_up();
    let port = open(&runner, "plain", script);
    port.command(&"x".repeat(8191));
    assert!(!port.port.is_busy());
    port.command("x");
    port.sees(&Seen::Busy(true));
    go.send(()).unwrap();
    port.sees(&Seen::Busy(false));
}

#[test]
fn d9_a_driver_without_limits_is_never_busy_by_itself() {
    let runner = runner(&[Library::builtin::<Plain>(), Library::builtin::<Unlimited>()]);
    let (script, go) = held_up();
    let unlimited = open(&runner, "unlimited", script);
    unlimited.command(&"x".repeat(100_000));
    assert!(!unlimited.port.is_busy());
    go.send(()).unwrap();
    let (script, go) = held_up();
    let options = Options { busy_limits: BusyLimits::Disabled, ..Options::default() };
    let disabled = open_with(&runner, "plain", options, script);
    disabled.command(&"x".repeat(100_000));
    assert!(!disabled.port.is_busy());
    go.send(()).unwrap();
}

#[test]
fn d9_a_driver_may_change_the_limits() {
    let runner = plain();
    let (go, wait) = bounded::<()>(0);
    let script = Script::new()
        .start(|port| {
            port.set_busy_limits(Some((1, 2)));
            Ok(())
        })
        .on("output", move |_, _| {
            let _ = wait.recv_timeout(LONG);
        });
    let port = open(&runner, "plain", script);
    port.command("12");
    port.sees(&Seen::Busy(true));
    go.send(()).unwrap();
    port.sees(&Seen::Busy(false));
}

#[test]
fn d9_a_call_comes_after_the_commands_that_its_caller_has_sent_and_those_of_others_do_not_wait() {
    let runner = plain();
    let taken = Arc::new(AtomicU8::new(0));
    let counted = Arc::clone(&taken);
    let script = Script::new()
        .on("output", move |port, data| {
            taken.fetch_add(1, Ordering::Relaxed);
            port.set_busy(data == b"1");
        })
        .control(move |port, op, _| {
            if op == 1 {
                port.set_busy(false);
            }
            Ok(vec![counted.load(Ordering::Relaxed)])
        });
    let port = open(&runner, "plain", script);
    for data in [b"1", b"2"] {
        assert_eq!(port.port.command(bytes(data), OWNER, CommandMode::Queue), Ok(()));
    }
    let behind = port.port.control(0, Bytes::from(Vec::new()), OWNER);
    let other = port.port.control(1, Bytes::from(Vec::new()), OWNER + 1);
    assert_eq!(other.wait().expect("an answer").bytes[..], [1]);
    assert_eq!(behind.wait().expect("an answer").bytes[..], [2]);
    port.called(&["output 1", "output 2"]);
}

#[test]
fn d9_a_call_that_waits_behind_commands_is_told_of_the_close() {
    let runner = plain();
    let port = open(&runner, "plain", Script::new().on("output", |port, _| port.set_busy(true)));
    for _ in 0..2 {
        assert_eq!(port.port.command(bytes(b"x"), OWNER, CommandMode::Queue), Ok(()));
    }
    let behind = port.port.control(0, Bytes::from(Vec::new()), OWNER);
    port.port.close(CloseMode::Flush);
    assert_eq!(behind.wait(), Err(CallError::Closed));
}
