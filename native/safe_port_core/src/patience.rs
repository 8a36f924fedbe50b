//! Whether it pays to wait for something awake: for it can be over sooner than a sleeping thread is woken, but it can
//! also keep the processor from the very thread that is waited for.

use std::sync::atomic::{AtomicU8, Ordering};

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

    /// A wait that was tried was long enough.
    pub fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.pause.store(0, Ordering::Relaxed);
    }

    /// A wait that was tried was too short: twice as many are left out before the next.
    pub fn failed(&self) {
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1).min(MAX_FAILURES);
        self.failures.store(failures, Ordering::Relaxed);
        self.pause.store((1 << failures) - 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Patience;

    #[test]
    fn with_each_failure_more_waits_are_left_out_until_one_succeeds() {
        let patience = Patience::default();
        let mut left_out = Vec::new();
        for _ in 0..8 {
            assert!(patience.tries());
            patience.failed();
            let mut count = 0;
            while !patience.tries() {
                count += 1;
            }
            left_out.push(count);
            // That one was tried.
            patience.pause.store(0, super::Ordering::Relaxed);
        }
        assert_eq!(left_out, [1, 3, 7, 15, 31, 63, 63, 63]);
        patience.succeeded();
        assert!(patience.tries() && patience.tries());
    }
}
