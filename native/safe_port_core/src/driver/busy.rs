//! Whether commands have to wait: because the driver says so, or because too many wait for it already.

use super::types::BusyLimits;

/// The two reasons, and what the second one is judged by.
pub(super) struct Busy {
    /// The driver says so (D9).
    pub driver: bool,
    waiting: bool,
    /// Bytes of commands that the driver has not been called with yet.
    bytes: u64,
    low: u64,
    high: u64,
}

impl Busy {
    pub fn new(limits: BusyLimits) -> Busy {
        let (low, high) = match limits {
            BusyLimits::Default => (4096, 8192),
            BusyLimits::Disabled => (u64::MAX, u64::MAX),
            BusyLimits::Bytes { low, high } => (low.min(high), high),
        };
        Busy { driver: false, waiting: false, bytes: 0, low, high }
    }

    /// Commands have to wait.
    pub fn is_on(&self) -> bool {
        self.driver || self.waiting
    }

    /// A command of `bytes` bytes waits for the driver.
    pub fn begin(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.judge();
    }

    /// The driver was called with it, or it was dropped.
    pub fn end(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.judge();
    }

    /// Other limits; both `u64::MAX` for never.
    pub fn limit(&mut self, low: u64, high: u64) {
        (self.low, self.high) = (low.min(high), high);
        self.judge();
    }

    fn judge(&mut self) {
        if self.bytes >= self.high {
            self.waiting = true;
        } else if self.bytes < self.low {
            self.waiting = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Busy, BusyLimits};

    #[test]
    fn it_is_on_from_the_high_limit_until_strictly_below_the_low_one() {
        let mut busy = Busy::new(BusyLimits::Bytes { low: 4, high: 8 });
        busy.begin(7);
        assert!(!busy.is_on());
        busy.begin(1);
        assert!(busy.is_on());
        busy.end(4);
        assert!(busy.is_on());
        busy.end(1);
        assert!(!busy.is_on());
    }

    #[test]
    fn a_low_limit_above_the_high_one_is_lowered() {
        let mut busy = Busy::new(BusyLimits::Bytes { low: 9, high: 2 });
        busy.begin(2);
        assert!(busy.is_on());
        busy.end(1);
        assert!(!busy.is_on());
    }

    #[test]
    fn disabled_it_is_on_only_if_the_driver_says_so() {
        let mut busy = Busy::new(BusyLimits::Disabled);
        busy.begin(1 << 40);
        assert!(!busy.is_on());
        busy.driver = true;
        assert!(busy.is_on());
    }
}
