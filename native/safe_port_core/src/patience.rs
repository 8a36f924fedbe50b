//! Whether it pays to wait for something awake: for it can be over sooner than a sleeping thread is woken, but it can
//! also keep the processor from the very thread that is waited for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How long to wait awake for a program: about what it takes to fall asleep and be woken.
pub const AWAKE: Duration = Duration::from_micros(50);

/// After so many failures in a row only one wait in 64 is tried.
const MAX_FAILURES: u8 = 6;

/// Remembers how waits went. Shared by threads; what one of them forgets to count does no harm.
#[derive(Default)]
pub struct Patience {
    failures: AtomicU8,
    /// Waits that are not tried before the next one is.
    pause: AtomicU8,
}

impl Patience {
    /// Whether to try.
    pub fn tries(&self) -> bool {
        let pause = self.pause.load(Ordering::Relaxed);
        self.pause.store(pause.saturating_sub(1), Ordering::Relaxed);
        pause == 0
    }

    /// Makes `attempt` again and again until it gives something or `time` is over, and counts that as a success or a
    /// failure. For those whom [`Patience::tries`] told to.
    pub fn wait<T>(&self, time: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let start = Instant::now();
        loop {
            let found = attempt();
            if found.is_some() {
                self.succeeded();
                return found;
            }
            if start.elapsed() >= time {
                self.failed();
                return None;
            }
            std::hint::spin_loop();
        }
    }

    /// A wait that was tried was long enough.
    fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.pause.store(0, Ordering::Relaxed);
    }

    /// A wait that was tried was too short: twice as many are left out before the next.
    fn failed(&self) {
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1).min(MAX_FAILURES);
        self.failures.store(failures, Ordering::Relaxed);
        self.pause.store((1 << failures) - 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Patience;

    #[test]
    fn with_each_failure_more_waits_are_left_out_until_one_succeeds() {
        let patience = Patience::default();
        let mut left_out = Vec::new();
        for _ in 0..8 {
            assert!(patience.tries());
            assert_eq!(patience.wait(Duration::ZERO, || None::<()>), None);
            let mut count = 0;
            while !patience.tries() {
                count += 1;
            }
            left_out.push(count);
            // That one was tried.
            patience.pause.store(0, super::Ordering::Relaxed);
        }
        assert_eq!(left_out, [1, 3, 7, 15, 31, 63, 63, 63]);
        let mut attempts = 0..3;
        let third = || attempts.next().filter(|attempt| *attempt == 2);
        assert_eq!(patience.wait(Duration::from_mins(1), third), Some(2));
        assert!(patience.tries() && patience.tries());
    }
}
