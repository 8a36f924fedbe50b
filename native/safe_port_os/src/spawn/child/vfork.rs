//! `clone(2)` with `CLONE_VM` and `CLONE_VFORK`.

use std::io;
use std::sync::atomic::Ordering;

use super::Plan;
use crate::check;
use crate::process::Pid;

const STACK_BYTES: usize = 64 * 1024;

/// What children run on until they call `exec`.
pub(super) struct Stack(Vec<u128>);

impl Default for Stack {
    fn default() -> Self {
        Stack(vec![0; STACK_BYTES / 16])
    }
}

pub(super) fn start(plan: &mut Plan<'_>, stack: &mut Stack) -> io::Result<Pid> {
    extern "C" fn run(plan: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `clone` below passes a plan that is borrowed for it alone and outlives the child's use of it.
        unsafe { (*plan.cast::<Plan<'_>>()).run() };
        127
    }
    plan.slot.copies.store(true, Ordering::Release);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
    let slot = plan.slot.pid.as_ptr();
    let plan = std::ptr::from_mut(plan).cast();
    // SAFETY: this thread stands still until the child has called `exec` or ended, so plan, slot and stack outlive its
    // use of them. The child runs on the upper end of a stack of its own, aligned as every architecture wants it, with
    // all signals blocked; it allocates nothing, takes no lock and does not panic. Before it runs, the kernel writes
    // its number to the slot, which is an atomic integer.
    let pid = check(unsafe {
        let top = stack.0.as_mut_ptr().add(stack.0.len()).cast();
        libc::clone(run, top, flags, plan, slot)
    })?;
    Pid::new(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))
}
