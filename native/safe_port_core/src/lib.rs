//! The core of SafePort, with no type of the BEAM in it: how bytes are cut and framed, how a port reads and writes, and
//! how it talks to the guardian.
#![forbid(unsafe_code)]

pub mod codec;
pub mod driver;
pub mod link;
pub mod patience;
pub mod reader;
pub mod turns;
pub mod volume;
pub mod writer;
