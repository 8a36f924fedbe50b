//! Threads that start programs, so that a start that hangs holds up nothing else.
//!
//! They live as long as the guardian: a program gets SIGKILL when the thread that started it ends.

mod desk;
mod job;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use safe_port_os::poll::Notify;
use safe_port_os::process::{raise_descriptors, DescriptorLimit, Pid};
use safe_port_os::spawn::Spawner;
use safe_port_wire::{Event, PortId};

use desk::Desk;
pub use desk::News;
pub use job::Job;

use crate::outbox::Outbox;

/// Threads that are started as soon as there is work for them.
const SOON: usize = 2;
/// Threads at the most: so many starts may hang before others have to wait for one of them.
const MOST: usize = 64;
/// How long no job may be taken while some wait before another thread is started: longer than a start that goes well.
const PATIENCE: Duration = Duration::from_millis(50);

/// The threads and the desk where they take their jobs.
pub struct Spawners {
    desk: Arc<Desk>,
    outbox: Arc<Outbox>,
    threads: usize,
    limit: Option<DescriptorLimit>,
}

impl Spawners {
    /// Without a thread yet. `wake` wakes the main thread when it has asked for that.
    pub fn new(outbox: Arc<Outbox>, wake: Arc<Notify>) -> Spawners {
        // Jobs that wait have their descriptors here: that many ports may be opened at once must not depend on a limit
        // that is meant for programs.
        let limit = raise_descriptors();
        Spawners { desk: Arc::new(Desk::new(wake)), outbox, threads: 0, limit }
    }

    /// Takes a job. The thread that does it answers to the VM.
    pub fn submit(&mut self, job: Job, now: Instant) {
        let waits = self.desk.put(job, now);
        if waits && self.threads < SOON {
            self.hire();
        }
    }

    /// What has become of jobs since the last call, and of the program `dead` if it was started by one that is not done.
    pub fn collect(&self, dead: Option<Pid>) -> Vec<News> {
        self.desk.collect(dead, &self.outbox)
    }

    /// The programs that are being started: children that are in no news yet.
    pub fn in_flight(&self) -> Vec<Pid> {
        self.desk.in_flight()
    }

    /// Whether the main thread is to be woken by news from now on.
    pub fn wake_for_news(&self, wake: bool) {
        self.desk.wake_for_news(wake);
    }

    /// Drops the jobs that nobody has begun, and says whose they were.
    pub fn cancel(&self) -> Vec<PortId> {
        self.desk.cancel()
    }

    /// Starts another thread if all are held up. Returns when to ask again.
    pub fn relieve(&mut self, now: Instant) -> Option<Instant> {
        let patience_ends = self.desk.stuck_since()? + PATIENCE;
        if self.threads >= MOST {
            return None;
        }
        if patience_ends > now {
            return Some(patience_ends);
        }
        self.hire();
        Some(now + PATIENCE)
    }

    fn hire(&mut self) {
        let (desk, outbox, limit) = (Arc::clone(&self.desk), Arc::clone(&self.outbox), self.limit);
        let thread = std::thread::Builder::new().name("spawner".into()).stack_size(256 * 1024);
        match thread.spawn(move || work(&desk, &outbox, limit)) {
            Ok(_) => self.threads += 1,
            // With others at work the job waits for them.
            Err(error) if self.threads == 0 => self.refuse_all(&error),
            Err(_) => {}
        }
    }

    fn refuse_all(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(safe_port_os::errno::EAGAIN);
        for id in self.desk.cancel() {
            self.desk.failed(id);
            self.outbox.send(&[job::refused(id, safe_port_wire::Stage::Fork, errno)]);
        }
    }
}

/// One thread: job after job, for ever.
fn work(desk: &Desk, outbox: &Outbox, limit: Option<DescriptorLimit>) {
    let mut spawner = Spawner::new(limit);
    loop {
        let (job, slot) = desk.take();
        let id = job.id();
        match job.run(&mut spawner, &slot) {
            Ok(pid) => {
                let event = Event::Spawned { id, os_pid: pid.get() as u32 };
                desk.started(id, pid, || outbox.send(&[event]));
            }
            Err((stage, errno)) => {
                desk.failed(id);
                outbox.send(&[job::refused(id, stage, errno)]);
            }
        }
    }
}
