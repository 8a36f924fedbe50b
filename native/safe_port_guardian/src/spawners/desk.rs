//! Where the main thread leaves jobs, spawners take them, and both find out what became of them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use safe_port_os::poll::Notify;
use safe_port_os::process::Pid;
use safe_port_os::spawn::Slot;
use safe_port_wire::{Event, PortId};

use super::Job;
use crate::outbox::{lock, Outbox};

/// What has become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The program was started; the VM knows.
    Started(PortId, Pid),
    /// It was not, and the VM knows that.
    Failed(PortId),
}

/// A job that a spawner has begun.
struct Flight {
    id: PortId,
    slot: Arc<Slot>,
    /// Whether the main thread, which found the program dead already, has told the VM that it was started.
    told: bool,
}

#[derive(Default)]
struct Papers {
    jobs: VecDeque<(Instant, Job)>,
    /// When a job was taken last.
    taken: Option<Instant>,
    /// Spawners that wait for a job.
    idle: usize,
    flights: Vec<Flight>,
    news: Vec<News>,
    wake: bool,
}

pub struct Desk {
    papers: Mutex<Papers>,
    work: Condvar,
    wake: Arc<Notify>,
}

impl Desk {
    pub fn new(wake: Arc<Notify>) -> Desk {
        Desk { papers: Mutex::default(), work: Condvar::new(), wake }
    }

    /// Leaves a job. Whether it has to wait, as more jobs are there than spawners that wait for one.
    pub fn put(&self, job: Job, now: Instant) -> bool {
        let mut papers = lock(&self.papers);
        papers.jobs.push_back((now, job));
        let waits = papers.jobs.len() > papers.idle;
        drop(papers);
        self.work.notify_one();
        waits
    }

    /// Waits for a job and takes it. Its child is to be started with the slot.
    pub fn take(&self) -> (Job, Arc<Slot>) {
        let mut papers = lock(&self.papers);
        loop {
            if let Some((_, job)) = papers.jobs.pop_front() {
                papers.taken = Some(Instant::now());
                let slot = Arc::new(Slot::default());
                papers.flights.push(Flight { id: job.id(), slot: Arc::clone(&slot), told: false });
                return (job, slot);
            }
            papers.idle += 1;
            papers = self.work.wait(papers).unwrap_or_else(PoisonError::into_inner);
            papers.idle -= 1;
        }
    }

    /// The program runs; `tell` tells the VM, unless the main thread has done so.
    ///
    /// The job's descriptors must be closed. Waits until no other child holds copies of them either: when the VM is
    /// told, nobody but the program has the other ends of its pipes.
    pub fn started(&self, id: PortId, pid: Pid, tell: impl FnOnce()) {
        self.await_copies();
        let mut papers = lock(&self.papers);
        let told = papers.land(id);
        // Under the lock: that the program was started is told before its end can be.
        if !told {
            tell();
        }
        papers.news.push(News::Started(id, pid));
        self.ring(&papers);
    }

    fn await_copies(&self) {
        let slots: Vec<_> =
            lock(&self.papers).flights.iter().map(|flight| Arc::clone(&flight.slot)).collect();
        for slot in slots {
            // A few instructions of a child, unless the system has something better to do.
            while slot.holds_copies() {
                thread::yield_now();
            }
        }
    }

    /// There is no program.
    pub fn failed(&self, id: PortId) {
        let mut papers = lock(&self.papers);
        papers.land(id);
        papers.news.push(News::Failed(id));
        self.ring(&papers);
    }

    fn ring(&self, papers: &Papers) {
        if papers.wake {
            self.wake.notify();
        }
    }

    /// The news. If `dead`, a zombie, is a program whose spawner has not come back yet, it was started: that is told to
    /// the VM and becomes news in the spawner's place.
    pub fn collect(&self, dead: Option<Pid>, outbox: &Outbox) -> Vec<News> {
        let mut papers = lock(&self.papers);
        let mut news = std::mem::take(&mut papers.news);
        let flight = papers.flights.iter_mut().find(|flight| dead.is_some() && flight.slot.pid() == dead);
        if let (Some(flight), Some(pid)) = (flight, dead) {
            if !flight.told && flight.slot.failure().is_none() {
                flight.told = true;
                outbox.send(&[Event::Spawned { id: flight.id, os_pid: pid.get() as u32 }]);
                news.push(News::Started(flight.id, pid));
            }
        }
        news
    }

    pub fn in_flight(&self) -> Vec<Pid> {
        lock(&self.papers).flights.iter().filter_map(|flight| flight.slot.pid()).collect()
    }

    pub fn wake_for_news(&self, wake: bool) {
        let mut papers = lock(&self.papers);
        papers.wake = wake;
        if wake && !papers.news.is_empty() {
            self.wake.notify();
        }
    }

    pub fn cancel(&self) -> Vec<PortId> {
        let jobs = std::mem::take(&mut lock(&self.papers).jobs);
        jobs.iter().map(|(_, job)| job.id()).collect()
    }

    /// Since when jobs have waited and none was taken, unless a spawner is about to take one.
    pub fn stuck_since(&self) -> Option<Instant> {
        let papers = lock(&self.papers);
        if papers.idle > 0 {
            return None;
        }
        papers.jobs.front().map(|(since, _)| papers.taken.map_or(*since, |taken| taken.max(*since)))
    }
}

impl Papers {
    /// Forgets the flight of a job that is done; whether the VM was told.
    fn land(&mut self, id: PortId) -> bool {
        match self.flights.iter().position(|flight| flight.id == id) {
            Some(index) => self.flights.swap_remove(index).told,
            None => false,
        }
    }
}
