//! Descriptors of processes, which mean one process for ever, however often its number is used again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;
use crate::process::Pid;

/// A process. Its number may be used by another one once it is reaped; this never means that other.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// `pidfd_open(2)`: the process that has the number `pid` now. `ENOSYS` before Linux 5.3.
    pub fn open(pid: Pid) -> io::Result<PidFd> {
        // SAFETY: takes integers only.
        let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.get(), 0) })?;
        // SAFETY: the call has just made this descriptor, and nobody else knows it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// `pidfd_send_signal(2)`: `ESRCH` if the process has ended and was reaped.
    pub fn send(&self, signal: i32) -> io::Result<()> {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: takes integers and a null pointer, which makes it the same as `kill(2)`.
        check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, info, 0) })
            .map(drop)
    }
}

/// Becomes readable when the process has ended.
impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
