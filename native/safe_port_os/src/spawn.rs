//! Starting processes.

mod close;
mod daemon;

pub use daemon::daemon;
