//! Descriptors of processes, which keep meaning the process they were opened for.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::check::check;
use crate::process::Pid;

/// A process, however often its number is used again.
pub struct PidFd(OwnedFd);

impl PidFd {
    /// `pidfd_open(2)`. `ENOSYS` before Linux 5.3 and on other systems.
    pub fn open(pid: Pid) -> io::Result<PidFd> {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: takes integers only.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.get(), 0) };
            let fd = check(i32::try_from(fd).unwrap_or(-1))?;
            // SAFETY: the descriptor is new and nothing else owns it.
            Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = pid;
            Err(io::Error::from_raw_os_error(libc::ENOSYS))
        }
    }

    /// `pidfd_send_signal(2)`: `ESRCH` if the process has been reaped.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let info = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: takes integers and a null pointer, which means the same as kill(2).
            let result =
                unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, info, 0) };
            check(i32::try_from(result).unwrap_or(-1)).map(drop)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (self.0.as_raw_fd(), signal);
            Err(io::Error::from_raw_os_error(libc::ENOSYS))
        }
    }
}
