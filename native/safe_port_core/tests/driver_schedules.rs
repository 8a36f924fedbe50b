//! The scheduling of drivers' jobs under every order in which its threads can run: `loom` tries them all.
//!
//! The files under test are the real ones; only what they call `sync` is another here.
#![allow(dead_code)] // The tests use a part of the files.

#[path = "../src/driver/lane.rs"]
mod lane;
#[path = "../src/patience.rs"]
mod patience;
#[path = "../src/driver/pool.rs"]
mod pool;
#[path = "../src/driver/slot.rs"]
mod slot;

/// `loom`'s versions of what `src/driver/sync.rs` is made of, with the signatures of the originals.
#[allow(clippy::unnecessary_wraps)]
mod sync {
    pub use std::time::{Duration, Instant};

    pub use loom::sync::atomic::{AtomicBool, Ordering};
    pub use loom::sync::{Arc, Mutex, MutexGuard};

    pub fn spin() -> Duration {
        Duration::ZERO
    }

    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub fn spawn(_name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        loom::thread::spawn(body);
        Ok(())
    }

    /// A channel that behaves as crossbeam's.
    pub mod channel {
        use std::collections::VecDeque;
        use std::time::Duration;

        use loom::sync::{Arc, Condvar, Mutex};

        /// Waits of a channel that may end without a message: a thread that goes on waiting would have no end.
        const TIMEOUTS: usize = 2;

        struct Shared<T> {
            queue: Mutex<(VecDeque<T>, usize)>,
            filled: Condvar,
        }

        /// There is no message.
        pub struct Empty;

        pub struct Sender<T>(Arc<Shared<T>>);
        pub struct Receiver<T>(Arc<Shared<T>>);

        pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
            let queue = Mutex::new((VecDeque::new(), TIMEOUTS));
            let shared = Arc::new(Shared { queue, filled: Condvar::new() });
            (Sender(Arc::clone(&shared)), Receiver(shared))
        }

        pub fn bounded<T>(_room: usize) -> (Sender<T>, Receiver<T>) {
            unbounded()
        }

        impl<T> Sender<T> {
            pub fn send(&self, value: T) -> Result<(), T> {
                self.0.queue.lock().unwrap().0.push_back(value);
                self.0.filled.notify_one();
                Ok(())
            }
        }

        impl<T> Receiver<T> {
            pub fn try_recv(&self) -> Result<T, Empty> {
                self.0.queue.lock().unwrap().0.pop_front().ok_or(Empty)
            }

            pub fn recv(&self) -> Result<T, Empty> {
                let mut queue = self.0.queue.lock().unwrap();
                loop {
                    if let Some(value) = queue.0.pop_front() {
                        return Ok(value);
                    }
                    queue = self.0.filled.wait(queue).unwrap();
                }
            }

            /// No time passes here: a wait of zero may end at once, any other never.
            pub fn recv_timeout(&self, time: Duration) -> Result<T, Empty> {
                let mut queue = self.0.queue.lock().unwrap();
                if !time.is_zero() || queue.1 == 0 {
                    drop(queue);
                    return self.recv();
                }
                let value = queue.0.pop_front().ok_or(Empty);
                queue.1 -= usize::from(value.is_err());
                value
            }
        }
    }
}

use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use lane::Lane;
use pool::{Crew, Limits, Pool, Work};
use slot::{slot, CallError};

const FOREVER: Duration = Duration::MAX;

/// All orders with at most `preemptions` switches away from a thread that could go on.
fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn limits(max: usize, max_lost: usize, idle: Duration) -> Limits {
    Limits { max, max_lost, idle }
}

/// What a job does.
struct Task(Box<dyn FnOnce() + Send>);

impl Work for Task {
    fn work(self) {
        (self.0)();
    }
}

fn task(work: impl FnOnce() + Send + 'static) -> Task {
    Task(Box::new(work))
}

/// Counts down to an event.
struct Countdown(Mutex<usize>, Condvar);

impl Countdown {
    fn new(count: usize) -> Arc<Countdown> {
        Arc::new(Countdown(Mutex::new(count), Condvar::new()))
    }

    fn tick(&self) {
        *self.0.lock().unwrap() -= 1;
        self.1.notify_all();
    }

    fn wait(&self) {
        let mut left = self.0.lock().unwrap();
        while *left > 0 {
            left = self.1.wait(left).unwrap();
        }
    }
}

