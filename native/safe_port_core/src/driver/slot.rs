//! The place where the answer to a call arrives.

use std::time::Duration;

use super::sync::channel::{bounded, Receiver};
use super::sync::{lock, Arc, AtomicBool, Mutex, Ordering};

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The driver refuses the arguments, has no such callback, or its answer is no term.
    BadArg,
    /// The port was closed before the call, or before its answer.
    Closed,
    /// The answer has this many bytes, more than [`MAX_REPLY_BYTES`](super::MAX_REPLY_BYTES).
    TooLarge(usize),
    /// The driver panicked with this message; the port is ending.
    Panic(String),
}

/// The answer to a call.
pub type Answer<T> = Result<T, CallError>;
type Listener<T> = Box<dyn FnOnce(Answer<T>) + Send>;

struct Slot<T> {
    state: Mutex<State<T>>,
    /// Whether the answer is there, to be looked at without the lock.
    answered: AtomicBool,
}

enum State<T> {
    Waiting(Option<Listener<T>>),
    Answered(Answer<T>),
    Taken,
}

/// The end that answers, once. Dropped without an answer it answers [`CallError::Closed`].
pub(super) struct Replier<T>(Arc<Slot<T>>);

/// The end that waits for the answer.
pub struct Reply<T>(Arc<Slot<T>>);

/// Both ends.
pub(super) fn slot<T>() -> (Replier<T>, Reply<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Waiting(None)), answered: AtomicBool::new(false) });
    (Replier(Arc::clone(&slot)), Reply(slot))
}

impl<T> Replier<T> {
    /// One whose answer is handed to `listener`, on the thread that answers.
    pub fn to(listener: impl FnOnce(Answer<T>) + Send + 'static) -> Replier<T> {
        let state = Mutex::new(State::Waiting(Some(Box::new(listener))));
        Replier(Arc::new(Slot { state, answered: AtomicBool::new(false) }))
    }

    /// Answers. Only the first answer counts.
    pub fn answer(&self, answer: Answer<T>) {
        let mut state = lock(&self.0.state);
        match &mut *state {
            State::Waiting(None) => {
                *state = State::Answered(answer);
                self.0.answered.store(true, Ordering::Release);
            }
            State::Waiting(listener) => {
                let listener = listener.take();
                *state = State::Taken;
                drop(state);
                if let Some(listener) = listener {
                    listener(answer);
                }
            }
            State::Answered(_) | State::Taken => {}
        }
    }
}

impl<T> Drop for Replier<T> {
    fn drop(&mut self) {
        self.answer(Err(CallError::Closed));
    }
}

impl<T> Reply<T> {
    /// The answer, if it is here. Cheap enough to be asked again and again.
    pub fn take(&self) -> Option<Answer<T>> {
        if !self.0.answered.load(Ordering::Acquire) {
            return None;
        }
        let mut state = lock(&self.0.state);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Answered(answer) => Some(answer),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Has the answer handed to `listener` when it comes, on the thread that answers. If it is here already it is
    /// returned, and the listener dropped. After [`Reply::take`] has given it out there is nothing to come.
    #[must_use]
    pub fn listen(self, listener: impl FnOnce(Answer<T>) + Send + 'static) -> Option<Answer<T>> {
        let mut state = lock(&self.0.state);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Answered(answer) => return Some(answer),
            State::Waiting(_) => *state = State::Waiting(Some(Box::new(listener))),
            State::Taken => {}
        }
        None
    }
}

impl<T: Send + 'static> Reply<T> {
    /// Sleeps until the answer is here.
    pub fn wait(self) -> Answer<T> {
        self.channel().recv().unwrap_or(Err(CallError::Closed))
    }

    /// Sleeps until the answer is here, or `time` is over.
    pub fn wait_for(self, time: Duration) -> Option<Answer<T>> {
        self.channel().recv_timeout(time).ok()
    }

    fn channel(self) -> Receiver<Answer<T>> {
        let (sender, receiver) = bounded(1);
        if let Some(answer) = self.listen(move |answer| drop(sender.send(answer))) {
            let (sender, receiver) = bounded(1);
            // What was sent can be received after the sender is gone.
            let _ = sender.send(answer);
            return receiver;
        }
        receiver
    }
}
