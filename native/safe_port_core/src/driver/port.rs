//! A port of a driver, as the VM's side sees it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use safe_port_driver::abi::host::{self, Failure, Instance, Source, StartRefusal};
use safe_port_driver::{Bytes, Locking};

use super::busy::Busy;
use super::events::{Event, Events, Reason};
use super::lane::Lane;
use super::lines::Lines;
use super::poller::{Due, TimerKey};
use super::registry::Driver;
use super::slot::{slot, Answer, Replier, Reply};
use super::sync::lock;
use super::types::{BusyLimits, CloseMode, CommandError, CommandMode, ControlReply, Options, PortInfo};
use super::{Shared, Task};

/// A port. It goes on existing, closed, as long as somebody has it.
pub struct Port {
    pub(super) id: u64,
    pub(super) driver: Arc<Driver>,
    pub(super) runner: Arc<Shared>,
    pub(super) lane: Arc<Lane<Task>>,
    pub(super) options: Options,
    pub(super) events: OnceLock<Arc<dyn Events>>,
    /// Locked during each callback, which the lane allows one at a time anyway.
    pub(super) instance: Mutex<Option<Instance>>,
    pub(super) state: Mutex<State>,
    pub(super) lines: Mutex<Lines>,
    /// 0: none.
    pub(super) caller: AtomicU64,
    /// As in the state, to be read without its lock.
    pub(super) busy: AtomicBool,
    pub(super) control_binary: AtomicBool,
    pub(super) input: AtomicU64,
    pub(super) output: AtomicU64,
    pub(super) queue_size: AtomicU64,
    /// 0: none.
    pub(super) os_pid: AtomicU32,
}

/// Where a port is in its life. It only moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// `start` has not returned.
    Starting,
    /// Open.
    Open,
    /// Limbo: closed for all but the driver, which empties its queue.
    Limbo,
    /// `stop` was called.
    Stopping,
    /// `stop` has returned.
    Stopped,
}

/// What changes during a port's life.
pub(super) struct State {
    pub phase: Phase,
    /// The driver is to stop after the present callback, whatever is in its queue.
    pub ending: bool,
    /// Since when the port is to close.
    pub closing: Option<Instant>,
    /// Given up: reported closed although the driver has not stopped.
    pub written_off: bool,
    /// The driver failed before its `start` returned.
    pub early: Option<Failure>,
    /// Opening waits for `ack_start`.
    pub ack: Option<Replier<Result<(), StartRefusal>>>,
    pub eof_sent: bool,
    pub busy: Busy,
    /// Jobs put off: commands of a busy port and what their senders ask for behind them, everything before a port made by
    /// its driver has its instance.
    pub held: VecDeque<Job>,
    pub timer: Option<(TimerKey, u64)>,
    pub timers: u64,
    pub watches: HashMap<i32, Watch>,
    /// Process by monitor.
    pub monitors: HashMap<u64, u64>,
}

/// A watched descriptor.
pub(super) struct Watch {
    pub key: u64,
    /// 1 read, 2 write; both may be off for a while.
    pub ready: u32,
    /// `ready_input` or `ready_output` is being called: armed again after that.
    pub in_callback: bool,
    pub source: Source,
}

/// Something to do for a port, in its lane.
pub(super) enum Job {
    Start {
        command: Vec<u8>,
        caller: u64,
        reply: Replier<Result<(), StartRefusal>>,
    },
    Output {
        data: Vec<Bytes>,
        bytes: u64,
        caller: u64,
        force: bool,
    },
    Control {
        op: u32,
        data: Bytes,
        caller: u64,
        reply: Replier<ControlReply>,
    },
    Call {
        op: u32,
        term: Bytes,
        caller: u64,
        reply: Replier<Bytes>,
    },
    Ready {
        fd: i32,
        key: u64,
        readable: bool,
        writable: bool,
    },
    Timeout {
        number: u64,
    },
    Async {
        job: host::Job,
    },
    ProcessExit {
        monitor: u64,
    },
    Close {
        mode: CloseMode,
    },
    /// Only look whether it is time to stop.
    Settle,
}

impl Job {
    /// Whether this is a call by somebody who has sent one of the jobs that are `held`.
    ///
    /// The calls of others go ahead: one of them may be what makes the driver take commands again.
    pub fn asks_behind(&self, held: &VecDeque<Job>) -> bool {
        let (Job::Control { caller, .. } | Job::Call { caller, .. }) = self else { return false };
        held.iter().any(|job| job.caller() == Some(*caller))
    }

    fn caller(&self) -> Option<u64> {
        match self {
            Job::Output { caller, .. } | Job::Control { caller, .. } | Job::Call { caller, .. } => {
                Some(*caller)
            }
            _ => None,
        }
    }
}

