//! The processes below the guardian, and to which port each belongs.
//!
//! There are two of them. On Linux a tree is everything that descends from a program, whatever its session, group and
//! parent. On other systems it is the process group of the program.

use safe_port_wire::PortId;

#[cfg_attr(all(target_os = "linux", not(feature = "posix")), path = "tree/kin.rs")]
#[cfg_attr(not(all(target_os = "linux", not(feature = "posix"))), path = "tree/group.rs")]
mod sys;

#[cfg(all(target_os = "linux", not(feature = "posix")))]
pub use sys::{below, strike};
pub use sys::{Cgroup, Tree};

/// The port that processes below the guardian belong to when it is not known to which; they end with the VM.
pub const STRAYS: PortId = PortId(u64::MAX);

/// Which processes of a port a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Tree,
    /// Those in the process group the program was started in.
    Group,
}

/// Signals to send.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// To processes of this port.
    pub id: PortId,
    /// Which of them.
    pub scope: Scope,
    /// Each gets all of these, in order.
    pub signals: &'static [i32],
}
