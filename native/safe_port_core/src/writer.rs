//! Sends the data of commands to a program. What does not fit its pipe stays with the caller.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use safe_port_os::pipe;

use crate::patience::{Patience, AWAKE};

/// Slices one `writev(2)` takes at the most (`IOV_MAX` of Linux).
const SLICES_PER_WRITE: usize = 1024;
/// Bytes one call hands to the kernel at the most, however fast the program reads: about 100 us of copying.
const BYTES_PER_CALL: usize = 512 * 1024;

/// Writes `parts` one after the other until all is written, the pipe is full, or the budget of one call is used up.
///
/// Returns the number of bytes written, which may be 0. Never blocks if `fd` is non-blocking.
pub fn write_parts(fd: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<usize> {
    let mut written = 0;
    let mut rest = parts;
    while !rest.is_empty() && written < BYTES_PER_CALL {
        let mut budget = BYTES_PER_CALL - written;
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(rest.len().min(SLICES_PER_WRITE));
        for part in rest.iter().take(SLICES_PER_WRITE) {
            if budget == 0 {
                break;
            }
            let taken = part.len().min(budget);
            budget -= taken;
            slices.push(IoSlice::new(&part[..taken]));
        }
        let asked = BYTES_PER_CALL - written - budget;
        match pipe::writev(fd, &slices) {
            Ok(count) => {
                written += count;
                if count < asked {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // Reported when nothing was written; otherwise the next call meets the same error.
            Err(error) if written == 0 => return Err(error),
            Err(_) => break,
        }
        rest = &rest[slices.len()..];
    }
    Ok(written)
}

/// As [`write_parts`], to a program that takes bulk data: waits awake for room in its pipe, if `patience` says that this
/// pays.
///
/// A program that copies what it reads makes room sooner than a thread that sleeps is woken.
pub fn write_parts_awake(fd: BorrowedFd<'_>, parts: &[&[u8]], patience: &Patience) -> io::Result<usize> {
    let wanted = parts.iter().map(|part| part.len()).sum::<usize>().min(BYTES_PER_CALL);
    let mut written = write_parts(fd, parts)?;
    if written < wanted && patience.tries() {
        let mut rest = behind(parts, written);
        patience.wait(AWAKE, || match write_parts(fd, &rest) {
            Ok(0) => None,
            Ok(more) => {
                written += more;
                rest = behind(&rest, more);
                (written >= wanted).then_some(())
            }
            // The next call meets it again.
            Err(_) => Some(()),
        });
    }
    Ok(written)
}

/// `parts` without their first `skip` bytes.
fn behind<'a>(parts: &[&'a [u8]], mut skip: usize) -> Vec<&'a [u8]> {
    let mut rest = Vec::with_capacity(parts.len());
    for part in parts {
        let skipped = skip.min(part.len());
        skip -= skipped;
        if skipped < part.len() {
            rest.push(&part[skipped..]);
        }
    }
    rest
}
