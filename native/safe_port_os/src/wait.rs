//! Children that have ended.

use std::io;
use std::mem;

use crate::process::Pid;
use crate::{check, retry};

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub pid: Pid,
    /// The wait status, as `wait(2)` encodes it.
    pub status: i32,
    /// Microseconds of processor time in user mode, children it has waited for included.
    pub user_us: u64,
    /// Microseconds of processor time in the kernel.
    pub system_us: u64,
    /// The most memory it had resident, in KiB.
    pub max_rss_kib: u64,
}

/// `waitid(2)` with `WNOWAIT`: a child that has ended, which stays a zombie, so that its number keeps meaning it.
///
/// `None` if no child has ended, or there is none. Until it is reaped, the same one may be returned again.
#[cfg(target_os = "linux")]
pub fn peek() -> io::Result<Option<Ended>> {
    // SAFETY: both are plain data for which all zeros are valid.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let result = retry(|| {
        // SAFETY: the call writes one siginfo and one rusage. The C library's wrapper has no place for the latter.
        check(unsafe {
            libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, &raw mut info, options, &raw mut usage)
        })
    });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        result => result?,
    };
    // SAFETY: the call succeeded: it filled in what a SIGCHLD carries, or left zeros if no child has ended.
    let (pid, code) = unsafe { (info.si_pid(), info.si_status()) };
    let status = match info.si_code {
        libc::CLD_EXITED => (code & 0xff) << 8,
        libc::CLD_DUMPED => code | 0x80,
        _ => code,
    };
    Ok(Pid::new(pid).map(|pid| ended(pid, status, &usage)))
}

/// `wait4(2)`: reaps the child `pid` if it has ended. `None` if not, or if it is no child.
pub fn reap(pid: Pid) -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: plain data for which all zeros are valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let result = retry(|| {
        // SAFETY: the call writes one int and one rusage.
        check(unsafe { libc::wait4(pid.get(), &raw mut status, libc::WNOHANG, &raw mut usage) })
    });
    match result {
        Ok(pid) => Ok(Pid::new(pid).map(|pid| ended(pid, status, &usage))),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

fn ended(pid: Pid, status: i32, usage: &libc::rusage) -> Ended {
    let max_rss = usage.ru_maxrss as u64;
    Ended {
        pid,
        status,
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        // macOS counts bytes where the others count KiB.
        max_rss_kib: if cfg!(target_vendor = "apple") { max_rss / 1024 } else { max_rss },
    }
}

#[allow(clippy::unnecessary_cast)] // the fields' types differ from system to system
fn micros(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64
}