#[test]
fn jobs_of_a_lane_run_one_at_a_time_and_in_the_order_they_were_pushed() {
    model(2, || {
        let pool = Pool::new("", limits(2, 0, FOREVER));
        let lane = Arc::new(Lane::new());
        let (inside, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let done = Countdown::new(3);
        let push = {
            let (pool, lane, done) = (pool.clone(), Arc::clone(&lane), Arc::clone(&done));
            move |number: u32| {
                let (inside, seen, done) = (Arc::clone(&inside), Arc::clone(&seen), Arc::clone(&done));
                let job = task(move || {
                    assert!(!inside.swap(true, Ordering::AcqRel), "two jobs of a lane at a time");
                    {
                        let mut seen = seen.lock().unwrap();
                        assert!(number != 2 || seen.contains(&1), "2 was pushed after 1");
                        seen.push(number);
                    }
                    inside.store(false, Ordering::Release);
                    done.tick();
                });
                pool.push(&lane, job).unwrap();
            }
        };
        let other = push.clone();
        let pusher = thread::spawn(move || other(3));
        push(1);
        push(2);
        done.wait();
        pusher.join().unwrap();
        pool.stop();
    });
}

#[test]
fn no_job_is_forgotten_when_workers_leave() {
    model(2, || {
        // Whoever finds nothing to do leaves at once, if it is not the last.
        let pool = Pool::new("", limits(2, 0, Duration::ZERO));
        let done = Countdown::new(2);
        let push = {
            let (pool, done) = (pool.clone(), Arc::clone(&done));
            move || {
                let done = Arc::clone(&done);
                pool.push(&Arc::new(Lane::new()), task(move || done.tick())).unwrap();
            }
        };
        let other = push.clone();
        let pusher = thread::spawn(other);
        push();
        done.wait();
        pusher.join().unwrap();
        pool.stop();
    });
}

#[test]
fn a_job_that_waits_for_another_lane_does_not_hold_it_up() {
    model(2, || {
        let pool = Pool::new("", limits(2, 0, FOREVER));
        let (done, second) = (Countdown::new(2), Countdown::new(1));
        // A worker that is about to wait, or does, is there when the others come.
        let before = Countdown::new(1);
        let tick = Arc::clone(&before);
        pool.push(&Arc::new(Lane::new()), task(move || tick.tick())).unwrap();
        before.wait();
        let (tick, wait) = (Arc::clone(&done), Arc::clone(&second));
        let first = task(move || {
            wait.wait();
            tick.tick();
        });
        pool.push(&Arc::new(Lane::new()), first).unwrap();
        let tick = Arc::clone(&done);
        let other = task(move || {
            second.tick();
            tick.tick();
        });
        pool.push(&Arc::new(Lane::new()), other).unwrap();
        done.wait();
        pool.stop();
    });
}

#[test]
fn a_worker_that_is_written_off_is_replaced() {
    model(2, || {
        let pool = Pool::new("", limits(1, 1, FOREVER));
        let (begun, go, done) = (Countdown::new(1), Countdown::new(1), Countdown::new(2));
        let stuck = Arc::new(Lane::new());
        let (tick, begins, wait) = (Arc::clone(&done), Arc::clone(&begun), Arc::clone(&go));
        let job = task(move || {
            begins.tick();
            wait.wait();
            tick.tick();
        });
        pool.push(&stuck, job).unwrap();
        begun.wait();
        assert!(pool.write_off(&stuck, Duration::ZERO));
        assert!(pool.write_off(&stuck, Duration::ZERO), "once more changes nothing");
        // Only a replacement can run this, and only this lets the stuck one go on.
        let tick = Arc::clone(&done);
        let other = task(move || {
            go.tick();
            tick.tick();
        });
        pool.push(&Arc::new(Lane::new()), other).unwrap();
        done.wait();
        assert!(pool.crew().live <= 1);
        pool.stop();
    });
}

#[test]
fn a_worker_may_come_back_while_it_is_being_written_off() {
    model(3, || {
        let pool = Pool::new("", limits(1, 1, FOREVER));
        let lane = Arc::new(Lane::new());
        let done = Countdown::new(2);
        for _ in 0..2 {
            let tick = Arc::clone(&done);
            pool.push(&lane, task(move || tick.tick())).unwrap();
        }
        let written_off = pool.write_off(&lane, Duration::ZERO);
        done.wait();
        let Crew { live, lost, .. } = pool.crew();
        assert!(live <= 1 && lost <= usize::from(written_off), "{live} live, {lost} lost");
        pool.stop();
    });
}

#[test]
fn an_answer_reaches_a_listener_exactly_once() {
    model(3, || {
        let (replier, reply) = slot();
        let answers = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answers);
        let answering = thread::spawn(move || {
            replier.answer(Ok(7));
            replier.answer(Ok(8));
        });
        if let Some(answer) = reply.take() {
            assert_eq!(answer, Ok(7));
            assert!(reply.listen(|_| panic!("a second answer")).is_none());
            answers.fetch_add(1, Ordering::Relaxed);
        } else {
            let later = reply.listen(move |answer| {
                assert_eq!(answer, Ok(7));
                count.fetch_add(1, Ordering::Relaxed);
            });
            if let Some(answer) = later {
                assert_eq!(answer, Ok(7));
                answers.fetch_add(1, Ordering::Relaxed);
            }
        }
        answering.join().unwrap();
        assert_eq!(answers.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_call_that_is_dropped_is_answered_too() {
    model(3, || {
        let (replier, reply) = slot::<u8>();
        let dropping = thread::spawn(move || drop(replier));
        assert_eq!(reply.wait(), Err(CallError::Closed));
        dropping.join().unwrap();
    });
}
