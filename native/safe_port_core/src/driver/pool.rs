//! Threads that run lanes: as many as are needed at the moment, up to a limit.

use std::io;
use std::time::Duration;

use super::lane::Lane;
use super::patience::Patience;
use super::sync::channel::{unbounded, Receiver, Sender};
use super::sync::{self, lock, Arc, AtomicBool, Instant, Mutex, Ordering};

/// A thread that has waited no longer than this may look for the next job awake.
const RECENT: Duration = Duration::from_micros(200);
/// Jobs of one lane that a worker runs before others get their turn.
const JOBS_PER_TURN: usize = 32;

/// A job.
pub(super) trait Work: Send + 'static {
    /// Does it. Must not panic.
    fn work(self);
}

/// How many threads a pool has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Threads at the most.
    pub max: usize,
    /// Threads that may be written off and replaced beside these.
    pub max_lost: usize,
    /// How long a thread without work stays. One stays for ever.
    pub idle: Duration,
}

/// The number of threads of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crew {
    /// Threads at work or waiting for it.
    pub live: usize,
    /// Those of them that wait.
    pub idle: usize,
    /// Threads written off: inside a callback that has not returned.
    pub lost: usize,
    /// Lanes that wait for a thread.
    pub queued: usize,
}

/// A thread of a pool.
pub(super) struct Worker {
    /// Changed and read with the lock of the crew.
    lost: AtomicBool,
}

/// A pool. Clones are the same pool.
pub(super) struct Pool<J: Work>(Arc<Shared<J>>);

impl<J: Work> Clone for Pool<J> {
    fn clone(&self) -> Self {
        Pool(Arc::clone(&self.0))
    }
}

struct Shared<J: Work> {
    name: &'static str,
    limits: Limits,
    crew: Mutex<Crew>,
    sender: Sender<Message<J>>,
    receiver: Receiver<Message<J>>,
    /// How long a worker that has just been quick looks for work before it sleeps.
    spin: Duration,
    patience: Patience,
    /// Whether one is looking. One is enough.
    spinning: AtomicBool,
}

enum Message<J: Work> {
    Lane(Arc<Lane<J>>),
    Stop,
}

impl<J: Work> Pool<J> {
    /// A pool without threads. `name` is that of its threads, at most 15 bytes.
    pub fn new(name: &'static str, limits: Limits) -> Self {
        let (sender, receiver) = unbounded();
        let crew = Mutex::new(Crew::default());
        let (spin, spinning) = (sync::spin(), AtomicBool::new(false));
        let patience = Patience::default();
        Pool(Arc::new(Shared { name, limits, crew, sender, receiver, spin, patience, spinning }))
    }

    /// Adds a job to a lane of this pool. Fails if there is no thread and the system gives none.
    pub fn push(&self, lane: &Arc<Lane<J>>, job: J) -> io::Result<()> {
        if lane.push(job) {
            self.submit(Arc::clone(lane))
        } else {
            Ok(())
        }
    }

    /// Has a lane run, one that [`Lane::push`], [`Lane::push_front`] or [`Lane::pause`] said to submit.
    pub fn submit(&self, lane: Arc<Lane<J>>) -> io::Result<()> {
        let grow = lock(&self.0.crew).submitted(self.0.limits);
        // Cannot fail: we hold a receiver.
        let _ = self.0.sender.send(Message::Lane(lane));
        if grow {
            self.grow()
        } else {
            Ok(())
        }
    }

    /// Whether a job of `lane` has been running for `age`. Its thread is then written off, and replaced unless as many
    /// as may be are written off already.
    pub fn write_off(&self, lane: &Lane<J>, age: Duration) -> bool {
        let mut crew = lock(&self.0.crew);
        // Looked up with the crew locked: a worker that leaves the lane looks at its mark with the crew locked too.
        let Some(running) = lane.running().filter(|running| running.since.elapsed() >= age) else {
            return false;
        };
        let worker = running.worker;
        if worker.lost.load(Ordering::Relaxed) || crew.lost >= self.0.limits.max_lost {
            return true;
        }
        worker.lost.store(true, Ordering::Relaxed);
        crew.live -= 1;
        crew.lost += 1;
        let grow = crew.needs_more(self.0.limits);
        drop(crew);
        if grow {
            // If the system gives no thread the lanes wait for those that are there.
            let _ = self.grow();
        }
        true
    }

