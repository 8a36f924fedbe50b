//! Waiting for descriptors, and waking a thread that waits.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::{check, pipe};

/// A descriptor to wait for, and after [`poll`] what it is ready for.
#[repr(transparent)]
pub struct PollFd<'fd> {
    raw: libc::pollfd,
    fd: PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> PollFd<'fd> {
    /// Waits until `fd` can be read, or written, or both. Errors and hang-ups are always waited for.
    pub fn new(fd: BorrowedFd<'fd>, readable: bool, writable: bool) -> Self {
        let interest = if readable { libc::POLLIN } else { 0 } | if writable { libc::POLLOUT } else { 0 };
        PollFd { raw: libc::pollfd { fd: fd.as_raw_fd(), events: interest, revents: 0 }, fd: PhantomData }
    }

    /// Whether a read would return at once, be it with an error or the end.
    pub fn readable(&self) -> bool {
        self.raw.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }

    /// Whether a write would return at once, be it with an error.
    pub fn writable(&self) -> bool {
        self.raw.revents & (libc::POLLOUT | libc::POLLERR | libc::POLLNVAL) != 0
    }

    /// Whether the number is that of no open descriptor.
    pub fn is_closed(&self) -> bool {
        self.raw.revents & libc::POLLNVAL != 0
    }

    /// Whether the other end is gone.
    pub fn hung_up(&self) -> bool {
        self.raw.revents & (libc::POLLHUP | libc::POLLERR) != 0
    }
}

/// `ppoll(2)`: waits until one of `fds` is ready, for `timeout` at most, `None` meaning for ever. How many are ready.
///
/// 0 if the time is over, or if a signal came.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let count = fds.len() as libc::nfds_t;
    #[cfg(not(target_vendor = "apple"))]
    let result = {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i32::MAX.into()),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `PollFd` has the layout of `pollfd`, and pointer and length are those of the slice; the timeout lives
        // on this stack; a null signal mask leaves the mask alone.
        check(unsafe { libc::ppoll(fds.as_mut_ptr().cast(), count, timeout, std::ptr::null()) })
    };
    #[cfg(target_vendor = "apple")]
    let result = {
        // Rounded up: a caller that waits for a moment must not come back before it.
        let timeout = timeout.map_or(-1, |timeout| {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: `PollFd` has the layout of `pollfd`, and pointer and length are those of the slice.
        check(unsafe { libc::poll(fds.as_mut_ptr().cast(), count, timeout) })
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        result => result.map(|ready| ready as usize),
    }
}

/// Wakes a thread that polls: an `eventfd(2)`, or a pipe where there is none.
#[derive(Debug)]
pub struct Notify {
    reader: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    writer: OwnedFd,
}

impl Notify {
    /// One that nobody has notified yet.
    pub fn new() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the call takes integers and touches no memory of ours.
            let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
            // SAFETY: the call has just made this descriptor, and nobody else knows it.
            Ok(Notify { reader: unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) } })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let (reader, writer) = pipe::pipe()?;
            pipe::set_nonblocking(reader.as_fd(), true)?;
            pipe::set_nonblocking(writer.as_fd(), true)?;
            Ok(Notify { reader, writer })
        }
    }

    /// Makes the descriptor readable, until [`drain`](Notify::drain).
    pub fn notify(&self) {
        #[cfg(target_os = "linux")]
        let writer = &self.reader;
        #[cfg(not(target_os = "linux"))]
        let writer = &self.writer;
        // A full counter or pipe is readable, which is all that is wanted.
        let _ = pipe::write(writer.as_fd(), &1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable again. What was announced must be looked for after this, not before.
    pub fn drain(&self) {
        let mut buffer = [0; 64];
        // An eventfd is empty after one read; a pipe may need more.
        while matches!(pipe::read(self.reader.as_fd(), &mut buffer), Ok(count) if count == buffer.len()) {}
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
