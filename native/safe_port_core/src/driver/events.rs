//! What the runner tells the VM's side about a port, and what it asks it.

use std::sync::Arc;

use super::port::Port;
use crate::codec::Kind;

pub use safe_port_driver::abi::host::{Failure, StartRefusal};

/// Something that the port's owner, or whoever acts for it, must learn.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Output (D1): `{port, {:data, data}}`, with the bytes of `header` in front as list items.
    Data {
        /// Whole unless the port is in line mode.
        kind: Kind,
        /// Usually empty.
        header: &'a [u8],
        /// The bytes.
        data: &'a [u8],
    },
    /// A term for the owner (D10), in external term format, to be sent as it is.
    Term(&'a [u8]),
    /// `{port, :eof}`; the port stays open (D2, only with [`Options::eof`](super::Options::eof)).
    Eof,
    /// The port ends for this reason (D2, D3). [`Event::Closed`] follows when the driver has stopped.
    Failed(&'a Reason),
    /// Commands have to wait from now on, or no longer (D9).
    Busy(bool),
    /// The driver has stopped, or was given up: nothing comes any more. Once for each port that started.
    Closed,
}

/// Why a port ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The driver ended it, or panicked.
    Driver(Failure),
    /// Its driver was unloaded.
    Unloaded,
}

/// The VM's side of a port.
///
/// All methods are called from threads of the runner, some with locks of the port held: they must return soon and must
/// not call the port. Processes are numbers of the implementation's choice, never 0.
pub trait Events: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: Event<'_>);

    /// Sends a term in external term format to a process; whether it is alive (D10).
    fn send_term(&self, to: u64, term: &[u8]) -> bool;

    /// The owner (D11).
    fn connected(&self) -> Option<u64>;

    /// Watches a process: [`Port::process_exited`] is to be called, once, with the number this returns, which is not 0
    /// and not used again. `None` if the process is dead (D7).
    fn monitor(&self, pid: u64) -> Option<u64>;

    /// Watches no longer. Whether it did until now.
    fn demonitor(&self, monitor: u64) -> bool;

    /// Makes a port process, linked to `owner`, for `port`, which its driver makes (D11); `None` if `owner` is dead.
    fn create_port(&self, owner: u64, name: &[u8], port: &Arc<Port>) -> Option<Arc<dyn Events>>;

    /// The pid of a process in external term format.
    fn pid_to_term(&self, pid: u64) -> Option<Vec<u8>>;

    /// The process a pid in external term format is of; `None` if it is of another node, or no pid.
    fn pid_from_term(&self, term: &[u8]) -> Option<u64>;

    /// A line for the log.
    fn log(&self, text: &str);
}
