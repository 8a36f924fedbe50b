//! What a process may be and do about itself, and its number as a type.

use std::ffi::{c_char, CStr, CString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check;
use crate::spawn::close_all_but;

/// The number of another process: greater than 1, so that a signal to it can mean neither a group nor every process.
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

/// `getpid(2)`: the number of this process.
pub fn own_pid() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// `setsid(2)`: a session of its own, away from the terminal and the group of the parent.
pub fn new_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// `prctl(2)` with `PR_SET_CHILD_SUBREAPER`: orphans below this process become its children. `ENOSYS` outside Linux.
pub fn become_subreaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: takes integers only.
        check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
}

/// `prctl(2)` with `PR_SET_NAME`: the name that process listings show, cut to 15 bytes. Nothing outside Linux.
pub fn set_name(name: &CStr) {
    #[cfg(target_os = "linux")]
    // SAFETY: the name is a C string that outlives the call, which copies it and cannot fail.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr())
    };
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// `close_range(2)`: closes every descriptor but the standard ones and `numbers`, which are returned, closed on `exec`.
///
/// The numbers are in ascending order, and greater than 2. For the beginning of a program, before it has opened anything;
/// a second call is refused with `EBUSY`.
pub fn take_inherited<const N: usize>(numbers: [RawFd; N]) -> io::Result<[OwnedFd; N]> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    if numbers.first().is_some_and(|first| *first <= 2) || !numbers.is_sorted_by(|one, next| one < next) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for number in numbers {
        // SAFETY: takes integers only; fails if the number is not open.
        check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    close_all_but(&[&[0, 1, 2], &numbers[..]].concat());
    // SAFETY: they are open, differ, and are inherited: nothing in this process owns them, and no other call of this has
    // taken them.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// How many descriptors a process may have, as it was before [`raise_descriptors`].
#[derive(Clone, Copy, Debug)]
pub struct DescriptorLimit(libc::rlimit);

/// `setrlimit(2)`: allows this process as many descriptors as it may allow itself. Returns what was allowed before, for
/// the programs it starts; `None` if nothing has changed.
pub fn raise_descriptors() -> Option<DescriptorLimit> {
    // SAFETY: plain data for which all zeros are valid.
    let mut before: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) }).ok()?;
    let raised = libc::rlimit { rlim_cur: before.rlim_max, ..before };
    // SAFETY: the call reads one rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) }).ok()?;
    (before.rlim_cur != before.rlim_max).then_some(DescriptorLimit(before))
}

impl DescriptorLimit {
    /// `setrlimit(2)`: back to what it was. Safe between fork and exec.
    pub(crate) fn restore(self) {
        // SAFETY: the call reads one rlimit; lowering the soft limit closes nothing.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
    }
}

/// `fork(2)`, for a process that has no other thread: `None` in the child.
///
/// `EBUSY` if there are other threads: their locks would stay locked in the child.
pub fn fork() -> io::Result<Option<Pid>> {
    #[cfg(target_os = "linux")]
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() != 1) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: this thread is the only one, so the child finds every lock and the allocator as they are.
    check(unsafe { libc::fork() }).map(Pid::new)
}

/// `execv(3)`: replaces the program of this process; signal mask and children stay. Returns only if that fails.
pub fn exec(program: &CStr, argv: &[CString]) -> io::Error {
    let mut pointers: Vec<*const c_char> = argv.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: program and arguments are C strings that outlive the call; the array ends with a null pointer.
    unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
}
