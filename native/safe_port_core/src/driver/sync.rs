//! What the scheduling of this module is made of. Its tests put `loom`'s versions in the place of these.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub(super) use std::time::Instant;

pub(super) use crossbeam_channel as channel;

use std::io;
use std::time::Duration;

/// How long a thread may look for something without sleeping: less than it takes to wake one. Not at all where it would
/// keep the only processor from those it waits for.
pub(super) fn spin() -> Duration {
    let alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    if alone {
        Duration::ZERO
    } else {
        Duration::from_micros(40)
    }
}

/// Locks `mutex`. A panic elsewhere is no reason to stop here: no change made under these locks is left half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread.
pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}
