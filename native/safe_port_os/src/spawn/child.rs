//! Starts a program that is watched.
//!
//! On Linux the child shares the memory of the guardian until it has called `exec`, so that no page table is copied: 40
//! against 230 microseconds. It makes only calls that are safe between fork and exec, and allocates nothing: all that it
//! needs is prepared before it exists.

use std::ffi::{c_char, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::{close_all_but, Block};
use crate::process::{own_pid, DescriptorLimit, Pid};
use crate::signal;

#[cfg_attr(all(target_os = "linux", not(feature = "posix")), path = "child/vfork.rs")]
#[cfg_attr(not(all(target_os = "linux", not(feature = "posix"))), path = "child/fork.rs")]
mod start;

/// A program, as `execve(2)` wants it.
#[derive(Debug)]
pub struct Program {
    /// Path of the file.
    pub file: CString,
    /// All arguments, `argv[0]` included.
    pub args: Vec<CString>,
    /// The environment, as `NAME=value`.
    pub env: Block,
    /// Where to go before it is started.
    pub dir: Option<CString>,
}

/// The descriptors of a program.
#[derive(Debug)]
pub struct Passed<'fd> {
    /// Where it starts from. If it cannot be entered it is left out (contract S5).
    pub working_dir: BorrowedFd<'fd>,
    /// What it has open, and under which numbers. Nothing else stays open.
    pub fds: Vec<(BorrowedFd<'fd>, RawFd)>,
    /// `cgroup.procs` of a cgroup to enter.
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// What starting a program failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No process could be made, or it could not be given its descriptors or its cgroup.
    Fork,
    /// The directory could not be entered.
    Chdir,
    /// The file could not be executed.
    Exec,
}

/// Why there is no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub stage: Stage,
    /// How.
    pub errno: i32,
}

/// Where others see a child before its spawner knows of it.
#[derive(Debug, Default)]
pub struct Slot {
    pid: AtomicI32,
    stage: AtomicI32,
    errno: AtomicI32,
    copies: AtomicBool,
}

impl Slot {
    /// Whether the child may hold copies of all descriptors of this process, and not only of its own: from before it
    /// is there until it has closed the others, or was given up. Only on Linux; `false` elsewhere.
    pub fn holds_copies(&self) -> bool {
        self.copies.load(Ordering::Acquire)
    }

    /// The child that is being started. It is known here before it has run at all. Only on Linux; `None` elsewhere.
    pub fn pid(&self) -> Option<Pid> {
        Pid::new(self.pid.load(Ordering::Acquire))
    }

    /// Why the child has given up, if it has.
    pub fn failure(&self) -> Option<Failure> {
        let stage = match self.stage.load(Ordering::Acquire) {
            0 => return None,
            1 => Stage::Fork,
            2 => Stage::Chdir,
            _ => Stage::Exec,
        };
        Some(Failure { stage, errno: self.errno.load(Ordering::Acquire) })
    }

    fn clear(&self) {
        self.pid.store(0, Ordering::Release);
        self.stage.store(0, Ordering::Release);
        self.errno.store(0, Ordering::Release);
    }

    /// Async-signal-safe.
    fn fail(&self, stage: Stage) {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        self.errno.store(errno, Ordering::Release);
        let stage = match stage {
            Stage::Fork => 1,
            Stage::Chdir => 2,
            Stage::Exec => 3,
        };
        self.stage.store(stage, Ordering::Release);
    }
}

/// Starts programs from one thread. When that thread ends, what it has started is killed.
pub struct Spawner {
    stack: start::Stack,
    parent: libc::pid_t,
    limit: Option<DescriptorLimit>,
}

impl Spawner {
    /// Whose programs may have as many descriptors as `limit` says, or as many as this process.
    pub fn new(limit: Option<DescriptorLimit>) -> Spawner {
        Spawner { stack: start::Stack::default(), parent: own_pid(), limit }
    }

