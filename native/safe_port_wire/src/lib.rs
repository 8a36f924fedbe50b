//! The protocol between SafePort's NIF and its guardian: what each asks and tells the other, as bytes.
//!
//! Both sit at the ends of a stream socket. A message is a frame: its length as four bytes, then a tag, then its
//! fields, all little-endian. [`Request::encode`] and [`Event::encode`] append whole frames; [`Frames`] cuts a stream
//! back into them; [`Request::decode`] and [`Event::decode`] take one frame without its length.
//!
//! Descriptors ride beside a [`Spawn`]: they are attached to the first byte of its frame, and to nothing else, in one
//! piece: first the working directory, then one for each of [`Spawn::fds`].
#![forbid(unsafe_code)]

mod codec;
mod event;
mod frames;
mod request;

pub use codec::DecodeError;
pub use event::{Event, Stage, Usage};
pub use frames::{Frames, MAX_FRAME_BYTES};
pub use request::{Ending, Orphans, Request, Spawn, Target};

/// A port, by the number the NIF has given it. Never used twice in the life of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u64);

/// Name of the environment variable that every program of a port carries, and its descendants with it.
pub const COOKIE_NAME: &str = "SAFE_PORT_COOKIE";
