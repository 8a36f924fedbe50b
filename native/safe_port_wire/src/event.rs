//! What the guardian tells the NIF.

use crate::codec::{frame, put_u32, put_u64, DecodeError, Fields};
use crate::PortId;

/// A message from the guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first event of all: the guardian is at work. It is not the process that was started, but a child of that
    /// one, which from now on is the guardian's sentinel.
    Ready {
        /// The guardian's own.
        os_pid: u32,
    },
    /// The program runs: `exec` has succeeded.
    Spawned {
        /// Of which port.
        id: PortId,
        /// The program's.
        os_pid: u32,
    },
    /// The program could not be started. The port's last event.
    Refused {
        /// Of which port.
        id: PortId,
        /// What failed.
        stage: Stage,
        /// How.
        errno: i32,
    },
    /// The program has ended; of its descendants nothing is said.
    Exited {
        /// Of which port.
        id: PortId,
        /// The raw wait status.
        status: i32,
        /// What it used, descendants it has waited for included.
        usage: Usage,
    },
    /// Nothing of the tree is left, or what is left was to be left. The port's last event.
    Ended {
        /// Of which port.
        id: PortId,
    },
    /// Answers [`Request::Signal`](crate::Request::Signal).
    Signalled {
        /// Of which port.
        id: PortId,
        /// That of the request.
        ticket: u64,
        /// 0 if the signal was sent; `ESRCH` if nobody was left to receive it.
        errno: i32,
    },
}

/// Where starting a program failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No process could be made, or it could not be given its descriptors or its cgroup.
    Fork,
    /// The directory could not be entered.
    Chdir,
    /// The file could not be executed.
    Exec,
}

/// What a program used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds of processor time in user mode.
    pub user_us: u64,
    /// Microseconds of processor time in the kernel.
    pub system_us: u64,
    /// Most memory resident at a time, in KiB.
    pub max_rss_kib: u64,
}

const READY: u8 = 1;
const SPAWNED: u8 = 2;
const REFUSED: u8 = 3;
const EXITED: u8 = 4;
const ENDED: u8 = 5;
const SIGNALLED: u8 = 6;

impl Event {
    /// Appends the event to `out`, as a whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |out| match *self {
            Event::Ready { os_pid } => {
                out.push(READY);
                put_u32(out, os_pid);
            }
            Event::Spawned { id, os_pid } => {
                out.push(SPAWNED);
                put_u64(out, id.0);
                put_u32(out, os_pid);
            }
            Event::Refused { id, stage, errno } => {
                out.push(REFUSED);
                put_u64(out, id.0);
                out.push(match stage {
                    Stage::Fork => 0,
                    Stage::Chdir => 1,
                    Stage::Exec => 2,
                });
                put_u32(out, errno as u32);
            }
            Event::Exited { id, status, usage } => {
                out.push(EXITED);
                put_u64(out, id.0);
                put_u32(out, status as u32);
                put_u64(out, usage.user_us);
                put_u64(out, usage.system_us);
                put_u64(out, usage.max_rss_kib);
            }
            Event::Ended { id } => {
                out.push(ENDED);
                put_u64(out, id.0);
            }
            Event::Signalled { id, ticket, errno } => {
                out.push(SIGNALLED);
                put_u64(out, id.0);
                put_u64(out, ticket);
                put_u32(out, errno as u32);
            }
        });
    }

    /// The event in `frame`, which is without its length.
    pub fn decode(frame: &[u8]) -> Result<Event, DecodeError> {
        let mut fields = Fields(frame);
        let event = match fields.u8()? {
            READY => Event::Ready { os_pid: fields.u32()? },
            SPAWNED => Event::Spawned { id: PortId(fields.u64()?), os_pid: fields.u32()? },
            REFUSED => Event::Refused {
                id: PortId(fields.u64()?),
                stage: match fields.u8()? {
                    0 => Stage::Fork,
                    1 => Stage::Chdir,
                    2 => Stage::Exec,
                    value => return Err(DecodeError::Unknown { what: "stage", value }),
                },
                errno: fields.i32()?,
            },
            EXITED => Event::Exited {
                id: PortId(fields.u64()?),
                status: fields.i32()?,
                usage: Usage { user_us: fields.u64()?, system_us: fields.u64()?, max_rss_kib: fields.u64()? },
            },
            ENDED => Event::Ended { id: PortId(fields.u64()?) },
            SIGNALLED => {
                Event::Signalled { id: PortId(fields.u64()?), ticket: fields.u64()?, errno: fields.i32()? }
            }
            value => return Err(DecodeError::Unknown { what: "event", value }),
        };
        fields.end()?;
        Ok(event)
    }
}
