//! Descriptors that a port waits for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

/// What to wait for, as the modes of `driver_select`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready(pub(crate) u32);

impl Ready {
    /// Something can be read, or the other end is gone: [`Driver::ready_input`](crate::Driver::ready_input).
    pub const READ: Ready = Ready(1);
    /// Something can be written: [`Driver::ready_output`](crate::Driver::ready_output).
    pub const WRITE: Ready = Ready(2);
    /// Both.
    pub const BOTH: Ready = Ready(3);
}

/// Anything that owns a descriptor: a `File`, a socket, a pipe end, an `OwnedFd`.
pub trait Source: AsFd + Send + Sync + 'static {}

impl<S: AsFd + Send + Sync + 'static> Source for S {}

/// A descriptor that is no longer watched; dropping it closes it, unless the driver holds its `Arc` still.
pub struct Descriptor(pub(crate) Arc<dyn Source>);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