impl Port {
    pub(super) fn new(driver: &Arc<Driver>, runner: &Arc<Shared>, options: Options) -> Port {
        let limits = if driver.library.busy_msgq() { options.busy_limits } else { BusyLimits::Disabled };
        Port {
            id: runner.next_id(),
            driver: Arc::clone(driver),
            runner: Arc::clone(runner),
            lane: driver.lane.clone().unwrap_or_else(|| Arc::new(Lane::new())),
            options,
            events: OnceLock::new(),
            instance: Mutex::new(None),
            state: Mutex::new(State {
                phase: Phase::Starting,
                ending: false,
                closing: None,
                written_off: false,
                early: None,
                ack: None,
                eof_sent: false,
                busy: Busy::new(limits),
                held: VecDeque::new(),
                timer: None,
                timers: 0,
                watches: HashMap::new(),
                monitors: HashMap::new(),
            }),
            lines: Mutex::new(Lines::new(options.line)),
            caller: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            control_binary: AtomicBool::new(false),
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
            queue_size: AtomicU64::new(0),
            os_pid: AtomicU32::new(0),
        }
    }

    /// Sends a command to the driver. Never blocks.
    pub fn command(
        self: &Arc<Self>,
        data: Vec<Bytes>,
        caller: u64,
        mode: CommandMode,
    ) -> Result<(), CommandError> {
        let force = mode == CommandMode::Force;
        let bytes = data.iter().map(|part| part.len() as u64).sum();
        if force && !self.driver.library.soft_busy() {
            return Err(if self.is_open() { CommandError::NotSupported } else { CommandError::Closed });
        }
        let mut state = lock(&self.state);
        if !state.is_open() {
            return Err(CommandError::Closed);
        }
        if state.busy.is_on() && mode == CommandMode::Refuse {
            return Err(CommandError::Busy);
        }
        state.busy.begin(bytes);
        self.output.fetch_add(bytes, Ordering::Relaxed);
        self.report_busy(&state);
        // With the lock held, so that of two callers the first to be counted is the first to be served.
        self.push(Job::Output { data, bytes, caller, force });
        Ok(())
    }

    /// Calls the driver's `control`. Never blocks; the reply comes later.
    pub fn control(self: &Arc<Self>, op: u32, data: Bytes, caller: u64) -> Reply<ControlReply> {
        let (replier, reply) = slot();
        self.push(Job::Control { op, data, caller, reply: replier });
        reply
    }

    /// As [`control`](Port::control); `listener` gets the reply on the thread that calls the driver, before anything else
    /// comes of the call.
    pub fn control_to(
        self: &Arc<Self>,
        op: u32,
        data: Bytes,
        caller: u64,
        listener: impl FnOnce(Answer<ControlReply>) + Send + 'static,
    ) {
        self.push(Job::Control { op, data, caller, reply: Replier::to(listener) });
    }

    /// Calls the driver's `call` with a term in external term format; the reply is one too.
    pub fn call(self: &Arc<Self>, op: u32, term: Bytes, caller: u64) -> Reply<Bytes> {
        let (replier, reply) = slot();
        self.push(Job::Call { op, term, caller, reply: replier });
        reply
    }

    /// As [`call`](Port::call); `listener` gets the reply as that of [`control_to`](Port::control_to) does.
    pub fn call_to(
        self: &Arc<Self>,
        op: u32,
        term: Bytes,
        caller: u64,
        listener: impl FnOnce(Answer<Bytes>) + Send + 'static,
    ) {
        self.push(Job::Call { op, term, caller, reply: Replier::to(listener) });
    }

    /// Closes the port. Never blocks; [`Event::Closed`] says when it is done.
    ///
    /// A driver that does not return from a callback is given up after a while.
    pub fn close(self: &Arc<Self>, mode: CloseMode) {
        {
            let mut state = lock(&self.state);
            if state.phase >= Phase::Stopping {
                return;
            }
            if mode > CloseMode::Flush && state.phase == Phase::Open {
                // What waits for the driver is not done any more.
                state.ending = true;
            }
            self.watch_closing(&mut state);
        }
        self.push(Job::Close { mode });
    }

    /// A process that the driver monitors has died; `monitor` is what [`Events::monitor`] returned.
    pub fn process_exited(self: &Arc<Self>, monitor: u64) {
        self.push(Job::ProcessExit { monitor });
    }

    /// Whether commands are taken, be they refused for the moment.
    pub fn is_open(&self) -> bool {
        lock(&self.state).is_open()
    }

    /// Whether the driver takes forced commands when it is busy.
    pub fn soft_busy(&self) -> bool {
        self.driver.library.soft_busy()
    }

