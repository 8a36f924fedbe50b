//! Processes: waiting for them, signalling them, and what the guardian sets for itself.

use std::io;
use std::mem::MaybeUninit;

use crate::check::{check, retry};

/// A process id of another process: greater than 1, so that it can mean neither a group nor every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

impl Pid {
    /// `None` unless `number` is greater than 1.
    pub fn new(number: i32) -> Option<Pid> {
        (number > 1).then_some(Pid(number))
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0
    }
}

/// What `wait4(2)` tells of a child that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The wait status, undecoded.
    pub status: i32,
    /// Microseconds in user mode.
    pub user_us: u64,
    /// Microseconds in the kernel.
    pub system_us: u64,
    /// The most memory it had resident, in KiB.
    pub max_rss_kib: u64,
}

/// `waitid(2)` with `WNOWAIT`: a child that has ended and still is a zombie, so that its number is not used again yet.
///
/// `None` if there is no such child at present, or no child at all.
pub fn peek_ended() -> io::Result<Option<Pid>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel fills in one siginfo_t; all-zero is a valid one, whose pid 0 means that nothing was found.
    let result = retry(|| check(unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) }));
    match result {
        // SAFETY: initialised as said; `si_pid` is what waitid(2) sets.
        Ok(_) => Ok(Pid::new(unsafe { info.assume_init().si_pid() })),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `wait4(2)` with `WNOHANG`: reaps the child `pid`; `None` if it has not ended or is no child.
pub fn reap(pid: Pid) -> io::Result<Option<Ended>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one int and one rusage, for which all-zero is valid.
    let result =
        retry(|| check(unsafe { libc::wait4(pid.0, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) }));
    match result {
        Ok(0) => Ok(None),
        Ok(_) => {
            // SAFETY: initialised as said.
            let usage = unsafe { usage.assume_init() };
            let max_rss = u64::try_from(usage.ru_maxrss).unwrap_or(0);
            Ok(Some(Ended {
                status,
                user_us: micros(usage.ru_utime),
                system_us: micros(usage.ru_stime),
                // macOS counts bytes where the others count KiB.
                max_rss_kib: if cfg!(target_os = "macos") { max_rss / 1024 } else { max_rss },
            }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

fn micros(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
}

/// `kill(2)`: sends `signal` to the process `pid`, which the caller knows to be the one it means: an unreaped child.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: takes integers only; `Pid` is greater than 1, so one process is meant.
    check(unsafe { libc::kill(pid.0, signal) }).map(drop)
}

/// `killpg(2)`: sends `signal` to the process group that `leader` leads, or led while it is unreaped.
pub fn kill_group(leader: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: takes integers only; `Pid` is greater than 1, so neither our own group nor every process is meant.
    check(unsafe { libc::killpg(leader.0, signal) }).map(drop)
}

/// `getpid(2)`
pub fn own_pid() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// `setsid(2)`: a session of one's own, away from the terminal and the group of the parent.
pub fn new_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// `prctl(2)` with `PR_SET_CHILD_SUBREAPER`: orphans below this process become its children. Only Linux has that.
pub fn become_subreaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: takes integers only.
    return check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop);
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// `fork(2)`, for a process that has no other thread: `None` in the child.
///
/// # Errors
/// Those of `fork(2)`, and `EBUSY` if there are other threads, as their locks would stay locked in the child.
pub fn fork_single_threaded() -> io::Result<Option<Pid>> {
    #[cfg(target_os = "linux")]
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: this thread is the only one, so the child finds every lock and allocator as they are.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::new(pid))
}

/// `_exit(2)`: ends this process without running anything more.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(code) }
}
