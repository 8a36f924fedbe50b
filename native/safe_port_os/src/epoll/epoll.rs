//! `epoll(7)`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLRDHUP};

use super::{Interest, Ready};
use crate::check;

/// Events that one call of [`Epoll::wait`] brings at the most.
const EVENTS_PER_WAIT: usize = 64;

/// A set of descriptors that are waited for.
///
/// It takes numbers and not borrowed descriptors because it does not keep them open: one that is closed leaves the set
/// by itself, and a number that is not open is refused with `EBADF`.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// `epoll_create1(2)`.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes an integer only.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds `fd`. After it was reported once it rests until [`rearm`](Epoll::rearm).
    pub fn add_once(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, key, flags(interest) | EPOLLONESHOT)
    }

    /// Adds `fd`, to be reported as long as it is ready.
    pub fn add(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, key, flags(interest))
    }

    /// Waits for `fd`, which is in the set, once more. Without interest it rests.
    pub fn rearm(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, key, flags(interest) | EPOLLONESHOT)
    }

    /// Removes `fd`. Events that a call of [`wait`](Epoll::wait) has brought already are the caller's to ignore.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits until something is ready or `timeout` is over; appends what is ready to `ready`.
    ///
    /// A signal ends it early, with nothing ready.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT];
        // Rounded up: waking up before the time is over would mean a loop that does not wait.
        let ms =
            timeout.map_or(-1, |time| i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: the kernel writes at most as many events as the array has room for.
        let count = check(unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, ms)
        });
        match count {
            Ok(count) => ready.extend(events[..count as usize].iter().map(|event| {
                let has = |flags: i32| event.events & flags as u32 != 0;
                Ready {
                    key: event.u64,
                    readable: has(EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR),
                    writable: has(EPOLLOUT | EPOLLHUP | EPOLLERR),
                }
            })),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn control(&self, operation: i32, fd: RawFd, key: u64, flags: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags as u32, u64: key };
        // SAFETY: `event` lives during the call, which only reads it; the descriptors are integers.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }
}

fn flags(interest: Interest) -> i32 {
    let readable = if interest.readable { EPOLLIN | EPOLLRDHUP } else { 0 };
    readable | if interest.writable { EPOLLOUT } else { 0 }
}
