//! The system calls of SafePort, one safe function each.
//!
//! Every function here is one call, or one call and what is needed to make it safe; its documentation opens with the
//! name of the call. What does not exist on every system is in a module that is only there where it does, or has a
//! fallback that says what it costs.
//!
//! What this crate does *not* do: decide anything.

#[cfg(target_os = "linux")]
pub mod clock;
pub mod dir;
pub mod epoll;
pub mod errno;
#[cfg(target_os = "linux")]
pub mod pidfd;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tally;
pub mod wait;

use std::io;

/// The error of a call that returned -1.
fn check<T: Copy + PartialEq + From<i8>>(result: T) -> io::Result<T> {
    if result == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Repeats a call as long as signals interrupt it.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
