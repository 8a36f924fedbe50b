//! A count that one process keeps and another reads, also when the first is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::pipe;

/// A counter that processes share by its descriptor: an `eventfd(2)`. Where there is none it counts nothing.
#[derive(Debug)]
pub struct Tally(OwnedFd);

impl Tally {
    /// One that has counted nothing yet.
    pub fn new() -> io::Result<Tally> {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the call takes integers and touches no memory of ours.
            let fd = crate::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
            // SAFETY: the call has just made this descriptor, and nobody else knows it.
            Ok(Tally(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }))
        }
        #[cfg(not(target_os = "linux"))]
        crate::dir::null().map(Tally)
    }

    /// `write(2)`: adds one.
    pub fn count(&self) {
        // Fails only when it is full, which takes centuries.
        let _ = pipe::write(self.0.as_fd(), &1_u64.to_ne_bytes());
    }

    /// `read(2)`: how much was counted since the last call; `None` where nothing is counted.
    pub fn take(&self) -> Option<u64> {
        let mut count = [0; 8];
        match pipe::read(self.0.as_fd(), &mut count) {
            Ok(8) => Some(u64::from_ne_bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(0),
            _ => None,
        }
    }
}

/// The other process's half, passed on to it.
impl From<OwnedFd> for Tally {
    fn from(fd: OwnedFd) -> Tally {
        Tally(fd)
    }
}

impl AsFd for Tally {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::Tally;

    #[test]
    fn what_one_half_counts_the_other_takes_once() {
        let ours = Tally::new().expect("an eventfd");
        let theirs = Tally::from(ours.0.try_clone().expect("a descriptor"));
        assert_eq!(ours.take(), Some(0));
        for _ in 0..3 {
            theirs.count();
        }
        drop(theirs);
        assert_eq!([ours.take(), ours.take()], [Some(3), Some(0)]);
    }
}
