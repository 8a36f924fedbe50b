//! Sends signals to processes seen a moment ago, and never to others that have their numbers now.

use std::io;

use safe_port_os::pidfd::PidFd;
use safe_port_os::process::Pid;
use safe_port_os::{errno, signal};

use crate::proc::Process;

/// Sends `signals` to `process`, which was seen below `own`, this process. `ESRCH` if it is gone.
///
/// Only the thread that reaps this process's children may call this.
pub fn strike(own: i32, process: &Process, signals: &[i32]) -> io::Result<()> {
    let gone = || io::Error::from_raw_os_error(errno::ESRCH);
    let pid = Pid::new(process.pid).ok_or_else(gone)?;
    if process.parent == own {
        // Our child, and not reaped since, as only this thread does that: the number still means it.
        return signals.iter().try_for_each(|number| signal::send(pid, *number));
    }
    match PidFd::open(pid) {
        // Whoever has the number now keeps being what the descriptor means: if it is the one that was seen, then for
        // good.
        Ok(pidfd) if is_same(own, process) => signals.iter().try_for_each(|number| pidfd.send(*number)),
        Ok(_) => Err(gone()),
        // Before Linux 5.3, or where a sandbox forbids it: what is left is the moment between check and signal.
        Err(error) if matches!(error.raw_os_error(), Some(errno::ENOSYS | errno::EPERM)) => {
            if is_same(own, process) {
                signals.iter().try_for_each(|number| signal::send(pid, *number))
            } else {
                Err(gone())
            }
        }
        Err(error) => Err(error),
    }
}

/// Whether the number still means the process that was seen: started at the same time, and below the same parent or, if
/// that has ended since, below us.
fn is_same(own: i32, seen: &Process) -> bool {
    Process::read(seen.pid).is_some_and(|now| {
        now.start == seen.start && (now.parent == seen.parent || now.parent == own) && !now.is_dead()
    })
}