    /// Starts `program` in a session of its own, with every signal at its default and none blocked.
    ///
    /// Returns when the program runs or could not be started. That takes as long as the file system needs for it; other
    /// threads go on. A child that gave up remains to be reaped if its slot has its number. All signals must be blocked in this thread, and none
    /// be ignored.
    pub fn spawn(&mut self, program: &Program, passed: &Passed<'_>, slot: &Slot) -> Result<Pid, Failure> {
        let mut kept: Vec<RawFd> = passed.fds.iter().map(|(_, number)| *number).collect();
        kept.sort_unstable();
        let mut needed: Vec<RawFd> = passed.fds.iter().map(|(fd, _)| fd.as_raw_fd()).collect();
        needed.push(passed.working_dir.as_raw_fd());
        needed.extend(passed.cgroup.map(|procs| procs.as_raw_fd()));
        needed.sort_unstable();
        needed.dedup();
        let numbers = passed.fds.iter().flat_map(|(fd, number)| [fd.as_raw_fd(), *number]);
        slot.clear();
        let mut plan = Plan {
            file: program.file.as_ptr(),
            args: program.args.iter().map(|arg| arg.as_ptr()).chain([ptr::null()]).collect(),
            env: program.env.pointers().chain([ptr::null()]).collect(),
            dir: program.dir.as_ref().map_or(ptr::null(), |dir| dir.as_ptr()),
            working_dir: passed.working_dir.as_raw_fd(),
            cgroup: passed.cgroup.map_or(-1, |procs| procs.as_raw_fd()),
            above: numbers.max().unwrap_or(0) + 1,
            moves: passed.fds.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)).collect(),
            needed,
            kept,
            parent: self.parent,
            limit: self.limit,
            slot,
        };
        let started = start::start(&mut plan, &mut self.stack);
        slot.copies.store(false, Ordering::Release);
        let pid = started.map_err(|error| Failure {
            stage: Stage::Fork,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })?;
        match slot.failure() {
            Some(failure) => Err(failure),
            None => Ok(pid),
        }
    }
}

/// All that the child touches.
struct Plan<'a> {
    file: *const c_char,
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    dir: *const c_char,
    working_dir: RawFd,
    cgroup: RawFd,
    /// A number above all that appear in `moves`.
    above: RawFd,
    /// From, to.
    moves: Vec<(RawFd, RawFd)>,
    /// The numbers that are needed on the way there, sorted.
    needed: Vec<RawFd>,
    /// The numbers that stay open, sorted.
    kept: Vec<RawFd>,
    parent: libc::pid_t,
    limit: Option<DescriptorLimit>,
    slot: &'a Slot,
}

impl Plan<'_> {
    /// The child: returns only if it has to give up, and has said why in its slot.
    fn run(&mut self) {
        let failed = match self.prepare() {
            // SAFETY: file, arguments and environment are C strings, the arrays end with null pointers, and all of it
            // outlives the call.
            Ok(()) => unsafe {
                libc::execve(self.file, self.args.as_ptr(), self.env.as_ptr());
                Stage::Exec
            },
            Err(stage) => stage,
        };
        self.slot.fail(failed);
    }

    fn prepare(&mut self) -> Result<(), Stage> {
        // First of all: as long as this child holds the pipes of others, their ends look open.
        close_all_but(&self.needed);
        self.slot.copies.store(false, Ordering::Release);
        // SAFETY: calls that are safe between fork and exec, with integers or C strings that outlive them.
        unsafe {
            libc::setsid();
            #[cfg(target_os = "linux")]
            {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // A parent that died before that sends nothing any more.
                if libc::getppid() != self.parent {
                    libc::_exit(127);
                }
            }
            #[cfg(not(target_os = "linux"))]
            let _ = self.parent;
            if self.cgroup >= 0 && libc::write(self.cgroup, c"0".as_ptr().cast(), 1) == -1 {
                return Err(Stage::Fork);
            }
            libc::fchdir(self.working_dir);
            if !self.dir.is_null() && libc::chdir(self.dir) == -1 {
                return Err(Stage::Chdir);
            }
        }
        self.place()?;
        close_all_but(&self.kept);
        if let Some(limit) = self.limit {
            limit.restore();
        }
        signal::unblock_all();
        Ok(())
    }

    /// Gives every passed descriptor its number.
    fn place(&mut self) -> Result<(), Stage> {
        for index in 0..self.moves.len() {
            let (from, to) = self.moves[index];
            if from != to && self.moves.iter().any(|(_, taken)| *taken == from) {
                // Its number is wanted for another one: out of the way first.
                // SAFETY: takes integers only.
                let copy = unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, self.above) };
                if copy == -1 {
                    return Err(Stage::Fork);
                }
                self.moves[index].0 = copy;
            }
        }
        for (from, to) in &self.moves {
            // SAFETY: takes integers only. `dup2` of a number to itself would leave it to be closed by `exec`.
            let result = unsafe {
                if from == to {
                    libc::fcntl(*from, libc::F_SETFD, 0)
                } else {
                    libc::dup2(*from, *to)
                }
            };
            if result == -1 {
                return Err(Stage::Fork);
            }
        }
        Ok(())
    }
}
