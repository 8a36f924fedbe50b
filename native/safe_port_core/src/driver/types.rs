//! What goes in and out of a port: options, modes, errors and figures.

use std::time::Duration;

use safe_port_driver::Bytes;

/// How a port is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `:eof`: a port whose driver has come to its end stays open.
    pub eof: bool,
    /// `{:line, bytes}`: output comes in lines.
    pub line: Option<usize>,
    /// `:busy_limits_msgq`.
    pub busy_limits: BusyLimits,
}

/// When commands that wait for the driver make the port busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusyLimits {
    /// At 8192 bytes, until they are less than 4096.
    #[default]
    Default,
    /// Never.
    Disabled,
    /// At `high` bytes, until they are less than `low`.
    Bytes {
        /// Less than this: not busy.
        low: u64,
        /// This or more: busy.
        high: u64,
    },
}

/// Why a command is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The port is busy: wait for [`Event::Busy`]`(false)`.
    Busy,
    /// The port is closed, or about to be.
    Closed,
    /// It was forced, and the driver does not allow that: `:notsup`.
    NotSupported,
}

/// What to do with a command for a busy port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandMode {
    /// Refuse it: the sender waits and tries again.
    Refuse,
    /// Call the driver all the same, if it allows that.
    Force,
    /// Take it. It waits for the driver: the sender did not know that the port is busy.
    Queue,
}

/// How a port is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseMode {
    /// After the commands sent so far; the driver may empty its queue first.
    Flush,
    /// As soon as the present callback returns; the queue is thrown away.
    Kill,
    /// As `Kill`, also if the driver is emptying its queue: the VM halts, or the driver is unloaded.
    Force,
}

/// What `control` replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlReply {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether the caller gets a binary and not a list.
    pub binary: bool,
}

/// Figures of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The name of its driver.
    pub driver: &'static str,
    /// Whether all ports of the driver exclude each other.
    pub driver_locking: bool,
    /// Bytes that the driver has sent.
    pub input: u64,
    /// Bytes of the commands that were taken.
    pub output: u64,
    /// Bytes in the driver's queue.
    pub queue_size: u64,
    /// Whether commands have to wait.
    pub busy: bool,
    /// What the driver says its program's pid is.
    pub os_pid: Option<u32>,
    /// Processes that the driver monitors.
    pub monitors: Vec<u64>,
    /// How long the present callback has been running.
    pub callback: Option<Duration>,
    /// Whether the port was given up because a callback does not return.
    pub written_off: bool,
}
