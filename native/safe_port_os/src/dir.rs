//! Files and folders that are passed to a child.

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::check::{check, retry};

#[cfg(any(target_os = "linux", target_os = "android"))]
const FOLDER: libc::c_int = libc::O_PATH | libc::O_DIRECTORY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const FOLDER: libc::c_int = libc::O_RDONLY | libc::O_DIRECTORY;

fn open(path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string that outlives the call.
    let fd = retry(|| check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))?;
    // SAFETY: the descriptor is new and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `open(2)` of the current working directory, also if it has been removed.
pub fn current() -> io::Result<OwnedFd> {
    open(c".", FOLDER)
}

/// `open(2)` of `/dev/null`, for reading and writing.
pub fn null() -> io::Result<OwnedFd> {
    open(c"/dev/null", libc::O_RDWR)
}

/// `access(2)` with `X_OK`: whether the file may be executed, as a port's open checks it (contract O11).
pub fn executable(path: &CStr) -> io::Result<()> {
    // SAFETY: the path is a C string that outlives the call.
    check(unsafe { libc::access(path.as_ptr(), libc::X_OK) }).map(drop)
}
