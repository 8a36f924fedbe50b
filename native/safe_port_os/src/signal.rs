//! Dispositions and masks of signals, and the news of ended children as something to poll for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::check::check;

/// `SIGTERM`, `SIGKILL` and so on, as numbers.
pub use libc::{SIGCONT, SIGKILL, SIGTERM};

/// The highest signal number there is.
const LAST: libc::c_int = 64;

/// `sigaction(2)` with `SIG_DFL` for every signal that can be changed. Async-signal-safe.
pub fn reset_all() {
    // SAFETY: an all-zero sigaction is `SIG_DFL` with an empty mask and no flags; numbers that cannot be changed are
    // refused, which does not matter.
    unsafe {
        let action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        for number in 1..=LAST {
            libc::sigaction(number, &raw const action, std::ptr::null_mut());
        }
    }
}

/// `sigaction(2)` with `SIG_IGN`: signals that a terminal or a service manager sends to everyone.
pub fn ignore_what_is_sent_to_everyone() {
    let numbers = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    for number in numbers {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// A set of blocked signals.
pub struct Mask(libc::sigset_t);

/// `pthread_sigmask(3)`: blocks every signal in this thread; the mask it had.
pub fn block_all() -> Mask {
    let mut all = MaybeUninit::uninit();
    let mut old = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the one set, pthread_sigmask the other; both only fail for bad arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        Mask(old.assume_init())
    }
}

/// `pthread_sigmask(3)`: gives this thread the mask it had.
pub fn restore(mask: &Mask) {
    // SAFETY: the set came from `block_all`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask.0, std::ptr::null_mut()) };
}

/// `pthread_sigmask(3)`: blocks nothing in this thread. Async-signal-safe.
pub fn unblock_all() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Becomes readable when a child has ended: `signalfd(2)` for SIGCHLD.
#[cfg(target_os = "linux")]
pub struct ChildNews(OwnedFd);

#[cfg(target_os = "linux")]
impl ChildNews {
    /// Blocks SIGCHLD in this thread and those it starts, and opens the descriptor.
    pub fn new() -> io::Result<ChildNews> {
        use std::os::fd::FromRawFd;
        let mut set = MaybeUninit::uninit();
        // SAFETY: the set is initialised before it is used; the descriptor is new and nothing else owns it.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            let fd = check(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
            Ok(ChildNews(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Makes it unreadable until the next child ends.
    pub fn drain(&self) {
        let mut buffer = [0; 1024];
        while crate::pipe::read(self.0.as_fd(), &mut buffer).is_ok_and(|count| count == buffer.len()) {}
    }
}

#[cfg(target_os = "linux")]
impl AsFd for ChildNews {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
