//! Sending signals, not receiving them, and the one signal that is news: that a child has ended.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

pub use libc::{SIGCONT, SIGKILL, SIGTERM};

use crate::check;
use crate::process::Pid;

/// `kill(2)`: sends `signal` to `pid`, which must be known to be the process meant: a child that is not reaped.
///
/// With signal 0 it only asks whether it could be sent.
pub fn send(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: takes integers only; a `Pid` is greater than 1, so one process is meant.
    check(unsafe { libc::kill(pid.get(), signal) }).map(drop)
}

/// `killpg(2)`: sends `signal` to the process group of `leader`, which must be known to be the group meant: its leader is
/// a child that is not reaped.
pub fn send_group(leader: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: takes integers only; a `Pid` is greater than 1, so neither our own group nor every process is meant.
    check(unsafe { libc::killpg(leader.get(), signal) }).map(drop)
}

/// `sigaction(2)` with `SIG_DFL`: no signal is ignored or handled any more. Ignored ones would be inherited through
/// `exec`, and an ignored SIGCHLD loses the status of every child.
///
/// For the beginning of a program, before it has threads.
pub fn default_all() {
    for number in 1..=64 {
        // The bare call, since the C library keeps two numbers to itself and does not change them for others, even if
        // they were inherited as ignored.
        #[cfg(target_os = "linux")]
        {
            const MASK_BYTES: usize = 8;
            let default = [0_u64; 8];
            let none = ptr::null_mut::<u64>();
            // SAFETY: all zeros is `SIG_DFL` without flags and with an empty mask, in more room than any architecture's
            // structure takes; the call only reads it. Numbers that cannot be changed are refused, which is as good.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), none, MASK_BYTES) };
        }
        #[cfg(not(target_os = "linux"))]
        // SAFETY: the default action runs no code of ours; numbers that do not exist are refused.
        unsafe {
            libc::signal(number, libc::SIG_DFL);
        }
    }
}

/// `pthread_sigmask(3)`: blocks every signal in this thread and those it will start. SIGKILL and SIGSTOP cannot be.
pub fn block_all() {
    // SAFETY: sigset_t is plain data; `sigfillset` initialises it, and the mask changed is that of this thread.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
}

/// `sigprocmask(2)`: blocks nothing. Safe between fork and exec.
pub(crate) fn unblock_all() {
    // SAFETY: sigset_t is plain data, `sigemptyset` initialises it; both calls are async-signal-safe.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// The set that holds SIGCHLD alone.
fn child_set() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data, `sigemptyset` initialises it, and SIGCHLD is a signal.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        set
    }
}

/// Becomes readable when a child has ended. SIGCHLD must be blocked in every thread, with its default disposition.
#[derive(Debug)]
pub struct ChildNews(OwnedFd);

impl ChildNews {
    /// `signalfd(2)`.
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<ChildNews> {
        let set = child_set();
        // SAFETY: the set is initialised and only read; the descriptor is new, and nobody else knows it.
        unsafe {
            let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
            Ok(ChildNews(std::os::fd::FromRawFd::from_raw_fd(fd)))
        }
    }

    /// `sigwait(3)` in a thread of its own, which writes to a pipe.
    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<ChildNews> {
        use crate::pipe;
        let (reader, writer) = pipe::pipe()?;
        pipe::set_nonblocking(reader.as_fd(), true)?;
        pipe::set_nonblocking(writer.as_fd(), true)?;
        let wait = move || loop {
            let (set, mut number) = (child_set(), 0);
            // SAFETY: the set is initialised and only read; the call writes one int.
            unsafe { libc::sigwait(&raw const set, &raw mut number) };
            // A full pipe is readable, which is all that is wanted.
            let _ = pipe::write(writer.as_fd(), &[1]);
        };
        std::thread::Builder::new().name("child_news".into()).spawn(wait)?;
        Ok(ChildNews(reader))
    }

    /// Makes it unreadable until the next child ends. Children must be looked for after this, not before.
    pub fn drain(&self) {
        // One signal, however many children: the second SIGCHLD is dropped while the first is pending.
        let mut buffer = [0; mem::size_of::<libc::siginfo_t>()];
        let _ = crate::pipe::read(self.0.as_fd(), &mut buffer);
    }
}

impl AsFd for ChildNews {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