    /// Ends the threads, each when it has nothing left to do.
    pub fn stop(&self) {
        let live = lock(&self.0.crew).live;
        for _ in 0..live {
            let _ = self.0.sender.send(Message::Stop);
        }
    }

    /// The number of its threads.
    pub fn crew(&self) -> Crew {
        *lock(&self.0.crew)
    }

    /// Starts the thread that the crew counts already.
    fn grow(&self) -> io::Result<()> {
        let pool = self.clone();
        sync::spawn(self.0.name, move || pool.run()).or_else(|error| {
            let mut crew = lock(&self.0.crew);
            crew.live -= 1;
            if crew.live > 0 {
                Ok(())
            } else {
                Err(error)
            }
        })
    }

    /// The life of a thread.
    fn run(self) {
        let worker = Arc::new(Worker { lost: AtomicBool::new(false) });
        // Whether the last wait was short: then the next may be, too.
        let mut quick = false;
        loop {
            let message = match self.0.receiver.try_recv() {
                Ok(message) => Some(message),
                Err(_) => self.wait(&mut quick),
            };
            match message {
                Some(Message::Lane(lane)) => {
                    lock(&self.0.crew).queued -= 1;
                    if !self.run_lane(lane, &worker) {
                        return;
                    }
                }
                Some(Message::Stop) => {
                    lock(&self.0.crew).live -= 1;
                    return;
                }
                None => {
                    if lock(&self.0.crew).leave() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for the next message; `None` if there was none for the time a thread stays idle.
    fn wait(&self, quick: &mut bool) -> Option<Message<J>> {
        lock(&self.0.crew).idle += 1;
        let start = Instant::now();
        let message = self.spin(*quick).or_else(|| self.0.receiver.recv_timeout(self.0.limits.idle).ok());
        *quick = start.elapsed() < RECENT;
        lock(&self.0.crew).idle -= 1;
        message
    }

    fn spin(&self, quick: bool) -> Option<Message<J>> {
        if !quick
            || self.0.spin.is_zero()
            || !self.0.patience.tries()
            || self.0.spinning.swap(true, Ordering::Relaxed)
        {
            return None;
        }
        let message = self.0.patience.wait(self.0.spin, || self.0.receiver.try_recv().ok());
        self.0.spinning.store(false, Ordering::Relaxed);
        message
    }

    /// Runs jobs of `lane`. `false`: the thread was written off meanwhile and ends.
    fn run_lane(&self, lane: Arc<Lane<J>>, worker: &Arc<Worker>) -> bool {
        for _ in 0..JOBS_PER_TURN {
            let Some(job) = lane.next(worker) else { return self.is_wanted(worker) };
            job.work();
            if worker.lost.load(Ordering::Relaxed) {
                break;
            }
        }
        if lane.pause() {
            // Others go first. If there is no thread for it, which takes a system without memory, it waits.
            let _ = self.submit(lane);
        }
        self.is_wanted(worker)
    }

    /// Whether `worker`, out of its lane, was not written off.
    fn is_wanted(&self, worker: &Worker) -> bool {
        let mut crew = lock(&self.0.crew);
        let lost = worker.lost.load(Ordering::Relaxed);
        crew.lost -= usize::from(lost);
        !lost
    }
}

impl Crew {
    /// Counts a lane that waits. `true`: a thread more is counted too, start it.
    fn submitted(&mut self, limits: Limits) -> bool {
        self.queued += 1;
        self.needs_more(limits)
    }

    /// Each waiting lane needs a waiting thread of its own: the busy ones may never return.
    fn needs_more(&mut self, limits: Limits) -> bool {
        let more = self.queued > self.idle && self.live < limits.max;
        self.live += usize::from(more);
        more
    }

    /// A thread, no longer idle, has waited for long enough. `true`: it may go.
    fn leave(&mut self) -> bool {
        let go = self.live > 1 && self.queued <= self.idle;
        self.live -= usize::from(go);
        go
    }
}
