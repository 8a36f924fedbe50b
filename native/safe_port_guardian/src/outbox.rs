//! Events on their way to the VM. Any thread sends; nobody waits for a full socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use safe_port_os::poll::Notify;
use safe_port_os::socket;
use safe_port_wire::Event;

/// Locks `mutex`; what it guards is as good after a panic as before.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sending side of the socket.
pub struct Outbox {
    socket: OwnedFd,
    /// What the socket did not take. As long as it is not empty, whatever comes goes behind it.
    queue: Mutex<Vec<u8>>,
    /// Wakes the main thread, which waits until the socket takes more.
    wake: Arc<Notify>,
}

impl Outbox {
    /// One that nothing was sent to yet.
    pub fn new(socket: OwnedFd, wake: Arc<Notify>) -> Outbox {
        Outbox { socket, queue: Mutex::default(), wake }
    }

    /// Sends events in one piece, behind all that were sent before.
    pub fn send(&self, events: &[Event]) {
        let mut bytes = Vec::with_capacity(64);
        for event in events {
            event.encode(&mut bytes);
        }
        let mut queue = lock(&self.queue);
        if queue.is_empty() {
            let sent = send_all(self.socket.as_fd(), &bytes);
            bytes.drain(..sent);
            if !bytes.is_empty() {
                *queue = bytes;
                self.wake.notify();
            }
        } else {
            queue.append(&mut bytes);
        }
    }

    /// Whether something waits until the socket takes it.
    pub fn is_pending(&self) -> bool {
        !lock(&self.queue).is_empty()
    }

    /// Sends what waits, as far as it goes.
    pub fn flush(&self) {
        let mut queue = lock(&self.queue);
        let sent = send_all(self.socket.as_fd(), &queue);
        queue.drain(..sent);
        if queue.is_empty() {
            *queue = Vec::new();
        }
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many bytes are done with: sent, or of no use because nobody is there to receive them.
fn send_all(socket: BorrowedFd<'_>, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket::send(socket, &bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return sent,
            // The VM is gone, which the main thread learns by reading.
            Err(_) => return bytes.len(),
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use safe_port_wire::{Frames, PortId};

    use super::*;

    #[test]
    fn nothing_is_lost_or_reordered_when_the_socket_is_full() {
        let (ours, theirs) = socket::pair().expect("a socket pair");
        let wake = Arc::new(Notify::new().expect("a notification"));
        let outbox = Outbox::new(ours, wake);
        let event = |id| Event::Ended { id: PortId(id) };
        let mut sent = 0;
        while !outbox.is_pending() {
            outbox.send(&[event(sent), event(sent + 1)]);
            sent += 2;
        }
        outbox.send(&[event(sent)]);
        let (mut frames, mut found, mut buffer) = (Frames::default(), 0, [0; 4096]);
        while found <= sent {
            match socket::recv(theirs.as_fd(), &mut buffer, &mut Vec::new()) {
                Ok(received) => frames.push(&buffer[..received.bytes]),
                Err(_) => outbox.flush(),
            }
            while let Some(frame) = frames.next_frame().expect("a good stream") {
                assert_eq!(Event::decode(frame), Ok(event(found)));
                found += 1;
            }
        }
        assert!(!outbox.is_pending());
    }

    #[test]
    fn events_for_a_vm_that_is_gone_are_dropped() {
        let (ours, theirs) = socket::pair().expect("a socket pair");
        drop(theirs);
        let outbox = Outbox::new(ours, Arc::new(Notify::new().expect("a notification")));
        outbox.send(&[Event::Ready { os_pid: 2 }]);
        assert!(!outbox.is_pending());
    }
}
