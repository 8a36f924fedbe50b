//! The time between the close of a port and the stop of its driver, while the queue is emptied: the flush callback and
//! D12 of the contract's section 12.

mod driver_support;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use driver_support::{open, runner, Opened, Script, Seen, LONG, OWNER};
use safe_port_core::driver::{CloseMode, CommandError, CommandMode, Library, Runner};
use safe_port_driver::Ready;

probe!(Plain, "plain");

fn plain() -> Runner {
    runner(&[Library::builtin::<Plain>()])
}

fn stopped(port: &Opened) {
    port.called(&["stop"]);
    port.sees(&Seen::Closed);
    port.quiet();
}

#[test]
fn flush_is_called_once_and_only_if_the_queue_is_not_empty() {
    let runner = plain();
    let script = Script::new().on("output", |port, data| port.enq(data)).on("timeout", |port, _| {
        port.deq(port.sizeq());
    });
    let port = open(&runner, "plain", script);
    port.command("data");
    port.port.close(CloseMode::Flush);
    port.called(&["output data", "flush"]);
    port.port.close(CloseMode::Flush);
    port.port.close(CloseMode::Kill);
    assert_eq!(port.control(0), b"");
    port.quiet();
    assert_eq!(port.port.info().queue_size, 4);
    runner.shut_down(Duration::ZERO, LONG);
    stopped(&port);
}

#[test]
fn d8_kill_throws_the_queue_away_without_a_flush() {
    let runner = plain();
    let port = open(&runner, "plain", Script::new().on("output", |port, data| port.enq(data)));
    port.command("data");
    port.called(&["output data"]);
    port.port.close(CloseMode::Kill);
    stopped(&port);
}

#[test]
fn d12_limbo_lasts_until_the_queue_is_empty() {
    let runner = plain();
    let script = Script::new().on("output", |port, data| port.enq(data)).control(|port, op, _| {
        port.output(b"dropped");
        port.deq(op as usize);
        Ok(port.peekq().concat())
    });
    let port = open(&runner, "plain", script);
    port.command("data");
    port.port.close(CloseMode::Flush);
    port.called(&["output data", "flush"]);
    assert_eq!(port.port.command(vec![], OWNER, CommandMode::Refuse), Err(CommandError::Closed));
    assert_eq!(port.control(3), b"a");
    assert_eq!(port.control(1), b"");
    stopped(&port);
}

#[test]
fn d12_timers_and_descriptors_go_on_in_limbo() {
    let runner = plain();
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Arc::new(near);
    let script = Script::new()
        .start({
            let near = Arc::clone(&near);
            move |port| {
                port.enq(&b"data"[..]);
                Ok(port.select(&near, Ready::READ)?)
            }
        })
        .on("flush", |port, _| port.set_timer(Duration::from_millis(1)))
        .on("ready_input", |port, given| {
            port.deselect(i32::from_ne_bytes(given.try_into().unwrap()), Ready::READ);
            port.deq(4);
        });
    let port = open(&runner, "plain", script);
    port.port.close(CloseMode::Flush);
    port.called(&["flush", "timeout"]);
    std::io::Write::write_all(&mut far, b"x").unwrap();
    port.called(&["ready_input"]);
    stopped(&port);
}

#[test]
fn d2_a_failure_in_limbo_just_ends_the_port() {
    let runner = plain();
    let script = Script::new()
        .start(|port| {
            port.enq(&b"data"[..]);
            Ok(())
        })
        .on("flush", |port, _| port.fail_atom("enough"));
    let port = open(&runner, "plain", script);
    port.port.close(CloseMode::Flush);
    port.called(&["flush"]);
    stopped(&port);
}
