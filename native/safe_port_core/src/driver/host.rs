//! What a driver can ask of its port.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use safe_port_driver::abi::host::{self, Failure, Host, Instance, Source, StartRefusal};

use super::events::Event;
use super::poller::{interest, Due};
use super::port::{Job, Phase, Port, Watch};
use super::sync::lock;

/// A timer set to more than this, some hundred years, never fires.
const MAX_TIMER: Duration = Duration::from_secs(1 << 32);

/// A port as its driver has it. It keeps the port alive.
pub(super) struct Handle(pub Arc<Port>);

impl Host for Handle {
    fn output(&self, header: &[u8], parts: &[&[u8]]) {
        match parts {
            [data] => self.0.deliver(header, data),
            _ => self.0.deliver(header, &parts.concat()),
        }
    }

    fn output_term(&self, term: &[u8]) {
        if self.0.takes_output() {
            self.0.tell(Event::Term(term));
        }
    }

    fn send_term(&self, to: u64, term: &[u8]) -> bool {
        self.0.events.get().is_some_and(|events| events.send_term(to, term))
    }

    fn fail(&self, failure: Failure) {
        self.0.fail(failure);
    }

    fn set_timer(&self, ms: u64) {
        let mut state = lock(&self.0.state);
        if let Some((key, _)) = state.timer.take() {
            self.0.runner.poller.cancel(key);
        }
        if state.phase < Phase::Stopping {
            state.timers += 1;
            let number = state.timers;
            let at = Instant::now() + Duration::from_millis(ms).min(MAX_TIMER);
            state.timer = Some((self.0.runner.poller.at(&self.0, at, Due::Timer(number)), number));
        }
    }

    fn cancel_timer(&self) {
        if let Some((key, _)) = lock(&self.0.state).timer.take() {
            self.0.runner.poller.cancel(key);
        }
    }

    fn read_timer(&self) -> Option<u64> {
        let ((at, _), _) = lock(&self.0.state).timer?;
        Some(at.saturating_duration_since(Instant::now()).as_millis() as u64)
    }

    fn run(&self, key: Option<u64>, job: host::Job) {
        self.0.runner.jobs.run(&self.0, key, job);
    }

    fn select(&self, fd: i32, ready: u32, source: &mut Option<Source>) -> Result<(), i32> {
        let poller = &self.0.runner.poller;
        let mut state = lock(&self.0.state);
        if state.phase >= Phase::Stopping {
            return Err(EBADF);
        }
        let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(EBADF);
        if let Some(watch) = state.watches.get_mut(&fd) {
            watch.ready |= ready;
            if !watch.in_callback {
                poller.rearm(fd, watch.key, interest(watch.ready)).map_err(errno)?;
            }
            return Ok(());
        }
        let key = poller.watch(&self.0, fd, interest(ready)).map_err(errno)?;
        if let Some(source) = source.take() {
            state.watches.insert(fd, Watch { key, ready, in_callback: false, source });
        }
        Ok(())
    }

    fn deselect(&self, fd: i32, ready: u32) {
        let mut state = lock(&self.0.state);
        if let Some(watch) = state.watches.get_mut(&fd) {
            watch.ready &= !ready;
            if !watch.in_callback {
                // Refused if the driver has closed it; then it is not watched either.
                let _ = self.0.runner.poller.rearm(fd, watch.key, interest(watch.ready));
            }
        }
    }

    fn release(&self, fd: i32) {
        let watch = lock(&self.0.state).watches.remove(&fd);
        if let Some(watch) = watch {
            self.0.runner.poller.forget(fd, watch.key);
            self.0.release_source(watch.source);
        }
    }

    fn monitor(&self, pid: u64) -> Option<u64> {
        let mut state = lock(&self.0.state);
        if state.phase >= Phase::Stopping {
            return None;
        }
        // With the lock held: should the process die at once, its monitor is known by then.
        let monitor = self.0.events.get()?.monitor(pid)?;
        state.monitors.insert(monitor, pid);
        Some(monitor)
    }

    fn demonitor(&self, monitor: u64) -> bool {
        let known = lock(&self.0.state).monitors.remove(&monitor).is_some();
        known && self.0.events.get().is_some_and(|events| events.demonitor(monitor))
    }

    fn queue_size(&self, bytes: u64) {
        self.0.queue_size.store(bytes, Ordering::Release);
        // From a thread of the driver's own no callback follows that would notice.
        if bytes == 0 && lock(&self.0.state).phase == Phase::Limbo {
            self.0.push(Job::Settle);
        }
    }

    fn busy(&self, on: bool) {
        let held = {
            let mut state = lock(&self.0.state);
            state.busy.driver = on;
            self.0.report_busy(&state);
            if on || state.phase == Phase::Starting {
                return;
            }
            std::mem::take(&mut state.held)
        };
        self.0.push_front(held);
    }

    fn busy_limits(&self, low: u64, high: u64) {
        let mut state = lock(&self.0.state);
        state.busy.limit(low, high);
        self.0.report_busy(&state);
    }

    fn caller(&self) -> Option<u64> {
        Some(self.0.caller.load(Ordering::Relaxed)).filter(|caller| *caller != 0)
    }

    fn connected(&self) -> Option<u64> {
        self.0.events.get()?.connected()
    }

    fn control_binary(&self, on: bool) {
        self.0.control_binary.store(on, Ordering::Relaxed);
    }

    fn create_port(&self, owner: u64, name: &[u8]) -> Option<Arc<dyn Host>> {
        let port = self.0.runner.create_port(&self.0)?;
        let events = self.0.events.get().and_then(|events| events.create_port(owner, name, &port));
        if let Some(events) = events {
            let _ = port.events.set(events);
            return Some(Arc::new(Handle(port)));
        }
        lock(&port.state).phase = Phase::Stopped;
        port.unused();
        None
    }

    fn adopt(&self, instance: Instance) {
        self.0.adopt(instance);
    }

    fn os_pid(&self, os_pid: u32) {
        self.0.os_pid.store(os_pid, Ordering::Relaxed);
    }

    fn ack_start(&self, result: Result<(), StartRefusal>) {
        if !self.0.driver.library.init_ack() {
            return;
        }
        if result.is_err() {
            // The opener gets the error, nobody anything else.
            lock(&self.0.state).ending = true;
        }
        self.0.acknowledge(result);
        self.0.push(Job::Settle);
    }

    fn pid_to_term(&self, pid: u64) -> Option<Vec<u8>> {
        self.0.events.get()?.pid_to_term(pid)
    }

    fn pid_from_term(&self, term: &[u8]) -> Option<u64> {
        self.0.events.get()?.pid_from_term(term)
    }

    fn log(&self, text: &str) {
        self.0.log(text);
    }
}

const EBADF: i32 = 9;

impl Port {
    /// Whether output still goes to the owner: not in limbo, nor after a failure.
    fn takes_output(&self) -> bool {
        let state = lock(&self.state);
        state.phase <= Phase::Open && !state.ending
    }

    fn deliver(&self, header: &[u8], data: &[u8]) {
        if !self.takes_output() {
            return;
        }
        self.input.fetch_add((header.len() + data.len()) as u64, Ordering::Relaxed);
        // The lock keeps the output of several threads in one order, lines included.
        lock(&self.lines).cut(data, |kind, data| self.tell(Event::Data { kind, header, data }));
    }

    /// Sends the line that was not ended.
    pub(super) fn flush_lines(&self) {
        lock(&self.lines).flush(|kind, data| self.tell(Event::Data { kind, header: &[], data }));
    }
}
