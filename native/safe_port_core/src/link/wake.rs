//! Wakes the link's thread, by a system call only if it sleeps or is about to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{fence, AtomicBool, Ordering};

use safe_port_os::poll::Notify;

/// The thread's bell. Callers publish their work first, then [`ring`](Wake::ring). The thread calls
/// [`rest`](Wake::rest), looks for work once more, polls if there is none, and calls [`rise`](Wake::rise) either way.
pub struct Wake {
    resting: Resting,
    notify: Notify,
}

impl Wake {
    pub fn new() -> io::Result<Wake> {
        Ok(Wake { resting: Resting(AtomicBool::new(false)), notify: Notify::new()? })
    }

    /// There is work.
    pub fn ring(&self) {
        if self.resting.end() {
            self.notify.notify();
        }
    }

    /// From now on work is announced.
    pub fn rest(&self) {
        self.resting.begin();
    }

    /// The thread is awake; `rung` says whether it was by the bell.
    pub fn rise(&self, rung: bool) {
        self.resting.end();
        if rung {
            self.notify.drain();
        }
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

/// Whether the thread sleeps or is about to.
///
/// The fences forbid that the thread does not see the work while its caller does not see it rest.
struct Resting(AtomicBool);

impl Resting {
    fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether it was so, for one of all who call this.
    fn end(&self) -> bool {
        fence(Ordering::SeqCst);
        // Most find it awake: a look takes the cache line from nobody.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Where a caller is in `ring`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Caller {
        Publish,
        Look,
        Notify,
    }

    /// Where the thread is in its loop.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Thread {
        Work,
        Rest,
        LookOnce,
        /// `None`: asleep. Whether it was woken by the bell.
        Poll(Option<bool>),
        Drain,
    }

    /// One state of everything. Each caller: where it is, and how often it will still ring.
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Model {
        callers: Vec<(Caller, u32)>,
        thread: Thread,
        resting: bool,
        bell: bool,
        work: u32,
        /// How often something else wakes the thread.
        others: u32,
    }

    impl Model {
        /// The real flag, in this state, does `step`.
        fn flag<T>(&mut self, step: impl FnOnce(&Resting) -> T) -> T {
            let flag = Resting(AtomicBool::new(self.resting));
            let result = step(&flag);
            self.resting = flag.0.into_inner();
            result
        }

        /// All states that one step of anyone leads to.
        fn next(&self) -> Vec<Model> {
            let callers = (0..self.callers.len()).filter_map(|index| self.call(index));
            callers.chain(self.run()).chain(self.disturb()).collect()
        }

        fn call(&self, index: usize) -> Option<Model> {
            let mut next = self.clone();
            let (at, left) = self.callers[index];
            next.callers[index] = match at {
                Caller::Publish if left == 0 => return None,
                Caller::Publish => {
                    next.work += 1;
                    (Caller::Look, left)
                }
                Caller::Look if next.flag(Resting::end) => (Caller::Notify, left),
                Caller::Look => (Caller::Publish, left - 1),
                Caller::Notify => {
                    next.bell = true;
                    (Caller::Publish, left - 1)
                }
            };
            Some(next)
        }

        fn run(&self) -> Option<Model> {
            let mut next = self.clone();
            next.thread = match self.thread {
                Thread::Work => {
                    next.work = 0;
                    Thread::Rest
                }
                Thread::Rest => {
                    next.flag(Resting::begin);
                    Thread::LookOnce
                }
                Thread::LookOnce if self.work > 0 => Thread::Poll(Some(false)),
                Thread::LookOnce => Thread::Poll(None),
                Thread::Poll(None) if self.bell => Thread::Poll(Some(true)),
                Thread::Poll(None) => return None,
                Thread::Poll(Some(rung)) => {
                    next.flag(Resting::end);
                    if rung {
                        Thread::Drain
                    } else {
                        Thread::Work
                    }
                }
                Thread::Drain => {
                    next.bell = false;
                    Thread::Work
                }
            };
            Some(next)
        }

        /// Something else than the bell wakes the thread.
        fn disturb(&self) -> Option<Model> {
            let asleep = self.thread == Thread::Poll(None) && self.others > 0;
            asleep.then(|| Model {
                thread: Thread::Poll(Some(false)),
                others: self.others - 1,
                ..self.clone()
            })
        }
    }

    #[test]
    fn no_wake_up_is_lost_in_any_order_of_steps() {
        let first = Model {
            callers: vec![(Caller::Publish, 3), (Caller::Publish, 2), (Caller::Publish, 2)],
            thread: Thread::Work,
            resting: false,
            bell: false,
            work: 0,
            others: 2,
        };
        let (mut seen, mut open, mut ends) = (HashSet::new(), vec![first], 0);
        while let Some(model) = open.pop() {
            if !seen.insert(model.clone()) {
                continue;
            }
            let next = model.next();
            if next.is_empty() {
                ends += 1;
                assert_eq!((model.work, model.thread), (0, Thread::Poll(None)), "{model:?}");
            }
            open.extend(next);
        }
        assert!(ends > 0 && seen.len() > 1000, "{ends} ends, {} states", seen.len());
    }

    #[test]
    fn a_thread_that_is_awake_is_not_rung_for() {
        let wake = Wake::new().expect("a notification");
        wake.ring();
        assert!(!is_rung(&wake));
        wake.rest();
        wake.ring();
        wake.ring();
        assert!(is_rung(&wake));
        wake.rise(true);
        assert!(!is_rung(&wake));
        wake.rest();
        wake.rise(false);
        wake.ring();
        assert!(!is_rung(&wake));
    }

    fn is_rung(wake: &Wake) -> bool {
        use safe_port_os::poll::{poll, PollFd};
        let mut fds = [PollFd::new(wake.as_fd(), true, false)];
        poll(&mut fds, Some(std::time::Duration::ZERO)).expect("a poll") == 1
    }
}
