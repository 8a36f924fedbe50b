//! What the link's callers and its thread share.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crossbeam_channel::{unbounded, Receiver, Sender};

use super::frame::Command;
use super::outbox::Outbox;
use super::start::Start;
use super::wake::Wake;
use super::worker::Worker;

/// Commands up to this size are encoded and sent by the caller; larger ones would keep it for too long.
const DIRECT_BYTES: usize = 64 * 1024;

/// The state of the link.
pub struct Shared {
    outbox: Mutex<Outbox>,
    pub wake: Wake,
    /// The guardian's process id; 0 while there is none.
    pub guardian: AtomicU32,
    pub generation: AtomicU64,
    /// Whether the link is dropped.
    pub closing: AtomicBool,
}

impl Shared {
    /// Waits for the outbox; for the thread only.
    pub fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_outbox(&self) -> Option<MutexGuard<'_, Outbox>> {
        match self.outbox.try_lock() {
            Ok(outbox) => Some(outbox),
            Err(TryLockError::Poisoned(outbox)) => Some(outbox.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The callers' end.
pub struct Line {
    shared: Arc<Shared>,
    /// Unbounded, and as long as the ports have operations under way: one entry each.
    sender: Sender<Command>,
    /// Only to see whether anything is on its way.
    receiver: Receiver<Command>,
}

impl Line {
    /// Starts the thread.
    pub fn open(start: Arc<Start>) -> io::Result<Line> {
        let shared = Arc::new(Shared {
            outbox: Mutex::default(),
            wake: Wake::new()?,
            guardian: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        });
        let (sender, receiver) = unbounded();
        let worker = Worker::new(Arc::clone(&shared), receiver.clone(), start);
        std::thread::Builder::new().name("safe_port_link".into()).spawn(move || worker.run())?;
        Ok(Line { shared, sender, receiver })
    }

    /// Has the command carried out, after all that this caller submitted before. Never blocks.
    pub fn submit(&self, command: Command) {
        if command.bytes() <= DIRECT_BYTES {
            if let Some(mut outbox) = self.shared.try_outbox() {
                if self.receiver.is_empty() {
                    let wake = outbox.submit(command);
                    drop(outbox);
                    if wake {
                        self.shared.wake.ring();
                    }
                    return;
                }
            }
        }
        // Never an error: `self` has a receiver.
        let _ = self.sender.send(command);
        self.shared.wake.ring();
    }

    pub fn guardian_pid(&self) -> Option<u32> {
        Some(self.shared.guardian.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.ring();
    }
}
