//! Closes what a new program must not inherit. Everything here is safe between fork and exec: no allocation, no lock.

use std::os::fd::RawFd;

/// `close_range(2)`: closes every descriptor whose number is not in `kept`, which must be sorted.
///
/// Where the call is missing (before Linux 5.9), by a walk over `/proc/self/fd`.
pub(crate) fn close_all_but(kept: &[RawFd]) {
    let mut first = 0;
    for number in kept {
        close_range(first, *number - 1, kept);
        first = number + 1;
    }
    close_range(first, RawFd::MAX, kept);
}

#[cfg(target_os = "linux")]
fn close_range(first: RawFd, last: RawFd, kept: &[RawFd]) {
    if first > last {
        return;
    }
    // SAFETY: the call takes integers and touches no memory of ours. Nothing that it closes is used any more: the caller
    // is about to become another program, and keeps what it still needs.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed == -1 {
        walk(kept);
    }
}

/// Lists `/proc/self/fd` with bare system calls, since `opendir(3)` allocates. Without `/proc` it closes nothing: what
/// SafePort itself opens is closed by `exec` in any case.
#[cfg(target_os = "linux")]
fn walk(kept: &[RawFd]) {
    #[repr(C, align(8))]
    struct Buffer([u8; 2048]);
    // SAFETY: the path is a C string; the call touches nothing else of ours.
    let dir = unsafe {
        libc::open(c"/proc/self/fd".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)
    };
    if dir == -1 {
        return;
    }
    let mut buffer = Buffer([0; 2048]);
    loop {
        // SAFETY: pointer and length are those of the buffer, which is ours alone.
        let bytes =
            unsafe { libc::syscall(libc::SYS_getdents64, dir, buffer.0.as_mut_ptr(), buffer.0.len()) };
        if bytes <= 0 {
            break;
        }
        let mut rest = &buffer.0[..bytes as usize];
        // A record: inode and offset (8 bytes each), its length (2), a type (1), the name up to a NUL.
        while let Some(length) = rest.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let (Some(name), Some(next)) = (rest.get(19..length), rest.get(length..)) else { break };
            if let Some(number) = number(name) {
                if number != dir && !kept.contains(&number) {
                    // SAFETY: as in `close_range`.
                    unsafe { libc::close(number) };
                }
            }
            rest = next;
        }
    }
    // SAFETY: opened above, and nobody else knows it.
    unsafe { libc::close(dir) };
}

/// The number that `name`, up to its NUL, spells in decimal digits.
#[cfg(target_os = "linux")]
fn number(name: &[u8]) -> Option<RawFd> {
    let digits = name.split(|byte| *byte == 0).next()?;
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |number: RawFd, digit| {
        number.checked_mul(10)?.checked_add(RawFd::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?))
    })
}

/// Closes the numbers one by one, up to the most that this process may have open.
#[cfg(not(target_os = "linux"))]
fn close_range(first: RawFd, last: RawFd, _kept: &[RawFd]) {
    // SAFETY: the call takes an integer and touches no memory of ours.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let most = RawFd::try_from(most).ok().filter(|most| *most > 0).unwrap_or(1024).min(65_536);
    for number in first..=last.min(most) {
        // SAFETY: as in the Linux variant: nothing that it closes is used any more.
        unsafe { libc::close(number) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::number;

    #[test]
    fn a_name_is_a_number_only_if_it_is_all_digits() {
        assert_eq!(number(b"17\0rest"), Some(17));
        assert_eq!(number(b"0\0"), Some(0));
        for name in [&b"..\0"[..], b".\0", b"\0", b"", b"1x\0", b"99999999999\0"] {
            assert_eq!(number(name), None, "{name:?}");
        }
    }
}
