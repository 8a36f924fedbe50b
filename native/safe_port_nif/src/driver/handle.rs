//! A driver's port as the VM has it: what its driver says is kept here until the port process fetches it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use rustler::env::SavedTerm;
use rustler::thread::is_scheduler_thread;
use rustler::{Encoder, Env, LocalPid, Monitor, OwnedBinary, OwnedEnv, Resource, ResourceArc};
use safe_port_core::codec::Kind;
use safe_port_core::driver::{CallError, CloseMode, ControlReply, Event, Events, Pids, Port, Reason};
use safe_port_core::patience::Patience;

use super::terms;
use crate::atoms;
use crate::handle::lock;

/// Events that are fetched in one go.
const EVENTS_PER_CALL: usize = 256;
/// Data up to this many bytes is copied to the heap of the port process; longer data is a binary from the start.
pub const HEAP_BYTES: usize = 64;

/// Something for the port process to pass on.
pub enum Happening {
    Data { kind: Kind, header: Vec<u8>, data: Data },
    Term(Vec<u8>),
    Eof,
    Failed(Reason),
    Busy(bool),
    Closed,
    CreatePort { owner: LocalPid, name: Vec<u8>, made: Made },
    Reply { to: LocalPid, from: From, reply: Answer },
    Log(String),
}

/// Bytes of a driver's output.
pub enum Data {
    Short(Vec<u8>),
    Long(OwnedBinary),
}

/// The reference of a call.
pub struct From {
    pub env: OwnedEnv,
    pub reference: SavedTerm,
}

/// The answer to a call.
pub enum Answer {
    Control(Result<ControlReply, CallError>),
    Call(Result<safe_port_core::driver::Bytes, CallError>),
}

/// A port that a driver has made. Dropped before anybody serves it, it is closed.
pub struct Made(pub ResourceArc<DriverHandle>);

impl Drop for Made {
    fn drop(&mut self) {
        if lock(&self.0.state).server.is_none() {
            self.0.close(CloseMode::Kill);
        }
    }
}

/// What of a port changes.
struct State {
    /// The port process; after it, whoever waits for the port's end.
    server: Option<LocalPid>,
    /// The pid that the port is known under: that of its process.
    known: Option<LocalPid>,
    owner: LocalPid,
    /// The owner's number.
    connected: u64,
    port: Option<Arc<Port>>,
    /// Whether it was closed by us: its driver may go on for a while.
    closed: bool,
    /// Processes that the driver monitors, and the runner's numbers for that.
    monitors: Vec<(Monitor, u64)>,
}

/// What waits for the port process.
#[derive(Default)]
struct Outbox {
    happenings: VecDeque<Happening>,
    /// The port process was told, and has not found the outbox empty since.
    told: bool,
    /// It has to be told as soon as there is an environment to do that from.
    untold: bool,
}

/// One port.
pub struct DriverHandle {
    state: Mutex<State>,
    outbox: Mutex<Outbox>,
    /// Whether the driver runs in a host, which only the port process can talk to.
    pub is_isolated: bool,
    /// How pids of this VM look.
    pub pids: Pids,
    /// Whether calls are answered so quickly that it pays to wait awake.
    pub patience: Patience,
}

static PORTS: LazyLock<Mutex<HashMap<LocalPid, ResourceArc<DriverHandle>>>> = LazyLock::new(Mutex::default);

/// Makes the port known under the pid of its process.
pub fn publish(handle: &ResourceArc<DriverHandle>) {
    let server = {
        let mut state = lock(&handle.state);
        state.known = state.server;
        state.server
    };
    if let Some(server) = server {
        lock(&PORTS).insert(server, handle.clone());
    }
}

/// The driver's port with this pid.
pub fn find(port: LocalPid) -> Option<ResourceArc<DriverHandle>> {
    lock(&PORTS).get(&port).cloned()
}

/// Whether this is the pid of a driver's port.
pub fn is_port(port: LocalPid) -> bool {
    lock(&PORTS).contains_key(&port)
}

/// The pids of all ports of drivers.
pub fn list() -> Vec<LocalPid> {
    lock(&PORTS).keys().copied().collect()
}

impl DriverHandle {
    /// A port that `owner` opens.
    pub fn new(env: Env, owner: LocalPid) -> DriverHandle {
        let term = owner.encode(env).to_binary();
        let pids = Pids::of(&term).unwrap_or_else(|| Pids::new(b"", 0));
        DriverHandle::with(pids, owner, terms::number(env, owner), false)
    }

