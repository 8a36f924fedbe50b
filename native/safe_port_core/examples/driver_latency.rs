//! How long a call of a driver takes, from the caller's side of the runner and back.
//!
//! `cargo run --release -p safe_port_core --example driver_latency`

use std::sync::Arc;
use std::time::{Duration, Instant};

use safe_port_core::driver::{Bytes, CommandMode, Config, Event, Events, Library, Options, Port, Runner};
use safe_port_core::patience::Patience;

const ROUNDS: usize = 20_000;
/// As long as the caller of `control/3` is willing to wait awake.
const SPIN: Duration = Duration::from_micros(50);

/// An owner that only counts.
struct Owner(crossbeam_channel::Sender<()>);

impl Events for Owner {
    fn event(&self, event: Event<'_>) {
        if let Event::Data { .. } = event {
            let _ = self.0.send(());
        }
    }
    fn send_term(&self, _to: u64, _term: &[u8]) -> bool {
        false
    }
    fn connected(&self) -> Option<u64> {
        None
    }
    fn monitor(&self, _pid: u64) -> Option<u64> {
        None
    }
    fn demonitor(&self, _monitor: u64) -> bool {
        false
    }
    fn create_port(&self, _owner: u64, _name: &[u8], _port: &Arc<Port>) -> Option<Arc<dyn Events>> {
        None
    }
    fn pid_to_term(&self, _pid: u64) -> Option<Vec<u8>> {
        None
    }
    fn pid_from_term(&self, _term: &[u8]) -> Option<u64> {
        None
    }
    fn log(&self, text: &str) {
        eprintln!("{text}");
    }
}

fn main() {
    let runner = Runner::new(Config::default(), &[Library::builtin::<safe_port_echo_driver::Echo>()])
        .expect("a runner needs a thread and a descriptor");
    let (sender, received) = crossbeam_channel::unbounded();
    let opening =
        runner.open(b"echo", Options::default(), 1, Arc::new(Owner(sender))).expect("echo is built in");
    let _ = opening.started.wait();
    let port = opening.port;
    let nothing = || Bytes::from(Vec::new());
    let mut slept = 0;
    let patience = Patience::default();

    report("control, caller awake", || {
        let reply = port.control(0, nothing(), 1);
        if patience.wait(SPIN, || reply.take()).is_none() {
            slept += 1;
            let _ = reply.wait();
        }
    });
    println!("{slept:>28} of {ROUNDS} took longer than {SPIN:?}");
    report("control, caller asleep", || drop(port.control(0, nothing(), 1).wait()));
    report("call", || {
        let reply = port.call(0, Bytes::from(vec![131, 106]), 1);
        if patience.wait(SPIN, || reply.take()).is_none() {
            let _ = reply.wait();
        }
    });
    report("output, 64 bytes and back", || {
        let _ = port.command(vec![Bytes::from(vec![0; 64])], 1, CommandMode::Refuse);
        let end = Instant::now() + SPIN;
        while received.is_empty() && Instant::now() < end {
            std::hint::spin_loop();
        }
        let _ = received.recv();
    });
}

fn report(what: &str, mut round: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |share: usize| times[ROUNDS * share / 1000].as_secs_f64() * 1e6;
    println!(
        "{what:>28}: median {:.1} us, 10 % {:.1}, 90 % {:.1}, 99 % {:.1}",
        at(500),
        at(100),
        at(900),
        at(990)
    );
}
