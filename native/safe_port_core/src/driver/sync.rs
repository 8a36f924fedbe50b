//! What the scheduling of this module is made of. Its tests put `loom`'s versions in the place of these.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub(super) use std::time::Instant;

pub(super) use crossbeam_channel as channel;

use std::io;
use std::time::Duration;

/// How long a worker that has just been quick looks for the next job before it sleeps. To wake one takes longer.
pub(super) const SPIN: Duration = Duration::from_micros(40);

/// Locks `mutex`. A panic elsewhere is no reason to stop here: no change made under these locks is left half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread.
pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}
