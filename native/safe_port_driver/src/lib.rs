#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod abi;
mod bytes;
mod driver;
mod port;
mod queue;
mod select;
mod term;

pub use crate::bytes::Bytes;
pub use crate::driver::{BadArg, Driver, JobResult, Locking, Monitor, StartError};
pub use crate::port::{Key, Pid, PortHandle};
pub use crate::select::{Descriptor, Ready, Source};
pub use crate::term::{Opaque, Term, TermError, MAX_DEPTH};

/// Makes a crate of type `cdylib` a driver's library: exports the entry of a type that implements [`Driver`].
///
/// Use it once in a crate. A crate that is built to abort on a panic does not compile with it.
#[macro_export]
macro_rules! export {
    ($driver:ty) => {
        #[cfg(panic = "abort")]
        compile_error!("a driver must unwind on a panic: remove `panic = \"abort\"` from its profile");

        const _: () = {
            #[unsafe(export_name = concat!("safe_port_driver_entry_", env!("CARGO_CRATE_NAME")))]
            static ENTRY: $crate::abi::Entry = $crate::abi::guest::entry::<$driver>();
        };
    };
}
