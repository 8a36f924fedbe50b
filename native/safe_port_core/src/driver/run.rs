//! What a worker does for a port: one job after the other, and the end when it has come.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use safe_port_driver::abi::host::{Failure, Instance, Refusal, Source, StartRefusal, READ, WRITE};
use safe_port_driver::Bytes;

use super::events::Event;
use super::host::Handle;
use super::poller::interest;
use super::port::{Job, Phase, Port};
use super::slot::{CallError, Replier};
use super::sync::lock;
use super::types::{CloseMode, ControlReply};
use super::MAX_REPLY_BYTES;

impl Port {
    /// Does a job. Called by the lane, so never twice at a time.
    pub(super) fn run(self: &Arc<Self>, job: Job) {
        {
            let mut state = lock(&self.state);
            match state.phase {
                Phase::Starting if !matches!(job, Job::Start { .. }) => {
                    // A port made by its driver that has no instance yet.
                    state.held.push_back(job);
                    return;
                }
                // What its caller has sent before waits for the driver to be no longer busy.
                Phase::Open if job.asks_behind(&state.held) => {
                    state.held.push_back(job);
                    return;
                }
                // Callers learn that the port is closed when their job is dropped.
                Phase::Stopping | Phase::Stopped => return,
                _ => {}
            }
            if state.ending {
                drop(state);
                drop(job);
                return self.settle();
            }
        }
        match job {
            Job::Start { command, caller, reply } => self.start(&command, caller, reply),
            Job::Output { data, bytes, caller, force } => self.send(data, bytes, caller, force),
            Job::Control { op, data, caller, reply } => {
                let result = self.called_by(caller, |instance| instance.control(op, &data));
                let binary = self.control_binary.load(Ordering::Relaxed);
                self.answer(&reply, result.map(|result| result.map(|bytes| ControlReply { bytes, binary })));
            }
            Job::Call { op, term, caller, reply } => {
                let result = self.called_by(caller, |instance| instance.call(op, &term));
                self.answer(&reply, result);
            }
            Job::Ready { fd, key, readable, writable } => self.ready(fd, key, readable, writable),
            Job::Timeout { number } => self.timeout(number),
            Job::Async { job } => self.callback(|instance| instance.ready_async(job)),
            Job::ProcessExit { monitor } => self.process_exit(monitor),
            Job::Close { mode } => self.begin_close(mode),
            Job::Settle => {}
        }
        self.settle();
    }

    /// Calls the driver; `None` if it has stopped.
    fn with_instance<R>(&self, call: impl FnOnce(&mut Instance) -> R) -> Option<R> {
        lock(&self.instance).as_mut().map(call)
    }

    fn callback(self: &Arc<Self>, call: impl FnOnce(&mut Instance) -> Result<(), String>) {
        if let Some(Err(message)) = self.with_instance(call) {
            self.fail(Failure::Panic(message));
        }
    }

    fn called_by<R>(&self, caller: u64, call: impl FnOnce(&mut Instance) -> R) -> Option<R> {
        self.caller.store(caller, Ordering::Relaxed);
        let result = self.with_instance(call);
        self.caller.store(0, Ordering::Relaxed);
        result
    }

