//! Directories and the file that swallows everything.

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::{check, retry};

/// `open(2)` of `.`: the working directory, as it is now, whatever becomes of its name.
///
/// With `O_PATH` where there is it: no permission to read the directory is needed.
pub fn current() -> io::Result<OwnedFd> {
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    let kind = libc::O_PATH;
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let kind = libc::O_RDONLY;
    open(c".", kind | libc::O_DIRECTORY)
}

/// `open(2)` of `/dev/null`, to read and to write.
pub fn null() -> io::Result<OwnedFd> {
    open(c"/dev/null", libc::O_RDWR)
}

/// `open(2)` of an existing file, closed on `exec`, never a controlling terminal.
pub(crate) fn open(path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    retry(|| {
        // SAFETY: the path is a C string that outlives the call.
        let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NOCTTY) })?;
        // SAFETY: the call has just made this descriptor, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    })
}

/// `access(2)` with `X_OK`: whether the file may be executed, as the built-in checks it at open (contract O11).
pub fn executable(path: &CStr) -> io::Result<()> {
    // SAFETY: the path is a C string that outlives the call.
    check(unsafe { libc::access(path.as_ptr(), libc::X_OK) }).map(drop)
}
