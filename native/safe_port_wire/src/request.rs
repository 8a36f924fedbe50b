//! What the NIF asks of the guardian.

use crate::codec::{frame, put_bytes, put_list, put_option, put_u32, put_u64, DecodeError, Fields};
use crate::PortId;

/// A message to the guardian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start a program. [`Event::Spawned`](crate::Event::Spawned) or [`Event::Refused`](crate::Event::Refused) answers.
    Spawn(Box<Spawn>),
    /// The VM has let go of the port, standard input is closed: its ending begins. Unknown ports are ignored.
    Close {
        /// Which port.
        id: PortId,
    },
    /// Send a signal. [`Event::Signalled`](crate::Event::Signalled) answers.
    Signal {
        /// To the program of which port.
        id: PortId,
        /// Returned in the answer.
        ticket: u64,
        /// The signal's number; 0 only asks whether there is someone to receive it.
        signal: i32,
        /// Whom to.
        target: Target,
    },
}

/// Who receives a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The program itself.
    Leader,
    /// The process group the program was started in.
    Group,
    /// Every process of the tree, whatever its group and session.
    Tree,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The port it belongs to.
    pub id: PortId,
    /// Path of the executable. Not searched for.
    pub file: Vec<u8>,
    /// Its arguments, the name it is called by (`argv[0]`) included.
    pub args: Vec<Vec<u8>>,
    /// Its environment as one block: each `NAME=value` followed by a NUL. The guardian adds the cookie.
    pub env: Vec<u8>,
    /// Where to go before it is started, from the working directory that was passed.
    pub dir: Option<Vec<u8>>,
    /// What number each of the passed descriptors gets in the program, the working directory not counted.
    pub fds: Vec<i32>,
    /// How its tree ends.
    pub ending: Ending,
    /// Path of a cgroup (version 2) below which the tree gets its own.
    pub cgroup: Option<Vec<u8>>,
}

/// How a tree ends, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// From the close to SIGTERM; `None`: no signal is ever sent for a close.
    pub eof_timeout_ms: Option<u32>,
    /// From SIGTERM to SIGKILL.
    pub kill_timeout_ms: u32,
    /// What becomes of the descendants of a program that ended by itself.
    pub orphans: Orphans,
}

/// What becomes of the descendants of a program that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphans {
    /// They are ended like the rest of the tree.
    Kill,
    /// They run on and are nobody's business any more.
    Leave,
}

const SPAWN: u8 = 1;
const CLOSE: u8 = 2;
const SIGNAL: u8 = 3;

impl Request {
    /// Appends the request to `out`, as a whole frame.
    ///
    /// A [`Spawn`] of more than [`MAX_FRAME_BYTES`](crate::MAX_FRAME_BYTES) must not be sent: it is `E2BIG`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |out| match self {
            Request::Spawn(spawn) => {
                out.push(SPAWN);
                spawn.put(out);
            }
            Request::Close { id } => {
                out.push(CLOSE);
                put_u64(out, id.0);
            }
            Request::Signal { id, ticket, signal, target } => {
                out.push(SIGNAL);
                put_u64(out, id.0);
                put_u64(out, *ticket);
                put_u32(out, *signal as u32);
                out.push(match target {
                    Target::Leader => 0,
                    Target::Group => 1,
                    Target::Tree => 2,
                });
            }
        });
    }

    /// The request in `frame`, which is without its length.
    pub fn decode(frame: &[u8]) -> Result<Request, DecodeError> {
        let mut fields = Fields(frame);
        let request = match fields.u8()? {
            SPAWN => Request::Spawn(Box::new(Spawn::take(&mut fields)?)),
            CLOSE => Request::Close { id: PortId(fields.u64()?) },
            SIGNAL => Request::Signal {
                id: PortId(fields.u64()?),
                ticket: fields.u64()?,
                signal: fields.i32()?,
                target: match fields.u8()? {
                    0 => Target::Leader,
                    1 => Target::Group,
                    2 => Target::Tree,
                    value => return Err(DecodeError::Unknown { what: "target", value }),
                },
            },
            value => return Err(DecodeError::Unknown { what: "request", value }),
        };
        fields.end()?;
        Ok(request)
    }
}

impl Spawn {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.id.0);
        put_bytes(out, &self.file);
        put_list(out, &self.args, |out, item| put_bytes(out, item));
        put_bytes(out, &self.env);
        put_option(out, self.dir.as_ref(), |out, dir| put_bytes(out, dir));
        put_list(out, &self.fds, |out, number| put_u32(out, *number as u32));
        put_option(out, self.ending.eof_timeout_ms.as_ref(), |out, ms| put_u32(out, *ms));
        put_u32(out, self.ending.kill_timeout_ms);
        out.push(match self.ending.orphans {
            Orphans::Kill => 0,
            Orphans::Leave => 1,
        });
        put_option(out, self.cgroup.as_ref(), |out, path| put_bytes(out, path));
    }

    fn take(fields: &mut Fields<'_>) -> Result<Spawn, DecodeError> {
        Ok(Spawn {
            id: PortId(fields.u64()?),
            file: fields.bytes()?,
            args: fields.list(Fields::bytes)?,
            env: fields.bytes()?,
            dir: fields.option(Fields::bytes)?,
            fds: fields.list(Fields::i32)?,
            ending: Ending {
                eof_timeout_ms: fields.option(Fields::u32)?,
                kill_timeout_ms: fields.u32()?,
                orphans: match fields.u8()? {
                    0 => Orphans::Kill,
                    1 => Orphans::Leave,
                    value => return Err(DecodeError::Unknown { what: "fate of orphans", value }),
                },
            },
            cgroup: fields.option(Fields::bytes)?,
        })
    }
}
