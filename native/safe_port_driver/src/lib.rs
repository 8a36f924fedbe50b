//! Write drivers for ports of [SafePort](https://hex.pm/packages/safe_port) in Rust: they are loaded into the VM, are
//! opened and talked to like any port, and do not take the VM down.
//!
//! ```
//! use safe_port_driver::{Driver, PortHandle, StartError};
//!
//! struct Upcase;
//!
//! impl Driver for Upcase {
//!     const NAME: &'static str = "upcase";
//!
//!     fn start(_port: &PortHandle, _command: &[u8]) -> Result<Self, StartError> {
//!         Ok(Upcase)
//!     }
//!
//!     fn output(&mut self, port: &PortHandle, data: &[u8]) {
//!         port.output(&data.to_ascii_uppercase());
//!     }
//! }
//!
//! safe_port_driver::export!(Upcase);
//! ```
//!
//! Built as a `cdylib`, that is all: `SafePort.Driver.load("libupcase.so")`, then
//! `SafePort.open({:spawn_driver, "upcase"}, [:binary])`.
//!
//! # What is guaranteed, and what is not
//!
//! A panic ends the port it happens in. A callback that takes long, or never returns, holds up its own port. Bytes that
//! are no term are an error. None of this needs care of the driver, and no driver needs `unsafe` code.
//!
//! The driver still shares the VM's process: undefined behaviour in `unsafe` code, `std::process::exit`, an endless
//! recursion or running out of memory end the VM. Open the port with `{:isolation, :process}` and they end the port.
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
