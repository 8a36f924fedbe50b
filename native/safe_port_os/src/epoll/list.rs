//! `poll(2)` over a list. Each wait costs as much as the list is long, which is what systems without epoll have in common.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Interest, Ready};
use crate::check;
use crate::poll::{poll, Notify, PollFd};

#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    /// `None`: it rests.
    interest: Option<Interest>,
    once: bool,
}

/// A set of descriptors that are waited for.
///
/// It takes numbers and not borrowed descriptors because it does not keep them open: one that is closed leaves the set
/// when the closing is noticed, and a number that is not open is refused with `EBADF`.
#[derive(Debug)]
pub struct Epoll {
    list: Mutex<HashMap<RawFd, Entry>>,
    /// Interrupts a wait when the list has changed.
    changed: Notify,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.key, self.interest)
    }
}

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll { list: Mutex::default(), changed: Notify::new()? })
    }

    /// Adds `fd`. After it was reported once it rests until [`rearm`](Epoll::rearm).
    pub fn add_once(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.insert(fd, Entry { key, interest: Some(interest), once: true })
    }

    /// Adds `fd`, to be reported as long as it is ready.
    pub fn add(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.insert(fd, Entry { key, interest: Some(interest), once: false })
    }

    fn insert(&self, fd: RawFd, entry: Entry) -> io::Result<()> {
        // SAFETY: takes integers only; fails if the number is not open.
        check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
        let mut list = self.lock();
        if list.contains_key(&fd) {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        list.insert(fd, entry);
        self.changed.notify();
        Ok(())
    }

    /// Waits for `fd`, which is in the set, once more. Without interest it rests.
    pub fn rearm(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        let mut list = self.lock();
        let entry = list.get_mut(&fd).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let interest = Some(interest).filter(|interest| interest.readable || interest.writable);
        *entry = Entry { key, interest, once: true };
        self.changed.notify();
        Ok(())
    }

    /// Removes `fd`. Events that a call of [`wait`](Epoll::wait) has brought already are the caller's to ignore.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        let removed = self.lock().remove(&fd);
        removed.map(drop).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Waits until something is ready or `timeout` is over; appends what is ready to `ready`.
    ///
    /// A signal ends it early, with nothing ready, and so does a change of the set.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let watched: Vec<(RawFd, Entry, Interest)> = {
            let list = self.lock();
            list.iter().filter_map(|(fd, entry)| Some((*fd, *entry, entry.interest?))).collect()
        };
        let mut fds = vec![PollFd::new(self.changed.as_fd(), true, false)];
        for (fd, _, interest) in &watched {
            // SAFETY: the number is only handed to `poll(2)`, to which one that is closed meanwhile is an answer.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            fds.push(PollFd::new(fd, interest.readable, interest.writable));
        }
        poll(&mut fds, timeout)?;
        if fds[0].readable() {
            self.changed.drain();
        }
        let mut list = self.lock();
        for ((fd, entry, _), polled) in watched.iter().zip(&fds[1..]) {
            let same = list.get(fd).is_some_and(|now| now.key == entry.key && now.interest == entry.interest);
            if !same {
                continue;
            }
            if polled.is_closed() {
                list.remove(fd);
            } else if polled.readable() || polled.writable() {
                let all = polled.hung_up();
                let (readable, writable) = (polled.readable() || all, polled.writable() || all);
                ready.push(Ready { key: entry.key, readable, writable });
                if let Some(now) = list.get_mut(fd).filter(|_| entry.once) {
                    now.interest = None;
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RawFd, Entry>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