    /// Whether commands have to wait.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Its figures at this moment.
    pub fn info(&self) -> PortInfo {
        let state = lock(&self.state);
        PortInfo {
            driver: self.driver.library.name(),
            driver_locking: self.driver.library.locking() == Locking::Driver,
            input: self.input.load(Ordering::Relaxed),
            output: self.output.load(Ordering::Relaxed),
            queue_size: self.queue_size.load(Ordering::Relaxed),
            busy: state.busy.is_on(),
            os_pid: Some(self.os_pid.load(Ordering::Relaxed)).filter(|os_pid| *os_pid != 0),
            monitors: state.monitors.values().copied().collect(),
            callback: self.lane.running().map(|running| running.since.elapsed()),
            written_off: state.written_off,
        }
    }

    pub(super) fn push(self: &Arc<Self>, job: Job) {
        let task = Task::Port(Arc::clone(self), job);
        // Fails only if the last thread was written off and the system gives no other. The job waits for the next one.
        let _ = self.runner.pool.push(&self.lane, task);
    }

    pub(super) fn push_front(self: &Arc<Self>, jobs: VecDeque<Job>) {
        let tasks = jobs.into_iter().map(|job| Task::Port(Arc::clone(self), job));
        if self.lane.push_front(tasks) {
            let _ = self.runner.pool.submit(Arc::clone(&self.lane));
        }
    }

    pub(super) fn tell(&self, event: Event<'_>) {
        if let Some(events) = self.events.get() {
            events.event(event);
        }
    }

    pub(super) fn log(&self, text: &str) {
        if let Some(events) = self.events.get() {
            events.log(text);
        }
    }

    /// Reports that commands have to wait, or no longer, if that has changed.
    pub(super) fn report_busy(&self, state: &State) {
        let busy = state.busy.is_on();
        if self.busy.swap(busy, Ordering::AcqRel) != busy {
            self.tell(Event::Busy(busy));
        }
    }

    /// The port ends because the driver says so, or panicked.
    pub(super) fn fail(self: &Arc<Self>, failure: Failure) {
        let mut state = lock(&self.state);
        match state.phase {
            Phase::Stopping | Phase::Stopped => return,
            Phase::Starting => {
                state.early.get_or_insert(failure);
                return;
            }
            Phase::Open if state.ending => return,
            Phase::Open if failure == Failure::Eof && self.options.eof => {
                let again = std::mem::replace(&mut state.eof_sent, true);
                drop(state);
                if !again {
                    self.flush_lines();
                    self.tell(Event::Eof);
                }
                return;
            }
            Phase::Open | Phase::Limbo => {}
        }
        state.ending = true;
        let limbo = state.phase == Phase::Limbo;
        self.watch_closing(&mut state);
        drop(state);
        if !limbo {
            if failure == Failure::Eof {
                self.flush_lines();
            }
            self.tell(Event::Failed(&Reason::Driver(failure)));
        } else if let Failure::Panic(message) = failure {
            self.log(&format!(
                "driver {} panicked while it emptied its queue: {message}",
                self.driver.library.name()
            ));
        }
        self.push(Job::Settle);
    }

    /// Its driver is unloaded.
    pub(super) fn unload(self: &Arc<Self>) {
        if self.is_open() {
            self.tell(Event::Failed(&Reason::Unloaded));
        }
        self.close(CloseMode::Force);
    }

    /// Notes that the port is to close, and has it looked at from time to time until it is closed.
    fn watch_closing(self: &Arc<Self>, state: &mut State) {
        if state.closing.is_none() {
            state.closing = Some(Instant::now());
            self.check_later();
        }
    }

    fn check_later(self: &Arc<Self>) {
        self.runner.poller.at(self, Instant::now() + self.runner.config.stuck_after, Due::Check);
    }

    /// Called from time to time while the port is to close: gives it up if a callback does not return.
    pub(super) fn check_stuck(self: &Arc<Self>) {
        let stuck_after = self.runner.config.stuck_after;
        let mut state = lock(&self.state);
        if state.phase == Phase::Stopped || state.written_off {
            return;
        }
        let unserved = self.lane.running().is_none() && !self.lane.is_empty();
        let late = state.closing.is_some_and(|since| since.elapsed() >= stuck_after);
        if self.runner.pool.write_off(&self.lane, stuck_after) || (unserved && late) {
            state.written_off = true;
            drop(state);
            self.driver.given_up(self.id);
            self.runner.registry.unused(&self.runner, &self.driver);
            self.tell(Event::Closed);
        } else {
            drop(state);
            self.check_later();
        }
    }
}

impl State {
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Open) && !self.ending && self.closing.is_none()
    }
}