    fn answer<T: HasBytes>(self: &Arc<Self>, reply: &Replier<T>, result: Option<Result<T, Refusal>>) {
        reply.answer(match result {
            Some(Ok(answer)) if answer.bytes() > MAX_REPLY_BYTES => Err(CallError::TooLarge(answer.bytes())),
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Refusal::BadArg)) => Err(CallError::BadArg),
            Some(Err(Refusal::Panic(message))) => {
                // The caller first: with the failure its port is gone.
                reply.answer(Err(CallError::Panic(message.clone())));
                return self.fail(Failure::Panic(message));
            }
            None => Err(CallError::Closed),
        });
    }

    fn start(self: &Arc<Self>, command: &[u8], caller: u64, reply: Replier<Result<(), StartRefusal>>) {
        lock(&self.state).ack = Some(reply);
        let library = self.driver.library;
        self.caller.store(caller, Ordering::Relaxed);
        let started = library.start(Arc::new(Handle(Arc::clone(self))), command);
        self.caller.store(0, Ordering::Relaxed);
        match started {
            Ok(instance) => {
                self.adopt(instance);
                if !library.init_ack() {
                    self.acknowledge(Ok(()));
                }
            }
            Err(refusal) => {
                let reply = lock(&self.state).ack.take();
                self.begin_stop();
                self.end_stop();
                if let Some(reply) = reply {
                    reply.answer(Ok(Err(refusal)));
                }
            }
        }
    }

    /// Lets the opener go on.
    pub(super) fn acknowledge(&self, result: Result<(), StartRefusal>) {
        let reply = lock(&self.state).ack.take();
        if let Some(reply) = reply {
            reply.answer(Ok(result));
        }
    }

    /// The port has its instance: it is open.
    pub(super) fn adopt(self: &Arc<Self>, instance: Instance) {
        *lock(&self.instance) = Some(instance);
        let (held, early) = {
            let mut state = lock(&self.state);
            state.phase = Phase::Open;
            (std::mem::take(&mut state.held), state.early.take())
        };
        self.push_front(held);
        if let Some(failure) = early {
            self.fail(failure);
        }
    }

    fn send(self: &Arc<Self>, data: Vec<Bytes>, bytes: u64, caller: u64, force: bool) {
        {
            let mut state = lock(&self.state);
            if state.phase == Phase::Open && state.busy.driver && !force {
                state.held.push_back(Job::Output { data, bytes, caller, force });
                return;
            }
            if state.phase != Phase::Open {
                return;
            }
        }
        if let Some(Err(message)) = self.called_by(caller, |instance| instance.outputv(data)) {
            self.fail(Failure::Panic(message));
        }
        let mut state = lock(&self.state);
        state.busy.end(bytes);
        self.report_busy(&state);
    }

    fn ready(self: &Arc<Self>, fd: i32, key: u64, readable: bool, writable: bool) {
        // The watch may be another one by now, or want something else.
        let begin = |mode: u32| {
            let mut state = lock(&self.state);
            let watch =
                state.watches.get_mut(&fd).filter(|watch| watch.key == key && watch.ready & mode != 0);
            watch.map(|watch| watch.in_callback = true).is_some()
        };
        if readable && begin(READ) {
            self.callback(|instance| instance.ready_input(fd));
        }
        if writable && begin(WRITE) {
            self.callback(|instance| instance.ready_output(fd));
        }
        let mut state = lock(&self.state);
        let Some(watch) = state.watches.get_mut(&fd).filter(|watch| watch.key == key) else { return };
        watch.in_callback = false;
        if watch.ready != 0 && self.runner.poller.rearm(fd, key, interest(watch.ready)).is_err() {
            drop(state);
            self.log(&format!(
                "driver {} closed descriptor {fd} before it released it",
                self.driver.library.name()
            ));
        }
    }

    fn process_exit(self: &Arc<Self>, monitor: u64) {
        let pid = lock(&self.state).monitors.get(&monitor).copied();
        if let Some(pid) = pid {
            self.callback(|instance| instance.process_exit(monitor, pid));
            lock(&self.state).monitors.remove(&monitor);
        }
    }

    fn timeout(self: &Arc<Self>, number: u64) {
        let due = {
            let mut state = lock(&self.state);
            state.timer.take_if(|(_, current)| *current == number).is_some()
        };
        if due {
            self.callback(Instance::timeout);
        }
    }

    fn begin_close(self: &Arc<Self>, mode: CloseMode) {
        let (flush, held) = {
            let mut state = lock(&self.state);
            // What waits for a port to be no longer busy is not done any more.
            let held = std::mem::take(&mut state.held);
            let queued = self.queue_size.load(Ordering::Acquire) > 0;
            let flush = state.phase == Phase::Open && mode == CloseMode::Flush && queued;
            if flush {
                state.phase = Phase::Limbo;
            } else if state.phase == Phase::Open || mode == CloseMode::Force {
                state.ending = true;
            }
            (flush, held)
        };
        // Whoever waits for one of these learns that the port is closed.
        drop(held);
        if flush {
            self.callback(Instance::flush);
        }
    }

    /// Stops the driver if it is time to.
    fn settle(self: &Arc<Self>) {
        let stop = {
            let state = lock(&self.state);
            match state.phase {
                Phase::Open => state.ending,
                Phase::Limbo => state.ending || self.queue_size.load(Ordering::Acquire) == 0,
                Phase::Starting | Phase::Stopping | Phase::Stopped => false,
            }
        };
        if stop {
            self.stop();
        }
    }

    fn stop(self: &Arc<Self>) {
        self.begin_stop();
        let instance = lock(&self.instance).take();
        if let Some(Err(message)) = instance.map(Instance::stop) {
            self.log(&format!(
                "driver {} panicked when it was stopped: {message}",
                self.driver.library.name()
            ));
        }
        if !self.end_stop() {
            self.tell(Event::Closed);
        }
    }

    /// From here on nothing calls the driver but `stop`.
    fn begin_stop(&self) {
        let (timer, monitors, held, ack) = {
            let mut state = lock(&self.state);
            state.phase = Phase::Stopping;
            let monitors = std::mem::take(&mut state.monitors);
            (state.timer.take(), monitors, std::mem::take(&mut state.held), state.ack.take())
        };
        if let Some((key, _)) = timer {
            self.runner.poller.cancel(key);
        }
        if let Some(events) = self.events.get() {
            for monitor in monitors.into_keys() {
                events.demonitor(monitor);
            }
        }
        // Whoever waits for one of these learns that the port is closed.
        drop((held, ack));
    }

    /// Releases what is left. Whether the port was written off meanwhile.
    fn end_stop(self: &Arc<Self>) -> bool {
        let watches = std::mem::take(&mut lock(&self.state).watches);
        for (fd, watch) in watches {
            self.runner.poller.forget(fd, watch.key);
            self.release_source(watch.source);
        }
        let written_off = {
            let mut state = lock(&self.state);
            state.phase = Phase::Stopped;
            state.written_off
        };
        self.unused();
        written_off
    }

    /// The driver has one port less.
    pub(super) fn unused(&self) {
        self.driver.stopped(self.id);
        self.runner.registry.unused(&self.runner, &self.driver);
    }

    /// `stop_select`.
    pub(super) fn release_source(self: &Arc<Self>, source: Source) {
        if let Err(message) = source.release() {
            self.fail(Failure::Panic(message));
        }
    }
}

/// An answer that has a size.
trait HasBytes {
    fn bytes(&self) -> usize;
}

impl HasBytes for ControlReply {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl HasBytes for Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }
}
