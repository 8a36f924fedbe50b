//! A driver that tests script and that reports every callback, and a port owner that reports every event.
#![allow(dead_code)] // Each test file uses its part.

pub mod probe;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{unbounded, Receiver, Sender};
use safe_port_core::codec::Kind;
use safe_port_core::driver::{
    Bytes, CommandMode, Config, Event, Events, Library, Options, Port, Reason, Reply, Runner, StartRefusal,
};
use safe_port_driver::Term;

pub use self::probe::Script;

/// Nothing that is waited for in these tests takes this long.
pub const LONG: Duration = Duration::from_secs(20);
/// The process that opens the ports.
pub const OWNER: u64 = 100;
/// A process that is dead.
pub const DEAD: u64 = 666;

#[derive(Debug, PartialEq)]
pub enum Seen {
    Data(Vec<u8>),
    Headed(Vec<u8>, Vec<u8>),
    Line(Kind, Vec<u8>),
    Term(Term),
    Sent(u64, Term),
    Eof,
    Failed(Reason),
    Busy(bool),
    Monitor(u64),
    Demonitor(u64),
    CreatePort(u64, String),
    Log(String),
    Closed,
}

/// The ports that a driver has made, each with what its owner sees.
type Made = Arc<Mutex<Vec<(Arc<Port>, Receiver<Seen>)>>>;

/// What the VM's side would be.
pub struct Owner {
    seen: Sender<Seen>,
    /// The owners of ports that drivers made.
    made: Made,
}

static MONITORS: AtomicU64 = AtomicU64::new(1);

impl Owner {
    pub fn new(seen: Sender<Seen>) -> Owner {
        Owner { seen, made: Arc::default() }
    }

    fn see(&self, seen: Seen) {
        // A test that looks no longer has dropped its end.
        let _ = self.seen.send(seen);
    }
}

impl Events for Owner {
    fn event(&self, event: Event<'_>) {
        self.see(match event {
            Event::Data { kind: Kind::Whole, header: [], data } => Seen::Data(data.to_vec()),
            Event::Data { kind: Kind::Whole, header, data } => Seen::Headed(header.to_vec(), data.to_vec()),
            Event::Data { kind, data, .. } => Seen::Line(kind, data.to_vec()),
            Event::Term(term) => Seen::Term(Term::decode(term).unwrap()),
            Event::Eof => Seen::Eof,
            Event::Failed(reason) => Seen::Failed(reason.clone()),
            Event::Busy(on) => Seen::Busy(on),
            Event::Closed => Seen::Closed,
        });
    }

    fn send_term(&self, to: u64, term: &[u8]) -> bool {
        self.see(Seen::Sent(to, Term::decode(term).unwrap()));
        to != DEAD
    }

    fn connected(&self) -> Option<u64> {
        Some(OWNER)
    }

    fn monitor(&self, pid: u64) -> Option<u64> {
        let monitor = MONITORS.fetch_add(1, Ordering::Relaxed);
        (pid != DEAD).then(|| {
            self.see(Seen::Monitor(monitor));
            monitor
        })
    }

    fn demonitor(&self, monitor: u64) -> bool {
        self.see(Seen::Demonitor(monitor));
        true
    }

    fn create_port(&self, owner: u64, name: &[u8], port: &Arc<Port>) -> Option<Arc<dyn Events>> {
        if owner == DEAD {
            return None;
        }
        let (seen, events) = unbounded();
        self.made.lock().unwrap().push((Arc::clone(port), events));
        self.see(Seen::CreatePort(owner, String::from_utf8(name.to_vec()).unwrap()));
        Some(Arc::new(Owner::new(seen)))
    }

    fn pid_to_term(&self, pid: u64) -> Option<Vec<u8>> {
        Term::Int(pid.into()).encode().ok()
    }

    fn pid_from_term(&self, term: &[u8]) -> Option<u64> {
        u64::try_from(Term::decode(term).ok()?.as_int()?).ok()
    }

    fn log(&self, text: &str) {
        self.see(Seen::Log(text.to_owned()));
    }
}

/// An open port, or one that is being opened.
pub struct Opened {
    pub port: Arc<Port>,
    pub events: Receiver<Seen>,
    pub calls: Receiver<String>,
    pub made: Made,
    pub reply: Option<Reply<Result<(), StartRefusal>>>,
}

impl Opened {
    /// What comes next, which must be `seen`.
    pub fn sees(&self, seen: &Seen) {
        let next = self.events.recv_timeout(LONG);
        assert_eq!(next.as_ref(), Ok(seen));
    }

    /// The callbacks that come next, which must be `calls`.
    pub fn called(&self, calls: &[&str]) {
        for call in calls {
            let next = self.calls.recv_timeout(LONG);
            assert_eq!(next.as_deref(), Ok(*call));
        }
    }

    /// Nothing else was called or seen so far.
    pub fn quiet(&self) {
        assert_eq!(self.calls.try_recv().ok(), None);
        assert_eq!(self.events.try_recv().ok(), None);
    }

    pub fn command(&self, data: &str) {
        self.port.command(vec![Bytes::from(data.as_bytes())], OWNER, CommandMode::Refuse).unwrap();
    }

    /// A control call, which also waits until everything before it was done.
    pub fn control(&self, op: u32) -> Vec<u8> {
        self.port.control(op, Bytes::from(&b""[..]), OWNER).wait().unwrap().bytes.to_vec()
    }
}

/// A runner that gives callbacks less time than usual, but enough to print where a panic came from.
pub fn runner(libraries: &[Library]) -> Runner {
    Runner::new(Config { stuck_after: Duration::from_secs(2) }, libraries).unwrap()
}

static SCRIPTS: AtomicU64 = AtomicU64::new(1);
static WAITING: Mutex<Option<HashMap<u64, Waiting>>> = Mutex::new(None);

/// A script for a port that is being opened, and where its callbacks are reported.
type Waiting = (Script, Sender<String>);

/// Begins to open a port of `driver` that follows `script`.
pub fn opening(runner: &Runner, driver: &str, options: Options, script: Script) -> Opened {
    let number = SCRIPTS.fetch_add(1, Ordering::Relaxed);
    let (log, calls) = unbounded();
    WAITING.lock().unwrap().get_or_insert_default().insert(number, (script, log));
    let (seen, events) = unbounded();
    let made = Arc::default();
    let owner = Owner { seen, made: Arc::clone(&made) };
    let command = format!("{driver} {number}");
    let opening = runner.open(command.as_bytes(), options, OWNER, Arc::new(owner)).unwrap();
    Opened { port: opening.port, events, calls, made, reply: Some(opening.started) }
}

/// Opens a port of `driver` that follows `script`.
pub fn open(runner: &Runner, driver: &str, script: Script) -> Opened {
    open_with(runner, driver, Options::default(), script)
}

/// As [`open`], with options.
pub fn open_with(runner: &Runner, driver: &str, options: Options, script: Script) -> Opened {
    let mut opened = opening(runner, driver, options, script);
    opened.reply.take().unwrap().wait().unwrap().unwrap();
    opened.called(&["start"]);
    opened
}

/// The script of the command that a driver starts with.
fn script_of(command: &[u8]) -> Waiting {
    let number = std::str::from_utf8(command).unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    WAITING.lock().unwrap().as_mut().and_then(|scripts| scripts.remove(&number)).unwrap()
}
