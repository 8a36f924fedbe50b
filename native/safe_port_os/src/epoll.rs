//! Waiting for many descriptors at once: `epoll(7)`, or `poll(2)` over a list where there is none.

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Data to read, or the end of it.
    pub readable: bool,
    /// Room to write.
    pub writable: bool,
}

/// A descriptor that is ready. Errors and hangups make it both readable and writable: the next call meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The key it was added with.
    pub key: u64,
    /// Whether a read would not block.
    pub readable: bool,
    /// Whether a write would not block.
    pub writable: bool,
}

#[cfg_attr(all(target_os = "linux", not(feature = "posix")), path = "epoll/epoll.rs")]
#[cfg_attr(not(all(target_os = "linux", not(feature = "posix"))), path = "epoll/list.rs")]
mod sys;

pub use sys::Epoll;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::{Epoll, Interest, Ready};

    const READ: Interest = Interest { readable: true, writable: false };
    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn wait(epoll: &Epoll, timeout: Option<Duration>) -> Vec<Ready> {
        let mut ready = Vec::new();
        epoll.wait(&mut ready, timeout).unwrap();
        ready
    }

    #[test]
    fn a_descriptor_added_once_rests_after_it_was_reported() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add_once(near.as_raw_fd(), 7, READ).unwrap();
        assert_eq!(wait(&epoll, NOW), []);
        far.write_all(b"x").unwrap();
        let ready = [Ready { key: 7, readable: true, writable: false }];
        assert_eq!(wait(&epoll, None), ready);
        assert_eq!(wait(&epoll, NOW), []);
        epoll.rearm(near.as_raw_fd(), 7, READ).unwrap();
        assert_eq!(wait(&epoll, None), ready);
        near.read_exact(&mut [0]).unwrap();
        epoll.rearm(near.as_raw_fd(), 7, READ).unwrap();
        assert_eq!(wait(&epoll, NOW), []);
    }

    #[test]
    fn a_hangup_is_readable() {
        let (near, far) = UnixStream::pair().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(near.as_raw_fd(), 1, READ).unwrap();
        drop(far);
        assert!(wait(&epoll, None)[0].readable);
    }

    #[test]
    fn a_removed_descriptor_is_not_reported() {
        let (near, far) = UnixStream::pair().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(near.as_raw_fd(), 1, READ).unwrap();
        epoll.remove(near.as_raw_fd()).unwrap();
        drop(far);
        assert_eq!(wait(&epoll, NOW), []);
        assert!(epoll.remove(near.as_raw_fd()).is_err());
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_refused() {
        assert!(Epoll::new().unwrap().add(-1, 1, READ).is_err());
    }
}
