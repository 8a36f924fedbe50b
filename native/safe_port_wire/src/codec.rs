//! Requests and events as bytes.

use crate::{Ending, Event, Orphans, PortId, Request, Spawn, Stage, Target, Usage};

/// A body that is no request or event: cut short, too long, or with a tag nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError;

impl std::fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("malformed frame")
    }
}

impl std::error::Error for DecodeError {}

type Decoded<T> = Result<T, DecodeError>;

/// A frame that is being written: its length is filled in at the end.
struct Frame<'out> {
    out: &'out mut Vec<u8>,
    start: usize,
}

impl<'out> Frame<'out> {
    fn new(out: &'out mut Vec<u8>, tag: u8) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(tag);
        Frame { out, start }
    }

    fn byte(&mut self, value: u8) -> &mut Self {
        self.out.push(value);
        self
    }

    fn int(&mut self, value: i32) -> &mut Self {
        self.out.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn uint(&mut self, value: u32) -> &mut Self {
        self.out.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.out.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.uint(value.len() as u32);
        self.out.extend_from_slice(value);
        self
    }

    fn option(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.byte(1).bytes(value),
            None => self.byte(0),
        }
    }

    fn list(&mut self, values: &[Vec<u8>]) -> &mut Self {
        self.uint(values.len() as u32);
        for value in values {
            self.bytes(value);
        }
        self
    }

    fn finish(&mut self) {
        let length = (self.out.len() - self.start - 4) as u32;
        self.out[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// What is left of a body that is being read.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| DecodeError)
    }

    fn byte(&mut self) -> Decoded<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn int(&mut self) -> Decoded<i32> {
        Ok(i32::from_ne_bytes(self.array()?))
    }

    fn uint(&mut self) -> Decoded<u32> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    fn long(&mut self) -> Decoded<u64> {
        Ok(u64::from_ne_bytes(self.array()?))
    }

    fn id(&mut self) -> Decoded<PortId> {
        Ok(PortId(self.long()?))
    }

    fn bytes(&mut self) -> Decoded<Vec<u8>> {
        let length = self.uint()? as usize;
        Ok(self.take(length)?.to_vec())
    }

    fn option(&mut self) -> Decoded<Option<Vec<u8>>> {
        match self.byte()? {
            0 => Ok(None),
            1 => Ok(Some(self.bytes()?)),
            _ => Err(DecodeError),
        }
    }

    fn list(&mut self) -> Decoded<Vec<Vec<u8>>> {
        let count = self.uint()?;
        (0..count).map(|_| self.bytes()).collect()
    }

    fn ints(&mut self) -> Decoded<Vec<i32>> {
        let count = self.uint()?;
        (0..count).map(|_| self.int()).collect()
    }

    fn end<T>(self, value: T) -> Decoded<T> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(DecodeError)
        }
    }
}

impl Ending {
    fn encode(self, frame: &mut Frame) {
        match self.eof_timeout_ms {
            Some(ms) => frame.byte(1).uint(ms),
            None => frame.byte(0),
        };
        frame.uint(self.kill_timeout_ms).byte(match self.orphans {
            Orphans::Kill => 0,
            Orphans::Leave => 1,
        });
    }

    fn decode(body: &mut Body) -> Decoded<Ending> {
        let eof_timeout_ms = match body.byte()? {
            0 => None,
            1 => Some(body.uint()?),
            _ => return Err(DecodeError),
        };
        let kill_timeout_ms = body.uint()?;
        let orphans = match body.byte()? {
            0 => Orphans::Kill,
            1 => Orphans::Leave,
            _ => return Err(DecodeError),
        };
        Ok(Ending { eof_timeout_ms, kill_timeout_ms, orphans })
    }
}

impl Spawn {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut frame = Frame::new(out, 0);
        frame.long(self.id.0).bytes(&self.file).list(&self.args).list(&self.env).option(self.dir.as_deref());
        frame.uint(self.fds.len() as u32);
        for fd in &self.fds {
            frame.int(*fd);
        }
        self.ending.encode(&mut frame);
        frame.option(self.cgroup.as_deref()).finish();
    }

    fn decode(body: &mut Body) -> Decoded<Spawn> {
        Ok(Spawn {
            id: body.id()?,
            file: body.bytes()?,
            args: body.list()?,
            env: body.list()?,
            dir: body.option()?,
            fds: body.ints()?,
            ending: Ending::decode(body)?,
            cgroup: body.option()?,
        })
    }
}

impl Target {
    fn decode(body: &mut Body) -> Decoded<Target> {
        match body.byte()? {
            0 => Ok(Target::Leader),
            1 => Ok(Target::Group),
            2 => Ok(Target::Tree),
            _ => Err(DecodeError),
        }
    }
}

impl Stage {
    fn decode(body: &mut Body) -> Decoded<Stage> {
        match body.byte()? {
            0 => Ok(Stage::Fork),
            1 => Ok(Stage::Chdir),
            2 => Ok(Stage::Exec),
            _ => Err(DecodeError),
        }
    }
}

impl Request {
    /// Adds the request to `out`, as one frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Spawn(spawn) => spawn.encode(out),
            Request::Close { id } => Frame::new(out, 1).long(id.0).finish(),
            Request::Signal { id, ticket, signal, target } => {
                Frame::new(out, 2).long(id.0).long(*ticket).int(*signal).byte(*target as u8).finish();
            }
        }
    }

    /// The request that the body of a frame is.
    pub fn decode(body: &[u8]) -> Result<Request, DecodeError> {
        let mut body = Body(body);
        let request = match body.byte()? {
            0 => Request::Spawn(Box::new(Spawn::decode(&mut body)?)),
            1 => Request::Close { id: body.id()? },
            2 => Request::Signal {
                id: body.id()?,
                ticket: body.long()?,
                signal: body.int()?,
                target: Target::decode(&mut body)?,
            },
            _ => return Err(DecodeError),
        };
        body.end(request)
    }
}

impl Event {
    /// Adds the event to `out`, as one frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Event::Spawned { id, os_pid } => Frame::new(out, 0).long(id.0).uint(*os_pid).finish(),
            Event::Refused { id, stage, errno } => {
                Frame::new(out, 1).long(id.0).byte(*stage as u8).int(*errno).finish();
            }
            Event::Exited { id, status, usage } => {
                let Usage { user_us, system_us, max_rss_kib } = usage;
                Frame::new(out, 2)
                    .long(id.0)
                    .int(*status)
                    .long(*user_us)
                    .long(*system_us)
                    .long(*max_rss_kib)
                    .finish();
            }
            Event::Ended { id } => Frame::new(out, 3).long(id.0).finish(),
            Event::Signalled { id, ticket, errno } => {
                Frame::new(out, 4).long(id.0).long(*ticket).int(*errno).finish();
            }
        }
    }

    /// The event that the body of a frame is.
    pub fn decode(body: &[u8]) -> Result<Event, DecodeError> {
        let mut body = Body(body);
        let tag = body.byte()?;
        let id = body.id()?;
        let event = match tag {
            0 => Event::Spawned { id, os_pid: body.uint()? },
            1 => Event::Refused { id, stage: Stage::decode(&mut body)?, errno: body.int()? },
            2 => Event::Exited {
                id,
                status: body.int()?,
                usage: Usage { user_us: body.long()?, system_us: body.long()?, max_rss_kib: body.long()? },
            },
            3 => Event::Ended { id },
            4 => Event::Signalled { id, ticket: body.long()?, errno: body.int()? },
            _ => return Err(DecodeError),
        };
        body.end(event)
    }
}
