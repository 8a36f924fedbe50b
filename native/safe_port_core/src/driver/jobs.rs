//! Long jobs of drivers (`driver_async`), on a pool of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use safe_port_driver::abi::host::{self, Failure};

use super::lane::Lane;
use super::pool::{Crew, Limits, Pool};
use super::port::{Job, Port};
use super::sync::lock;
use super::Task;

/// Jobs with the same key run in order: their driver and its number for them.
type Key = (u64, u64);

pub(super) struct Jobs {
    pool: Pool<Task>,
    /// The lanes of keys that jobs wait for.
    lanes: Mutex<HashMap<Key, Arc<Lane<Task>>>>,
}

impl Jobs {
    pub fn new(limits: Limits) -> Jobs {
        Jobs { pool: Pool::new("sp_driver_job", limits), lanes: Mutex::default() }
    }

    /// Has `job` run; its port gets it back as [`Job::Async`].
    pub fn run(&self, port: &Arc<Port>, key: Option<u64>, job: host::Job) {
        port.driver.job_begins();
        let key = key.map(|key| (port.driver.id, key));
        let task = Task::Async { port: Arc::clone(port), key, job };
        let pushed = match key {
            None => self.pool.push(&Arc::new(Lane::new()), task),
            Some(key) => {
                let mut lanes = lock(&self.lanes);
                let lane = lanes.entry(key).or_insert_with(|| Arc::new(Lane::new()));
                self.pool.push(lane, task)
            }
        };
        if let Err(error) = pushed {
            port.fail(Failure::Errno(error.raw_os_error().unwrap_or_default()));
        }
    }

    /// On a thread of the pool.
    pub fn work(port: &Arc<Port>, key: Option<Key>, mut job: host::Job) {
        match job.run() {
            Ok(()) => port.push(Job::Async { job }),
            Err(message) => port.fail(Failure::Panic(message)),
        }
        if let Some(key) = key {
            port.runner.jobs.tidy(key);
        }
        port.driver.job_ends();
        port.runner.registry.unused(&port.runner, &port.driver);
    }

    /// Forgets the lane of `key` unless more jobs wait in it. The job that runs in it now is as good as over.
    fn tidy(&self, key: Key) {
        let mut lanes = lock(&self.lanes);
        if lanes.get(&key).is_some_and(|lane| lane.is_empty()) {
            lanes.remove(&key);
        }
    }

    pub fn crew(&self) -> Crew {
        self.pool.crew()
    }

    pub fn stop(&self) {
        self.pool.stop();
    }
}
