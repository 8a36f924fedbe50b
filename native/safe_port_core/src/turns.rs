//! Whether the program and its user talk in turns, and reply so fast that it pays to wait for a reply awake.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::patience::{Patience, AWAKE};

/// Turns that make a conversation.
const TURNS: u8 = 4;

/// One port's conversation. Shared by threads; what one of them forgets to count does no harm.
#[derive(Default)]
pub struct Turns {
    /// A command was written, and nothing came since.
    asked: AtomicBool,
    /// Turns so far without a command that followed another, up to `TURNS`.
    completed: AtomicU8,
    /// The next reader is to wait awake.
    awake: AtomicBool,
    patience: Patience,
}

impl Turns {
    /// A command was written; whether to wait for its reply awake.
    ///
    /// Not before there were some turns: commands that follow each other are a stream and not a conversation, and a port
    /// that is used once is none either.
    pub fn asked(&self) -> bool {
        if self.asked.swap(true, Ordering::Relaxed) {
            self.completed.store(0, Ordering::Relaxed);
        }
        let awake = self.completed.load(Ordering::Relaxed) == TURNS && self.patience.tries();
        self.awake.store(awake, Ordering::Relaxed);
        awake
    }

    /// Data came.
    pub fn answered(&self) {
        if self.asked.swap(false, Ordering::Relaxed) {
            let turns = self.completed.load(Ordering::Relaxed);
            self.completed.store(TURNS.min(turns + 1), Ordering::Relaxed);
        }
    }

    /// Tries `read` again and again while it gives `None` and a reply may come soon.
    pub fn awake<T>(&self, read: impl FnMut() -> Option<T>) -> Option<T> {
        if self.awake.swap(false, Ordering::Relaxed) {
            self.patience.wait(AWAKE, read)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Turns, TURNS};

    fn in_conversation() -> Turns {
        let turns = Turns::default();
        for _ in 0..TURNS {
            assert!(!turns.asked());
            turns.answered();
        }
        turns
    }

    #[test]
    fn a_reply_is_waited_for_awake_once_in_each_turn_of_a_conversation() {
        let turns = in_conversation();
        for _ in 0..3 {
            assert!(turns.asked());
            assert_eq!(turns.awake(|| Some(())), Some(()));
            assert_eq!(turns.awake(|| Some(())), None);
            turns.answered();
        }
    }

    #[test]
    fn commands_that_follow_each_other_end_a_conversation() {
        let turns = in_conversation();
        assert!(turns.asked());
        for _ in 0..TURNS {
            assert!(!turns.asked());
            assert_eq!(turns.awake(|| Some(())), None);
            turns.answered();
        }
        assert!(turns.asked());
    }

    #[test]
    fn a_program_that_is_slow_is_waited_for_awake_less_and_less_often() {
        let turns = in_conversation();
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
