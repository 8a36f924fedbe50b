//! Starting processes.

mod block;
mod child;
mod close;
mod daemon;

pub use block::Block;
pub use child::{Failure, Passed, Program, Slot, Spawner, Stage};
pub use daemon::daemon;

pub(crate) use close::close_all_but;
