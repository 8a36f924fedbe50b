//! The time between the end of the last program and the request for the next one, which who runs one program after the
//! other keeps short: shorter than it takes to wake a thread of a processor that sleeps.

use std::time::{Duration, Instant};

/// How long to look for a request without sleeping: twice what a VM takes that asks for a program as soon as one ended.
const AWAKE: Duration = Duration::from_micros(150);
/// What follows so soon may follow as soon the next time. More than [`AWAKE`], as it was seen after sleeping.
const RECENT: Duration = Duration::from_micros(500);

/// Whether to stay awake when nothing runs.
pub struct Lull {
    /// Whether the VM has another processor for itself.
    possible: bool,
    since: Option<Instant>,
    /// Whether the last one was short.
    short: bool,
}

impl Default for Lull {
    fn default() -> Self {
        let possible = std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
        Lull { possible, since: None, short: false }
    }
}

impl Lull {
    /// The last program has ended.
    pub fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// A program is asked for.
    pub fn end(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.short = now - since < RECENT;
        }
    }

    /// Whether to look for a request without sleeping.
    pub fn is_awake(&self, now: Instant) -> bool {
        self.possible && self.short && self.since.is_some_and(|since| now - since < AWAKE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_short_lull_makes_the_next_one_awake_and_a_long_one_ends_that() {
        let mut lull = Lull { possible: true, ..Lull::default() };
        let start = Instant::now();
        let mut after = |gap: Duration| {
            lull.begin(start);
            let awake = [lull.is_awake(start), lull.is_awake(start + AWAKE)];
            lull.end(start + gap);
            assert!(!lull.is_awake(start + gap), "a program runs");
            awake
        };
        assert_eq!(after(RECENT), [false, false], "nothing is known yet");
        assert_eq!(after(AWAKE), [false, false], "the last one was long");
        assert_eq!(after(RECENT), [true, false]);
        assert_eq!(after(AWAKE), [false, false]);
    }

    #[test]
    fn nothing_stays_awake_on_the_only_processor() {
        let mut lull = Lull { possible: false, ..Lull::default() };
        let start = Instant::now();
        for _ in 0..2 {
            lull.begin(start);
            assert!(!lull.is_awake(start));
            lull.end(start);
        }
    }
}
