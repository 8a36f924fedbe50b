//! Whether the program and its user talk in turns, and reply so fast that it pays to wait for a reply awake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::patience::Patience;

/// How long to wait awake: about what it takes to fall asleep and be woken.
pub const AWAKE: Duration = Duration::from_micros(50);

/// One port's conversation. Shared by threads; what one of them forgets to count does no harm.
#[derive(Default)]
pub struct Turns {
    /// A command was written, and nothing came since.
    asked: AtomicBool,
    /// The next reader is to wait awake.
    awake: AtomicBool,
    patience: Patience,
}

impl Turns {
    /// A command was written; whether to wait for its reply awake.
    ///
    /// Never for a command that follows another: that is a stream and not a conversation.
    pub fn asked(&self) -> bool {
        let awake = !self.asked.swap(true, Ordering::Relaxed) && self.patience.tries();
        self.awake.store(awake, Ordering::Relaxed);
        awake
    }

    /// Data came.
    pub fn answered(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    /// Tries `read` again and again while it gives `None` and a reply may come soon.
    pub fn awake<T>(&self, mut read: impl FnMut() -> Option<T>) -> Option<T> {
        if !self.awake.swap(false, Ordering::Relaxed) {
            return None;
        }
        let begin = Instant::now();
        while begin.elapsed() < AWAKE {
            if let Some(read) = read() {
                self.patience.succeeded();
                return Some(read);
            }
            std::hint::spin_loop();
        }
        self.patience.failed();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn a_reply_is_waited_for_awake_after_the_first_command_of_a_turn_only() {
        let turns = Turns::default();
        assert!(turns.asked());
        assert!(!turns.asked());
        assert_eq!(turns.awake(|| Some(())), None);
        turns.answered();
        assert!(turns.asked());
        assert_eq!(turns.awake(|| Some(())), Some(()));
        assert_eq!(turns.awake(|| Some(())), None, "once for each turn");
    }

    #[test]
    fn a_program_that_is_slow_is_waited_for_awake_less_and_less_often() {
        let turns = Turns::default();
        let mut awake = 0;
        for _ in 0..256 {
            if turns.asked() {
                awake += 1;
                assert_eq!(turns.awake(|| None::<()>), None);
            }
            turns.answered();
        }
        assert!(awake < 12, "{awake}");
    }
}