    /// A port whose driver runs in a host.
    pub fn isolated(env: Env) -> DriverHandle {
        DriverHandle::with(Pids::new(b"", 0), env.pid(), 0, true)
    }

    fn with(pids: Pids, owner: LocalPid, connected: u64, is_isolated: bool) -> DriverHandle {
        let state = State {
            server: None,
            known: None,
            owner,
            connected,
            port: None,
            closed: false,
            monitors: Vec::new(),
        };
        DriverHandle {
            state: Mutex::new(state),
            outbox: Mutex::default(),
            is_isolated,
            pids,
            patience: Patience::default(),
        }
    }

    /// The port; `None` when its driver has stopped.
    pub fn port(&self) -> Option<Arc<Port>> {
        lock(&self.state).port.clone()
    }

    pub fn set_port(&self, port: &Arc<Port>) {
        lock(&self.state).port = Some(Arc::clone(port));
    }

    /// The port has not started, or has stopped. It holds us: otherwise neither would ever be freed.
    pub fn forget_port(&self) {
        let port = lock(&self.state).port.take();
        drop(port);
    }

    pub fn owner(&self) -> LocalPid {
        lock(&self.state).owner
    }

    pub fn set_owner(&self, env: Env, owner: LocalPid) {
        let number = terms::number(env, owner);
        let mut state = lock(&self.state);
        (state.owner, state.connected) = (owner, number);
    }

    /// Closes the port, which can no longer be found.
    pub fn close(&self, mode: CloseMode) {
        let (port, known) = {
            let mut state = lock(&self.state);
            state.closed = true;
            (state.port.clone(), state.known.take())
        };
        if let Some(known) = known {
            // Dropped outside the lock.
            let handle = lock(&PORTS).remove(&known);
            drop(handle);
        }
        if let Some(port) = port {
            port.close(mode);
        }
    }

    /// Whether the port process has something to pass on to the owner, or is at it. Not once it has closed the port:
    /// then there is no order to keep any more.
    pub fn is_behind(&self) -> bool {
        lock(&self.outbox).told && !lock(&self.state).closed
    }

    /// The next events; none when that is all for now.
    pub fn take_events(&self) -> Vec<Happening> {
        let mut outbox = lock(&self.outbox);
        let count = outbox.happenings.len().min(EVENTS_PER_CALL);
        outbox.told = count > 0;
        outbox.happenings.drain(..count).collect()
    }

    /// Adds `happening`; whether the port process must be told.
    fn put(&self, happening: Happening) -> bool {
        let mut outbox = lock(&self.outbox);
        outbox.happenings.push_back(happening);
        !std::mem::replace(&mut outbox.told, true)
    }
}

/// Adds `happening` to what `handle`'s port process is to fetch, from whatever thread.
pub fn report(handle: &ResourceArc<DriverHandle>, happening: Happening) {
    if handle.put(happening) {
        if is_scheduler_thread() {
            // To send takes the environment of the call, which has ended by the time it is looked at: see `tell`.
            lock(&handle.outbox).untold = true;
        } else if let Some(server) = lock(&handle.state).server {
            // An error means that the port process is gone, and with it whoever wanted to know.
            let _ = OwnedEnv::new().send_and_clear(&server, |env| (handle, atoms::events()).encode(env));
        }
    }
}

/// Tells the port process what a call on this scheduler thread has reported.
pub fn tell(env: Env, handle: &ResourceArc<DriverHandle>) {
    let untold = std::mem::take(&mut lock(&handle.outbox).untold);
    let server = lock(&handle.state).server.filter(|_| untold);
    if let Some(server) = server {
        let _ = env.send(&server, (handle, atoms::events()));
    }
}

/// Makes `server` the process that gets the events.
pub fn serve(env: Env, handle: &ResourceArc<DriverHandle>, server: LocalPid) {
    lock(&handle.state).server = Some(server);
    if env.monitor(handle, &server).is_none() {
        handle.close(CloseMode::Kill);
    }
    let waiting = {
        let mut outbox = lock(&handle.outbox);
        outbox.told = !outbox.happenings.is_empty();
        outbox.told
    };
    if waiting {
        let _ = env.send(&server, (handle, atoms::events()));
    }
}

#[rustler::resource_impl]
impl Resource for DriverHandle {
    const IMPLEMENTS_DOWN: bool = true;

