//! The guardian of SafePort: starts the programs of one VM, watches them, reaps them, and ends them with all their
//! descendants when their port is closed or the VM is gone.
//!
//! It is two processes. The one that the VM starts makes the other and becomes its [sentinel]: it does nothing but wait
//! for the end of the guardian, and should that come before its work is done, ends what is left. The other is the
//! guardian: one loop that watches and ends, and a few threads that start programs.
//!
//! What is decided is decided in values: [`life`] says when a tree gets which signal, [`tree`] which process belongs to
//! which tree. `guardian` does what they say.
#![forbid(unsafe_code)]

pub mod cookie;
mod guardian;
mod inbox;
pub mod life;
mod lull;
mod outbox;
#[cfg(target_os = "linux")]
pub mod proc;
#[cfg(all(target_os = "linux", not(feature = "posix")))]
pub mod sentinel;
mod spawners;
#[cfg(all(target_os = "linux", not(feature = "posix")))]
mod sweep;
pub mod tree;

pub use guardian::{Guardian, Outcome};
#[cfg(all(target_os = "linux", not(feature = "posix")))]
pub use sweep::start as sweep;
