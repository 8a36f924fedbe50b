//! Jobs that run one after the other, whichever threads run them.

use std::collections::VecDeque;

use super::pool::Worker;
use super::sync::{lock, Arc, Instant, Mutex};

/// A queue of jobs of which at most one runs at a time. The jobs of a port form a lane, or those of all the ports of a
/// driver.
///
/// A lane is either at rest (no jobs), or submitted to a pool, or being run by one of its workers: `scheduled` is true
/// for the last two, so that it is in the pool once at the most.
pub(super) struct Lane<J> {
    inner: Mutex<Inner<J>>,
}

struct Inner<J> {
    jobs: VecDeque<J>,
    scheduled: bool,
    running: Option<Running>,
}

/// Who runs a job of a lane, and since when.
#[derive(Clone)]
pub(super) struct Running {
    pub worker: Arc<Worker>,
    pub since: Instant,
}

impl<J> Lane<J> {
    pub fn new() -> Lane<J> {
        Lane { inner: Mutex::new(Inner { jobs: VecDeque::new(), scheduled: false, running: None }) }
    }

    /// Adds a job behind all others. `true`: the lane was at rest, submit it to its pool.
    #[must_use]
    pub fn push(&self, job: J) -> bool {
        let mut inner = lock(&self.inner);
        inner.jobs.push_back(job);
        !std::mem::replace(&mut inner.scheduled, true)
    }

    /// Adds jobs in front of all others, in their order. `true`: as for [`push`](Lane::push).
    #[must_use]
    pub fn push_front(&self, jobs: impl DoubleEndedIterator<Item = J>) -> bool {
        let mut inner = lock(&self.inner);
        for job in jobs.rev() {
            inner.jobs.push_front(job);
        }
        !inner.jobs.is_empty() && !std::mem::replace(&mut inner.scheduled, true)
    }

    /// The next job, which `worker` is about to run; the one before is done. `None`: the lane is at rest.
    pub fn next(&self, worker: &Arc<Worker>) -> Option<J> {
        let mut inner = lock(&self.inner);
        let job = inner.jobs.pop_front();
        inner.scheduled = job.is_some();
        inner.running = job.is_some().then(|| Running { worker: Arc::clone(worker), since: Instant::now() });
        job
    }

    /// The job is done but the worker will not go on. `true`: there are more, submit the lane.
    #[must_use]
    pub fn pause(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.running = None;
        inner.scheduled = !inner.jobs.is_empty();
        inner.scheduled
    }

    /// Who runs a job now.
    pub fn running(&self) -> Option<Running> {
        lock(&self.inner).running.clone()
    }

    /// Whether no job waits. One may be running.
    pub fn is_empty(&self) -> bool {
        lock(&self.inner).jobs.is_empty()
    }
}