    /// The port process died, or its successor, or a process that the driver monitors.
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, monitor: Monitor) {
        let (port, watched, lost) = {
            let mut state = lock(&self.state);
            let index = state.monitors.iter().position(|(known, _)| *known == monitor);
            let watched = index.map(|index| state.monitors.swap_remove(index).1);
            (state.port.clone(), watched, watched.is_none() && state.server == Some(pid) && !state.closed)
        };
        if let (Some(port), Some(watched)) = (port, watched) {
            port.process_exited(watched);
        }
        if lost {
            // Killed, without a chance to let the driver empty its queue (contract L6).
            self.close(CloseMode::Kill);
        }
    }
}

/// Takes the events of a port for its process.
pub struct Sink(pub ResourceArc<DriverHandle>);

impl Sink {
    fn process(&self, number: u64) -> Option<LocalPid> {
        OwnedEnv::new().run(|env| terms::process(env, &self.0.pids, number))
    }

    /// Whether there is this process. Only one that is there can be monitored.
    fn is_alive(&self, pid: LocalPid) -> bool {
        let monitor = self.0.monitor(None, &pid);
        if let Some(monitor) = &monitor {
            self.0.demonitor(None, monitor);
        }
        monitor.is_some()
    }
}

impl Events for Sink {
    fn event(&self, event: Event<'_>) {
        let happening = match event {
            Event::Data { kind, header, data } => {
                Happening::Data { kind, header: header.to_vec(), data: Data::new(data) }
            }
            Event::Term(term) => Happening::Term(term.to_vec()),
            Event::Eof => Happening::Eof,
            Event::Failed(reason) => Happening::Failed(reason.clone()),
            Event::Busy(on) => Happening::Busy(on),
            Event::Closed => {
                self.0.forget_port();
                Happening::Closed
            }
        };
        report(&self.0, happening);
    }

    fn send_term(&self, to: u64, term: &[u8]) -> bool {
        let Some(to) = self.process(to) else { return false };
        if to == self.0.owner() {
            // Behind what the owner is sent already (contract M11).
            report(&self.0, Happening::Term(term.to_vec()));
            return self.is_alive(to);
        }
        !is_scheduler_thread()
            && OwnedEnv::new()
                .send_and_clear(&to, |env| env.binary_to_term(term).map(|(term, _)| term).encode(env))
                .is_ok()
    }

    fn connected(&self) -> Option<u64> {
        Some(lock(&self.0.state).connected)
    }

    fn monitor(&self, pid: u64) -> Option<u64> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let pid = self.process(pid)?;
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        // With the lock held: should the process die at once, its monitor is known by then.
        let mut state = lock(&self.0.state);
        let monitor = self.0.monitor(None, &pid)?;
        state.monitors.push((monitor, number));
        Some(number)
    }

    fn demonitor(&self, number: u64) -> bool {
        let mut state = lock(&self.0.state);
        let Some(index) = state.monitors.iter().position(|(_, known)| *known == number) else { return false };
        let (monitor, _) = state.monitors.swap_remove(index);
        drop(state);
        self.0.demonitor(None, &monitor)
    }

    fn create_port(&self, owner: u64, name: &[u8], port: &Arc<Port>) -> Option<Arc<dyn Events>> {
        let pid = self.process(owner)?;
        if !self.is_alive(pid) {
            return None;
        }
        let handle = ResourceArc::new(DriverHandle::with(self.0.pids.clone(), pid, owner, false));
        handle.set_port(port);
        let made = Made(handle.clone());
        report(&self.0, Happening::CreatePort { owner: pid, name: name.to_vec(), made });
        Some(Arc::new(Sink(handle)))
    }

    fn pid_to_term(&self, pid: u64) -> Option<Vec<u8>> {
        Some(self.0.pids.to_term(pid))
    }

    fn pid_from_term(&self, term: &[u8]) -> Option<u64> {
        OwnedEnv::new().run(|env| {
            let (term, _) = env.binary_to_term(term)?;
            term.decode().ok().map(|pid| terms::number(env, pid))
        })
    }

    fn log(&self, text: &str) {
        report(&self.0, Happening::Log(text.to_owned()));
    }
}

impl Data {
    fn new(data: &[u8]) -> Data {
        if data.len() <= HEAP_BYTES {
            Data::Short(data.to_vec())
        } else {
            Data::Long(OwnedBinary::from_slice(data))
        }
    }
}
