//! Starts a process from inside a program with many threads that knows nothing of it.

use std::ffi::{c_char, CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use super::close::close_all_but;
use crate::{check, dir, pipe};

/// Starts `program` with the arguments `argv`, the environment of this process and nothing open but `fds`, each under the
/// number beside it; standard descriptors that are not among them are `/dev/null`. Returns its os_pid.
///
/// Returns when `exec` has succeeded or failed; an error is that of the step that failed, and then there is no process.
/// One that was started is nobody's concern here: it is not waited for, which in a process that ignores SIGCHLD leaves no
/// zombie. Its signal mask is empty; dispositions that this process ignores stay ignored, as for any `exec`.
pub fn daemon(program: &CStr, argv: &[CString], fds: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<u32> {
    let null = dir::null()?;
    let numbers: Vec<RawFd> =
        [0, 1, 2].into_iter().filter(|number| fds.iter().all(|(_, taken)| taken != number)).collect();
    let sources = fds.iter().map(|(fd, number)| (fd.as_raw_fd(), *number));
    let sources: Vec<_> = sources.chain(numbers.into_iter().map(|n| (null.as_raw_fd(), n))).collect();
    // Copies above all numbers wanted, so that putting one in its place never overwrites another.
    let least = sources.iter().map(|(_, number)| *number).max().unwrap_or(2) + 1;
    let copies = sources
        .iter()
        .map(|(source, number)| Ok((copy(*source, least)?, *number)))
        .collect::<io::Result<Vec<_>>>()?;
    let mut pointers: Vec<*const c_char> = argv.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let (answer, reply) = pipe::pipe()?;
    // Above the numbers wanted too, or one of them would replace it.
    let low = reply;
    let reply = pipe::duplicate(low.as_fd(), least)?;
    drop(low);
    let moves: Vec<_> = copies.iter().map(|(copy, number)| (copy.as_raw_fd(), *number)).collect();
    let mut kept: Vec<_> = moves.iter().map(|(_, number)| *number).chain([reply.as_raw_fd()]).collect();
    kept.sort_unstable();
    let plan = Plan { program, argv: pointers, moves, kept, reply };
    let os_pid = plan.start()?;
    drop(plan);
    let mut errno = [0; 4];
    match pipe::read(answer.as_fd(), &mut errno)? {
        4 => {
            // SAFETY: takes integers and a null pointer. The child has nothing left to do but to end.
            unsafe { libc::waitpid(os_pid, ptr::null_mut(), 0) };
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
        _ => Ok(os_pid as u32),
    }
}

fn copy(source: RawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller's `BorrowedFd`, or our `/dev/null`, is open while this runs.
    pipe::duplicate(unsafe { BorrowedFd::borrow_raw(source) }, least)
}

/// Everything the child needs, made before it exists: it must not allocate.
struct Plan<'a> {
    program: &'a CStr,
    argv: Vec<*const c_char>,
    moves: Vec<(RawFd, RawFd)>,
    /// Sorted.
    kept: Vec<RawFd>,
    reply: OwnedFd,
}

impl Plan<'_> {
    /// Makes the child with every signal blocked, so that no handler of this process runs in it.
    fn start(&self) -> io::Result<libc::pid_t> {
        // SAFETY: sigset_t is plain data, all zeros are valid, and the calls only write the sets given to them.
        let (mut all, mut before) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: as above; `pthread_sigmask` changes the mask of this thread only, and it is restored below.
        unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        }
        let result = self.clone();
        // SAFETY: `before` is what the call above stored.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
        result
    }

    /// `clone(2)` with `CLONE_VM` and `CLONE_VFORK`: no page table is copied, however large this process is.
    #[cfg(target_os = "linux")]
    fn clone(&self) -> io::Result<libc::pid_t> {
        extern "C" fn run(plan: *mut libc::c_void) -> libc::c_int {
            // SAFETY: `clone` below passes a plan that lives until the child is gone or has another program.
            unsafe { (*plan.cast::<Plan<'_>>()).exec() }
        }
        const STACK_BYTES: usize = 64 * 1024;
        let mut stack = vec![0_u128; STACK_BYTES / 16];
        let plan = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the child runs on the upper end of a stack of its own, which is aligned as every architecture wants
        // it. It shares this memory, but this thread stands still until the child has called `exec` or `_exit`, so
        // stack and plan outlive its use of them, and it changes nothing of ours: no allocation, no lock, no panic.
        check(unsafe {
            let top = stack.as_mut_ptr().add(stack.len()).cast();
            libc::clone(run, top, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, plan)
        })
    }

    /// `fork(2)`, where there is nothing cheaper that is as safe.
    #[cfg(not(target_os = "linux"))]
    fn clone(&self) -> io::Result<libc::pid_t> {
        // SAFETY: the child calls only what is safe between fork and exec, and ends.
        match check(unsafe { libc::fork() })? {
            // SAFETY: as above.
            0 => unsafe { libc::_exit(self.exec()) },
            child => Ok(child),
        }
    }

    /// The child: puts the descriptors in their places and starts the program. Returns only if that fails.
    fn exec(&self) -> libc::c_int {
        extern "C" {
            static environ: *const *const c_char;
        }
        // SAFETY: only calls that are safe between fork and exec, with integers, or with pointers to what the plan
        // holds. `environ` is read as the C library itself reads it in `execv`.
        unsafe {
            for (from, to) in &self.moves {
                if libc::dup2(*from, *to) == -1 {
                    return self.fail();
                }
            }
            close_all_but(&self.kept);
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), environ);
        }
        self.fail()
    }

    fn fail(&self) -> libc::c_int {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
        // SAFETY: pointer and length are those of an array on this stack.
        unsafe { libc::write(self.reply.as_raw_fd(), errno.as_ptr().cast(), errno.len()) };
        127
    }
}
