//! `fork(2)`, and a pipe through which the child says why it has given up.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;

use super::Plan;
use crate::process::Pid;
use crate::{check, pipe};

/// The child has a copy of this thread's.
#[derive(Default)]
pub(super) struct Stack(());

pub(super) fn start(plan: &mut Plan<'_>, _stack: &mut Stack) -> io::Result<Pid> {
    let (answer, reply) = pipe::pipe()?;
    // Above the numbers that the program's descriptors will have.
    let reply = {
        let low = reply;
        pipe::duplicate(low.as_fd(), plan.above)?
    };
    plan.above = plan.above.max(reply.as_raw_fd() + 1);
    plan.kept.push(reply.as_raw_fd());
    plan.needed.push(reply.as_raw_fd());
    // SAFETY: the child makes only calls that are safe between fork and exec, and ends.
    let pid = check(unsafe { libc::fork() })?;
    let Some(pid) = Pid::new(pid) else {
        plan.run();
        let stage = plan.slot.stage.load(Ordering::Relaxed);
        let news = [plan.slot.errno.load(Ordering::Relaxed), stage];
        // SAFETY: pointer and length are those of an array on this stack; the rest of the child is never run.
        unsafe {
            libc::write(reply.as_raw_fd(), news.as_ptr().cast(), 8);
            libc::_exit(127)
        }
    };
    drop(reply);
    let mut errno = [0; 4];
    let mut stage = [0; 4];
    if let (Ok(4), Ok(4)) = (pipe::read(answer.as_fd(), &mut errno), pipe::read(answer.as_fd(), &mut stage)) {
        plan.slot.errno.store(i32::from_ne_bytes(errno), Ordering::Relaxed);
        plan.slot.stage.store(i32::from_ne_bytes(stage), Ordering::Release);
        // Nobody else knows of it. SAFETY: takes integers and a null pointer; the child has nothing left but to end.
        unsafe { libc::waitpid(pid.get(), std::ptr::null_mut(), 0) };
    }
    Ok(pid)
}
