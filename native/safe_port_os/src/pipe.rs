//! Pipes, and the reading and writing of descriptors.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::check::{check, check_size, retry};

/// `pipe(2)`: the reading and the writing end, both close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    #[cfg(target_os = "linux")]
    // SAFETY: the kernel writes two descriptors into an array of two.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above. Where pipe2(2) is missing, a child that another thread starts between these calls may inherit
    // the ends; the guardian closes what it does not pass.
    unsafe {
        check(libc::pipe(fds.as_mut_ptr()))?;
        check(libc::fcntl(fds[0], libc::F_SETFD, libc::FD_CLOEXEC))?;
        check(libc::fcntl(fds[1], libc::F_SETFD, libc::FD_CLOEXEC))?;
    }
    // SAFETY: both are open and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// `fcntl(2)` with `O_NONBLOCK`: whether reads and writes return at once instead of waiting.
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: takes integers only, and the descriptor is open.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// `read(2)`: the number of bytes, 0 at the end of the input.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into memory that is ours for the call.
    retry(|| check_size(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }))
}

/// `writev(2)`: the number of bytes taken. At most 1,024 slices (`IOV_MAX`).
pub fn writev(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let count = libc::c_int::try_from(slices.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `IoSlice` has the layout of `iovec`, and the slices outlive the call.
    retry(|| check_size(unsafe { libc::writev(fd.as_raw_fd(), slices.as_ptr().cast(), count) }))
}

/// `ioctl(2)` with `FIONREAD`: the number of bytes in the pipe.
pub fn readable_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// `fcntl(2)` with `F_SETPIPE_SZ`: asks for room for `bytes` bytes; the size it has then. Only Linux has that.
pub fn set_size(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        let bytes = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: takes integers only, and the descriptor is open.
        let size = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) })?;
        Ok(usize::try_from(size).unwrap_or(0))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (fd, bytes);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// `fcntl(2)` with `F_DUPFD_CLOEXEC`: a copy of the descriptor `number` of this process, above 2; `EBADF` if it is closed.
pub fn duplicate_number(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only; a closed number is an error, not undefined.
    let copy = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the copy is new and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
