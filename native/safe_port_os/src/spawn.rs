//! Starts a program in a child that shares our memory until it executes: `clone(2)` with `CLONE_VM` and `CLONE_VFORK`.
//!
//! Between clone and exec the child makes only async-signal-safe calls and allocates nothing: all it needs is prepared
//! before.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicI32;

use crate::check::check;
use crate::process::Pid;
use crate::{pipe, signal};

/// What a child executes.
pub struct Image {
    /// The path of the file.
    pub file: CString,
    /// All arguments, the zeroth included.
    pub args: Vec<CString>,
    /// The environment, `NAME=value`.
    pub env: Vec<CString>,
}

/// What a child is given and how it lives.
#[derive(Default)]
pub struct Setup<'fd> {
    /// Descriptors and the numbers they have in the child. It has no others.
    pub fds: Vec<(BorrowedFd<'fd>, RawFd)>,
    /// The folder it starts in, unless that cannot be entered.
    pub working_dir: Option<BorrowedFd<'fd>>,
    /// The folder it changes to from there.
    pub dir: Option<CString>,
    /// Whether it gets SIGKILL when the thread that starts it ends.
    pub dies_with_parent: bool,
    /// Set to the child's process id before the child runs.
    pub pid: Option<&'fd AtomicI32>,
}

/// What a child failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It could not be made.
    Clone,
    /// It could not change to its folder.
    Chdir,
    /// It could not execute its file.
    Exec,
}

/// Why there is no child.
#[derive(Debug)]
pub struct SpawnError {
    /// What failed.
    pub stage: Stage,
    /// With which error.
    pub error: io::Error,
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> Self {
        SpawnError { stage: Stage::Clone, error }
    }
}

/// Bytes of the stack on which the child runs until it executes.
const STACK_BYTES: usize = 64 * 1024;

/// All that the child touches, by address.
struct Plan {
    file: *const libc::c_char,
    args: *const *const libc::c_char,
    env: *const *const libc::c_char,
    working_dir: RawFd,
    dir: *const libc::c_char,
    fds: *const (RawFd, RawFd),
    fd_count: usize,
    report: RawFd,
    parent: libc::pid_t,
    dies_with_parent: bool,
}

/// Starts `image` in a session of its own, with default signal dispositions and an empty mask.
///
/// Returns when the child has executed its file. That may take as long as the file system wants; the calling thread
/// waits, the others go on.
pub fn spawn(image: &Image, setup: &Setup<'_>) -> Result<Pid, SpawnError> {
    let args = pointers(&image.args);
    let env = pointers(&image.env);
    let (news, report) = pipe::pipe()?;
    let highest = setup.fds.iter().map(|(_, number)| *number).max().unwrap_or(2).max(2);
    // Numbers that the child's own descriptors will take must not be those of descriptors still to be duplicated.
    let mut moved: Vec<OwnedFd> = Vec::new();
    let mut above = |fd: RawFd| -> io::Result<RawFd> {
        if fd > highest {
            return Ok(fd);
        }
        // SAFETY: takes integers only; the copy is new and nothing else owns it.
        let copy = unsafe {
            use std::os::fd::FromRawFd;
            OwnedFd::from_raw_fd(check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, highest + 1))?)
        };
        let number = copy.as_raw_fd();
        moved.push(copy);
        Ok(number)
    };
    let mut fds = Vec::with_capacity(setup.fds.len());
    for (fd, number) in &setup.fds {
        fds.push((above(fd.as_raw_fd())?, *number));
    }
    let report_fd = above(report.as_raw_fd())?;
    let working_dir = setup.working_dir.map_or(Ok(-1), |fd| above(fd.as_raw_fd()))?;
    let plan = Plan {
        file: image.file.as_ptr(),
        args: args.as_ptr(),
        env: env.as_ptr(),
        working_dir,
        dir: setup.dir.as_ref().map_or(std::ptr::null(), |dir| dir.as_ptr()),
        fds: fds.as_ptr(),
        fd_count: fds.len(),
        report: report_fd,
        parent: crate::process::own_pid(),
        dies_with_parent: setup.dies_with_parent,
    };
    let pid = clone(&plan, setup.pid)?;
    drop(moved);
    drop(report);
    read_report(news.as_fd()).map_or(Ok(pid), Err)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What the child wrote before it gave up; nothing if it executed its file, which closed the pipe.
