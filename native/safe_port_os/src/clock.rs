//! The clock by which the system says when a process was started.

use std::io;
use std::mem;

use crate::check;

/// `clock_gettime(2)` with `CLOCK_BOOTTIME`: how many clock ticks the machine has been up, as `/proc/<pid>/stat` counts.
pub fn boot_ticks() -> io::Result<u64> {
    // SAFETY: plain data for which all zeros are valid.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: the call writes one timespec.
    check(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) })?;
    // SAFETY: takes an integer and touches no memory of ours.
    let per_second = check(unsafe { libc::sysconf(libc::_SC_CLK_TCK) })? as u64;
    let (seconds, nanos) = (time.tv_sec as u64, time.tv_nsec as u64);
    Ok(seconds * per_second + nanos * per_second / 1_000_000_000)
}
