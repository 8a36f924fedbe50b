//! Waiting for descriptors, and waking a thread that waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::check::{check, retry};
use crate::pipe;

/// A descriptor to wait for, and afterwards what it is ready for.
#[repr(transparent)]
pub struct Poll<'fd> {
    raw: libc::pollfd,
    fd: std::marker::PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> Poll<'fd> {
    /// Waits until `fd` can be read or, if `output`, also until it can be written.
    pub fn new(fd: BorrowedFd<'fd>, output: bool) -> Self {
        let events = libc::POLLIN | if output { libc::POLLOUT } else { 0 };
        Poll { raw: libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }, fd: std::marker::PhantomData }
    }

    /// Something can be read: data, the end, or an error.
    pub fn readable(&self) -> bool {
        self.raw.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }

    /// Something can be written, if only to meet an error.
    pub fn writable(&self) -> bool {
        self.raw.revents & (libc::POLLOUT | libc::POLLERR | libc::POLLNVAL) != 0
    }
}

/// `poll(2)`: waits until one of `polls` is ready or `timeout` is over (rounded up to ms); the number that are ready.
pub fn poll(polls: &mut [Poll<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let ms = timeout.map_or(-1, |timeout| {
        libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: `Poll` has the layout of `pollfd`, and the slice is ours for the call.
    let ready = retry(|| check(unsafe { libc::poll(polls.as_mut_ptr().cast(), polls.len() as _, ms) }))?;
    Ok(usize::try_from(ready).unwrap_or(0))
}

/// Wakes a thread that waits in [`poll`]: `eventfd(2)`, or a pipe where there is none.
pub struct Notify {
    read: OwnedFd,
    write: Option<OwnedFd>,
}

impl Notify {
    /// A new one, not notified.
    pub fn new() -> io::Result<Notify> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::FromRawFd;
            // SAFETY: takes integers only.
            let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
            // SAFETY: the descriptor is new and nothing else owns it.
            Ok(Notify { read: unsafe { OwnedFd::from_raw_fd(fd) }, write: None })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let (read, write) = pipe::pipe()?;
            pipe::set_nonblocking(read.as_fd(), true)?;
            pipe::set_nonblocking(write.as_fd(), true)?;
            Ok(Notify { read, write: Some(write) })
        }
    }

    /// Makes it readable until [`Notify::drain`]. Never blocks: what is full is readable already.
    pub fn notify(&self) {
        let fd = self.write.as_ref().unwrap_or(&self.read);
        let _ = pipe::writev(fd.as_fd(), &[io::IoSlice::new(&1_u64.to_ne_bytes())]);
    }

    /// Makes it unreadable again.
    pub fn drain(&self) {
        let mut buffer = [0; 64];
        while pipe::read(self.read.as_fd(), &mut buffer).is_ok_and(|count| count == buffer.len()) {}
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
