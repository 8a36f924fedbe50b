//! The one thread that waits: for descriptors and for times, of all ports.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use safe_port_driver::abi::host::{READ, WRITE};
use safe_port_os::epoll::{Epoll, Interest};
use safe_port_os::poll::Notify;

use super::port::{Job, Port};
use super::sync::lock;

/// The modes of `driver_select`, as a driver gives them.
pub(super) fn interest(ready: u32) -> Interest {
    Interest { readable: ready & READ != 0, writable: ready & WRITE != 0 }
}

/// The key of the descriptor that wakes the thread. Those of ports begin above.
const WAKE: u64 = 0;

/// Whom to tell when a time has come.
pub(super) enum Due {
    /// The timer that the driver has set, by its number.
    Timer(u64),
    /// Look whether the port, which is to close, is stuck.
    Check,
}

/// What happens, and to whom.
type Happening = (Arc<Port>, Due);

/// When, and a number that tells equal times apart.
pub(super) type TimerKey = (Instant, u64);

/// Handle of the thread. It ends with the handle.
pub(super) struct Poller(Arc<Shared>);

struct Shared {
    epoll: Epoll,
    wake: Notify,
    waits: Mutex<Waits>,
}

#[derive(Default)]
struct Waits {
    descriptors: HashMap<u64, (Weak<Port>, RawFd)>,
    timers: BTreeMap<TimerKey, (Weak<Port>, Due)>,
    /// The last key that was given out.
    last: u64,
    stopped: bool,
}

impl Waits {
    fn key(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Poller {
    /// Starts the thread.
    pub fn new() -> io::Result<Poller> {
        let shared = Shared { epoll: Epoll::new()?, wake: Notify::new()?, waits: Mutex::default() };
        let wake = shared.wake.as_fd().as_raw_fd();
        shared.epoll.add(wake, WAKE, Interest { readable: true, writable: false })?;
        let poller = Poller(Arc::new(shared));
        let thread = Arc::clone(&poller.0);
        super::sync::spawn("sp_driver_poll", move || thread.run())?;
        Ok(poller)
    }

    /// Watches `fd` for `port`, which gets [`Job::Ready`] once; then the descriptor rests. The key of the watch.
    pub fn watch(&self, port: &Arc<Port>, fd: RawFd, interest: Interest) -> io::Result<u64> {
        let mut waits = lock(&self.0.waits);
        let key = waits.key();
        self.0.epoll.add_once(fd, key, interest)?;
        waits.descriptors.insert(key, (Arc::downgrade(port), fd));
        Ok(key)
    }

    /// Watches once more.
    pub fn rearm(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.0.epoll.rearm(fd, key, interest)
    }

    /// Watches no longer: the descriptor may be closed when this returns.
    pub fn forget(&self, fd: RawFd, key: u64) {
        lock(&self.0.waits).descriptors.remove(&key);
        // Refused if it was closed already, which takes an unusual driver; then it is not in the set either.
        let _ = self.0.epoll.remove(fd);
    }

    /// Has `due` happen at `at`.
    pub fn at(&self, port: &Arc<Port>, at: Instant, due: Due) -> TimerKey {
        let mut waits = lock(&self.0.waits);
        let key = (at, waits.key());
        waits.timers.insert(key, (Arc::downgrade(port), due));
        if waits.timers.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.0.wake.notify();
        }
        key
    }

    /// It is not to happen, if it has not yet.
    pub fn cancel(&self, key: TimerKey) {
        lock(&self.0.waits).timers.remove(&key);
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        lock(&self.0.waits).stopped = true;
        self.0.wake.notify();
    }
}

impl Shared {
    fn run(&self) {
        let mut ready = Vec::new();
        loop {
            let Some((due, timeout)) = self.due() else { return };
            for (port, due) in due {
                match due {
                    Due::Timer(number) => port.push(Job::Timeout { number }),
                    Due::Check => port.check_stuck(),
                }
            }
            if self.epoll.wait(&mut ready, timeout).is_err() {
                // Only a broken descriptor table does this; to go on would be to spin.
                return;
            }
            for event in ready.drain(..) {
                if event.key == WAKE {
                    self.wake.drain();
                    continue;
                }
                let known = lock(&self.waits).descriptors.get(&event.key).cloned();
                let Some((port, fd)) = known.and_then(|(port, fd)| Some((port.upgrade()?, fd))) else {
                    continue;
                };
                let (readable, writable) = (event.readable, event.writable);
                port.push(Job::Ready { fd, key: event.key, readable, writable });
            }
        }
    }

    /// What is due now, and the time until the next; `None` when all is over.
    fn due(&self) -> Option<(Vec<Happening>, Option<Duration>)> {
        let mut waits = lock(&self.waits);
        if waits.stopped {
            return None;
        }
        let now = Instant::now();
        let later = waits.timers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut waits.timers, later);
        let timeout = waits.timers.first_key_value().map(|((at, _), _)| at.saturating_duration_since(now));
        let due = due.into_values().filter_map(|(port, due)| Some((port.upgrade()?, due))).collect();
        Some((due, timeout))
    }
}
