//! The system calls of SafePort, one safe function each.
//!
//! A function's doc opens with the call it makes. Descriptors come and go as `OwnedFd` and `BorrowedFd`, failures as
//! `io::Error` with the number that `errno(3)` lists. Calls that a signal interrupts are repeated.

mod check;

pub mod dir;
pub mod errno;
pub mod pidfd;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod spawn;
