//! What a start through the link and the guardian costs beside a bare one: `/bin/true` from the request to its exit.
//!
//! ```text
//! cargo build --release -p safe_port_guardian && cargo run --release -p safe_port_core --example spawn_bench [guardian]
//! ```
//!
//! Both are measured in turns in one run, so that a change of the machine's pace meets both. The bare one is the standard
//! library's `posix_spawn(3)`, which on Linux is the same `clone(2)` as the guardian's, with `waitpid(2)` after it.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{unbounded, Receiver, Sender};
use safe_port_core::link::{Link, LinkConfig, LinkEvent, Listener};
use safe_port_os::dir;
use safe_port_wire::{Ending, Orphans, PortId, Spawn};

/// The program.
const PROGRAM: &str = "/bin/true";
/// Turns of each way.
const TURNS: usize = 40;
/// Starts of a turn, one after the other.
const SINGLE: usize = 25;
/// Starts at once.
const AT_ONCE: usize = 32;

/// Reports when a program runs, and when it has ended.
struct Watch(Sender<(LinkEvent, Instant)>);

impl Listener for Watch {
    fn event(&self, event: LinkEvent) {
        // An error means that the measurement is over.
        let _ = self.0.send((event, Instant::now()));
    }
}

/// Starts through the link.
struct Linked {
    link: Link,
    env: Vec<u8>,
    events: Receiver<(LinkEvent, Instant)>,
    watch: Arc<Watch>,
}

impl Linked {
    fn new(guardian: PathBuf) -> Linked {
        let (sender, events) = unbounded();
        let env =
            std::env::vars().flat_map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect();
        Linked { link: Link::new(LinkConfig { guardian }), env, events, watch: Arc::new(Watch(sender)) }
    }

    fn start(&self) -> Result<PortId, Box<dyn Error>> {
        let mut fds: Vec<OwnedFd> = vec![dir::current()?];
        for _ in 0..3 {
            fds.push(dir::null()?);
        }
        let spawn = Spawn {
            id: PortId(0),
            file: PROGRAM.into(),
            args: vec![PROGRAM.into()],
            env: self.env.clone(),
            dir: None,
            fds: vec![0, 1, 2],
            ending: Ending { eof_timeout_ms: Some(1000), kill_timeout_ms: 5000, orphans: Orphans::Kill },
            cgroup: None,
        };
        Ok(self.link.spawn(spawn, fds, self.watch.clone())?)
    }

    /// Waits until `count` programs have exited. When the first of them ran, and when the last exited.
    fn wait(&self, count: usize) -> Result<(Instant, Instant), Box<dyn Error>> {
        let (mut running, mut exited, mut ended) = (None, 0, 0);
        let mut last = Instant::now();
        while exited < count || ended < count {
            let (event, at) = self.events.recv_timeout(Duration::from_secs(10))?;
            match event {
                LinkEvent::Spawned { .. } => running = running.or(Some(at)),
                LinkEvent::Exited { exit, .. } if exit.status() == 0 => {
                    exited += 1;
                    last = at;
                }
                LinkEvent::Ended => ended += 1,
                event => return Err(format!("expected {PROGRAM} to exit with 0, got {event:?}").into()),
            }
        }
        Ok((running.unwrap_or(last), last))
    }
}

fn bare() -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// Times of one way.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn median(&mut self) -> Duration {
        self.at(50)
    }

    fn at(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

/// One line: the time per start in microseconds, and what that makes in a second.
fn report(name: &str, times: &mut Times, starts: u32) {
    let per_start = times.median() / starts;
    println!(
        "{name:<34} {:>8.1} us  (10 %: {:>7.1}, 90 %: {:>7.1})  {:>6.0}/s",
        micros(per_start),
        micros(times.at(10) / starts),
        micros(times.at(90) / starts),
        1.0 / per_start.as_secs_f64()
    );
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn guardian() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        return Ok(path.into());
    }
    // .../release/examples/spawn_bench
    let own = std::env::current_exe()?;
    let beside = own.parent().and_then(|examples| examples.parent());
    let path = beside.ok_or("this program is in no folder")?.join("safe_port_guardian");
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("there is no {}: cargo build --release -p safe_port_guardian", path.display()).into())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let linked = Linked::new(guardian()?);
    linked.start()?;
    linked.wait(1)?;
    let mut single = [Times::default(), Times::default()];
    let mut running = Times::default();
    let mut crowd = [Times::default(), Times::default()];
    for _ in 0..TURNS {
        for _ in 0..SINGLE {
            let begun = Instant::now();
            bare()?.wait()?;
            single[0].0.push(begun.elapsed());
        }
        for _ in 0..SINGLE {
            let begun = Instant::now();
            linked.start()?;
            let (ran, exited) = linked.wait(1)?;
            running.0.push(ran - begun);
            single[1].0.push(exited - begun);
        }
        let begun = Instant::now();
        let children = (0..AT_ONCE).map(|_| bare()).collect::<Result<Vec<_>, _>>()?;
        for mut child in children {
            child.wait()?;
        }
        crowd[0].0.push(begun.elapsed());
        let begun = Instant::now();
        for _ in 0..AT_ONCE {
            linked.start()?;
        }
        let (_, exited) = linked.wait(AT_ONCE)?;
        crowd[1].0.push(exited - begun);
    }
    report("one at a time, bare", &mut single[0], 1);
    report("one at a time, through the link", &mut single[1], 1);
    report("  of that until it runs", &mut running, 1);
    report("32 at once, bare", &mut crowd[0], AT_ONCE as u32);
    report("32 at once, through the link", &mut crowd[1], AT_ONCE as u32);
    let ratio = |times: &mut [Times; 2]| times[1].median().as_secs_f64() / times[0].median().as_secs_f64();
    println!("ratio: {:.2} one at a time, {:.2} for 32 at once", ratio(&mut single), ratio(&mut crowd));
    Ok(())
}
