//! Starting the guardian, and seeing to its end.

use std::ffi::CString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use safe_port_os::process::Pid;
use safe_port_os::tally::Tally;
use safe_port_os::{socket, spawn, wait};

/// How a link gets a guardian of the generation that is the argument.
pub type Start = dyn Fn(u64) -> io::Result<Started> + Send + Sync;

/// A guardian that was started.
#[derive(Debug)]
pub struct Started {
    /// Our end of its socket.
    pub socket: OwnedFd,
    /// The process that was started, to be reaped when it ends. Not the guardian, which is a child of it.
    pub process: Option<Pid>,
    /// Tells, when it is gone, how many programs it was asked for; without it nobody knows.
    pub tally: Option<Tally>,
}

/// Starts an executable with a socket as descriptor 3 and a tally as descriptor 4.
pub fn executable(path: PathBuf) -> impl Fn(u64) -> io::Result<Started> + Send + Sync {
    // Names this VM in the cookies of its programs. The standard library seeds its hashers from the system's random
    // numbers.
    let vm = RandomState::new().hash_one(std::process::id());
    let path = path.into_os_string().into_vec();
    move |generation| {
        let program = CString::new(path.clone())?;
        let words = [format!("{vm:016x}"), generation.to_string()];
        let mut args = vec![program.clone()];
        for word in words {
            args.push(CString::new(word)?);
        }
        let (ours, theirs) = socket::pair()?;
        let tally = Tally::new()?;
        let os_pid = spawn::daemon(&program, &args, &[(theirs.as_fd(), 3), (tally.as_fd(), 4)])?;
        let process = i32::try_from(os_pid).ok().and_then(Pid::new);
        Ok(Started { socket: ours, process, tally: Some(tally) })
    }
}

#[cfg(target_os = "linux")]
pub use linux::Processes;
#[cfg(not(target_os = "linux"))]
pub use portable::Processes;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::{AsFd, BorrowedFd};

    use safe_port_os::pidfd::PidFd;

    use super::{reap, Pid};

    /// The processes that were started as guardians and have not ended.
    #[derive(Default)]
    pub struct Processes(Vec<(Pid, PidFd)>);

    impl Processes {
        /// Notes a process that has just been started. Without a descriptor for it (before Linux 5.3) it is not waited
        /// for, which in the VM, where children are reaped unasked, makes no difference.
        pub fn add(&mut self, pid: Pid) {
            if let Ok(pidfd) = PidFd::open(pid) {
                self.0.push((pid, pidfd));
            }
        }

        /// What becomes readable when one of them ends, in their order.
        pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
            self.0.iter().map(|(_, pidfd)| pidfd.as_fd())
        }

        /// Reaps those for which `ended`, in their order, is true.
        pub fn reap(&mut self, ended: impl IntoIterator<Item = bool>) {
            let mut ended = ended.into_iter();
            self.0.retain(|(pid, _)| {
                let ended = ended.next().unwrap_or(false);
                if ended {
                    reap(*pid);
                }
                !ended
            });
        }

        /// Whether none is left.
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::os::fd::BorrowedFd;

    use super::{reap, Pid};

    /// The last process that was started as a guardian.
    #[derive(Default)]
    pub struct Processes(Option<Pid>);

    impl Processes {
        /// Notes a process that has just been started. The one before it has ended, and is reaped.
        pub fn add(&mut self, pid: Pid) {
            if let Some(before) = self.0.replace(pid) {
                reap(before);
            }
        }

        /// Nothing tells of their end.
        pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
            std::iter::empty()
        }

        /// Never needed, as there is nothing in `fds`.
        pub fn reap(&mut self, _ended: impl IntoIterator<Item = bool>) {}

        /// Whether nothing is left to wait for.
        pub fn is_empty(&self) -> bool {
            true
        }
    }
}

fn reap(pid: Pid) {
    // The VM ignores SIGCHLD, so that there the system has reaped it already: no such child.
    let _ = wait::reap(pid);
}
