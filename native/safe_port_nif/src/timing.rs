//! How long the calls of the data path take: what the scheduler is told, and, with the feature `timing`, what it was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustler::{schedule, Env};

/// Bytes that count as one percent of a process's turn on a scheduler. At 10 us a percent that is a third of what memory
/// allows: a turn is to end well within a millisecond on a busy machine, too.
const BYTES_PER_PERCENT: usize = 8 * 1024;

/// So many bytes were moved, or are about to be: the calling process has the less of its turn left.
pub fn moved(env: Env, bytes: usize) {
    let percent = (bytes / BYTES_PER_PERCENT).min(100);
    if percent > 0 {
        schedule::consume_timeslice(env, percent as i32);
    }
}

const BUCKETS: usize = 32;

/// How many calls took from 2^n nanoseconds to twice that, by n.
static COUNTS: [AtomicU64; BUCKETS] = [const { AtomicU64::new(0) }; BUCKETS];

/// Counts a call when it is dropped. A thread that is not let run has its waiting counted as well.
pub struct Timer(Option<Instant>);

impl Timer {
    pub fn start() -> Timer {
        Timer(cfg!(feature = "timing").then(Instant::now))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(start) = self.0 {
            let log2 = start.elapsed().as_nanos().max(1).ilog2() as usize;
            COUNTS[log2.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// `Native.timings/0`: the counts since the last call of this function, which begins anew; `[]` without the feature.
#[rustler::nif]
fn timings() -> Vec<u64> {
    let counted: &[AtomicU64] = if cfg!(feature = "timing") { &COUNTS } else { &[] };
    counted.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect()
}
