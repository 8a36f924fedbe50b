//! Pipes, and the reading and writing of descriptors.
//!
//! All descriptors made here are closed on `exec`.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::{check, retry};

/// `pipe2(2)`: a new pipe, as its reading and its writing end.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the array has room for the two descriptors that the call writes.
    #[cfg(not(target_vendor = "apple"))]
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: as above. Without pipe2(2) a child of another thread may inherit the ends before they are marked.
    #[cfg(target_vendor = "apple")]
    check(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
    // SAFETY: the call has just made these descriptors, and nobody else knows them.
    let ends = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    #[cfg(target_vendor = "apple")]
    {
        set_cloexec(ends.0.as_raw_fd())?;
        set_cloexec(ends.1.as_raw_fd())?;
    }
    Ok(ends)
}

/// `fcntl(2)` with `F_SETFD`: marks a descriptor to be closed on `exec`.
#[cfg(target_vendor = "apple")]
pub(crate) fn set_cloexec(fd: RawFd) -> io::Result<()> {
    // SAFETY: the call takes integers and touches no memory of ours.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// `fcntl(2)` with `F_SETFL`: whether reads and writes return [`io::ErrorKind::WouldBlock`] instead of blocking.
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: the call takes integers and touches no memory of ours; the descriptor is borrowed, so it is open.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) }).map(drop)
}

/// `fcntl(2)` with `F_DUPFD_CLOEXEC`: another descriptor for the same open file, of number `least` or more.
pub fn duplicate(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers and touches no memory of ours.
    let copy = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// `fcntl(2)` with `F_DUPFD_CLOEXEC`: another descriptor for what this process has open as `number`, if it has.
///
/// For the standard descriptors, which nobody owns. The copy is 3 or more.
pub fn duplicate_number(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers and touches no memory of ours; a number that is not open is an error.
    let copy = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// `read(2)`: reads up to `buffer.len()` bytes. 0 means end of file, unless the buffer is empty.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: pointer and length are those of a buffer that is ours alone.
        let count = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        check(count).map(|count| count as usize)
    })
}

/// `pread(2)`: reads up to `buffer.len()` bytes from `offset` on.
pub fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    retry(|| {
        // SAFETY: pointer and length are those of a buffer that is ours alone.
        let count = unsafe {
            libc::pread(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset as libc::off_t)
        };
        check(count).map(|count| count as usize)
    })
}

/// `write(2)`: writes up to `bytes.len()` bytes.
///
/// Without a reader it is `EPIPE`, and SIGPIPE, which the VM ignores and the guardian blocks.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: pointer and length are those of a slice, which the call only reads.
        let count = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        check(count).map(|count| count as usize)
    })
}

/// `writev(2)`: writes the slices one after the other, as far as it goes. At most 1024 of them.
///
/// Without a reader it is `EPIPE`, as for [`write()`].
pub fn writev(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `IoSlice` has the layout of `iovec` by its contract; the call only reads what the slices borrow.
        let count =
            unsafe { libc::writev(fd.as_raw_fd(), slices.as_ptr().cast(), slices.len() as libc::c_int) };
        check(count).map(|count| count as usize)
    })
}

/// `ioctl(2)` with `FIONREAD`: how many bytes can be read at once.
pub fn readable_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `FIONREAD` writes one int, and that is what the pointer is to.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(bytes as usize)
}

/// `fstat(2)`: the number that both ends of a pipe have and no other pipe; `None` for what is no pipe.
#[allow(clippy::unnecessary_cast)] // the field's type differs from system to system
pub fn inode(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    // SAFETY: plain data for which all zeros are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one stat.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut status) })?;
    Ok((status.st_mode & libc::S_IFMT == libc::S_IFIFO).then_some(status.st_ino as u64))
}

/// `fcntl(2)` with `F_SETPIPE_SZ`: resizes a pipe to at least `bytes` bytes and returns what it holds now.
///
/// Refused with `EPERM` beyond the limit for one pipe or once the user's quota is used up, and with `ENOSYS` on systems
/// that cannot.
pub fn set_size(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // SAFETY: the call takes integers and touches no memory of ours.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) }).map(|bytes| bytes as usize)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (fd, bytes);
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
}

/// `fcntl(2)` with `F_GETPIPE_SZ`: how many bytes a pipe holds; `ENOSYS` on systems that do not say.
pub fn size(fd: BorrowedFd<'_>) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call takes integers and touches no memory of ours.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETPIPE_SZ) }).map(|bytes| bytes as usize)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = fd;
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
}