fn read_report(news: BorrowedFd<'_>) -> Option<SpawnError> {
    let mut report = [0; 8];
    match pipe::read(news, &mut report) {
        Ok(8) => {
            let [a, b, c, d, stage, ..] = report;
            let stage = if stage == 1 { Stage::Chdir } else { Stage::Exec };
            Some(SpawnError { stage, error: io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d])) })
        }
        _ => None,
    }
}

fn clone(plan: &Plan, pid_slot: Option<&AtomicI32>) -> Result<Pid, SpawnError> {
    let plan: *const Plan = plan;
    // No handler of ours may run in the child, which shares our memory.
    let mask = signal::block_all();
    #[cfg(target_os = "linux")]
    let result = {
        let mut stack: Vec<u128> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
        let unused = AtomicI32::new(0);
        let slot = pid_slot.unwrap_or(&unused).as_ptr();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
        // SAFETY: with CLONE_VFORK this thread is suspended until the child has executed or ended, so the plan, the
        // stack and the slot outlive what the child does with them. The stack grows down from its aligned end, and the
        // child neither returns nor allocates.
        unsafe {
            let top = stack.as_mut_ptr().add(stack.capacity());
            check(libc::clone(child, top.cast(), flags, plan.cast_mut().cast(), slot))
        }
    };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: the child of fork(2) has memory of its own and makes only async-signal-safe calls.
    let result = unsafe {
        let _ = (STACK_BYTES, pid_slot);
        let pid = libc::fork();
        if pid == 0 {
            child(plan.cast_mut().cast());
        }
        check(pid)
    };
    signal::restore(&mask);
    let pid = result?;
    Pid::new(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL).into())
}

/// What the child does, in the order that matters.
extern "C" fn child(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `plan` is the one that `clone` was given, alive as explained there. All calls are async-signal-safe and
    // get pointers that `spawn` has prepared; `errno` is this thread's, whose other half is suspended.
    unsafe {
        let plan = &*plan.cast::<Plan>();
        libc::setsid();
        signal::reset_all();
        for index in 0..plan.fd_count {
            let (fd, number) = *plan.fds.add(index);
            libc::dup2(fd, number);
        }
        close_others(plan);
        #[cfg(target_os = "linux")]
        if plan.dies_with_parent {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // A parent that died before that sends nothing any more.
            if libc::getppid() != plan.parent {
                libc::_exit(127);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (plan.parent, plan.dies_with_parent);
        if plan.working_dir >= 0 {
            // As the built-in does: a folder that is gone is no reason not to start (contract S5).
            libc::fchdir(plan.working_dir);
        }
        if !plan.dir.is_null() && libc::chdir(plan.dir) == -1 {
            give_up(plan, 1);
        }
        signal::unblock_all();
        libc::execve(plan.file, plan.args, plan.env);
        give_up(plan, 2)
    }
}

/// Leaves the child with the descriptors it was given and the one it reports to, which exec closes.
unsafe fn close_others(plan: &Plan) {
    // SAFETY: called in the child, whose descriptor table is its own; closing what is not open does no harm.
    unsafe {
        for number in 0..=4 {
            let mut given = false;
            for index in 0..plan.fd_count {
                given |= (*plan.fds.add(index)).1 == number;
            }
            if !given && number != plan.report && number != plan.working_dir {
                libc::close(number);
            }
        }
        // Everything of ours is close-on-exec already; this is for what somebody else left open.
        #[cfg(target_os = "linux")]
        libc::syscall(libc::SYS_close_range, 5_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

unsafe fn give_up(plan: &Plan, stage: u8) -> ! {
    // SAFETY: `errno` is readable at any time; the report is a buffer of eight bytes.
    unsafe {
        let [a, b, c, d] = (*errno()).to_ne_bytes();
        let report = [a, b, c, d, stage, 0, 0, 0];
        libc::write(plan.report, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

#[cfg(target_os = "linux")]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: takes nothing.
    unsafe { libc::__errno_location() }
}

#[cfg(not(target_os = "linux"))]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: takes nothing.
    unsafe { libc::__error() }
}
