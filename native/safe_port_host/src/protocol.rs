//! The frames between the VM's port process and the host: a tag, then numbers (big-endian) and bytes. Pure.
//!
//! Processes are the numbers in their pid, `serial * 2^32 + id`; all are of the VM.
//!
//! | to the host | content |
//! |---|---|
//! | `o` | open: options (1 eof, 2 lines, 4 no message limits, 8 message limits), line:64, low:64, high:64, opener:64, creation:32, node length:16, node, path length:32, path, command |
//! | `d` | data of a command: caller:64, forced:8, bytes |
//! | `c`, `t` | control, call: ticket:64, operation:32, caller:64, bytes or a term |
//! | `x` | close: 0 flush, 1 kill |
//! | `w` | another owner: pid:64 |
//! | `e` | a monitored process died: monitor:64 |
//! | `i` | asks for figures: ticket:64 |
//!
//! | from the host | content |
//! |---|---|
//! | `s` | started: 1 if commands can be forced, otherwise 0 |
//! | `r` | refused: `l` not loaded (text), `g` general, `b` bad argument, `e` errno (name), `p` panic (text) |
//! | `d` | output: kind (0 whole, 1 eol, 2 noeol), header length:32, header, bytes |
//! | `m`, `M` | a term for the owner; for a process: pid:64, term |
//! | `E` | end of file, the port stays open |
//! | `f` | failed: `e` end of file, `c` code:32 (signed), `a` atom (text), `n` errno (name), `x` exit (name, or nothing), `p` panic (text) |
//! | `b` | busy: 0 or 1 |
//! | `y` | reply: ticket:64, then `l` list, `b` binary, `t` term (bytes), `a` bad argument, `c` closed, `z` too large (size:64), `p` panic (text) |
//! | `+`, `-` | monitor: monitor:64, pid:64; demonitor: monitor:64 |
//! | `l` | a line for the log |
//! | `i` | figures: ticket:64, input:64, output:64, queue size:64, os_pid:32, flags (1 busy, 2 driver locking), monitored pids:64 each |
//! | `z` | the driver has stopped |

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use safe_port_core::codec::Kind;
use safe_port_core::driver::{
    BusyLimits, CallError, CloseMode, ControlReply, Event, Failure, Options, PortInfo, Reason, StartRefusal,
};
use safe_port_os::errno;

/// What the VM asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Open(Open),
    Output { caller: u64, force: bool, data: Vec<u8> },
    Control { ticket: u64, op: u32, caller: u64, data: Vec<u8> },
    Call { ticket: u64, op: u32, caller: u64, term: Vec<u8> },
    Close(CloseMode),
    Owner(u64),
    Exited(u64),
    Info(u64),
}

/// How the port is to be opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Open {
    pub options: Options,
    pub caller: u64,
    /// What all pids of the VM have in common.
    pub creation: u32,
    pub node: Vec<u8>,
    pub path: std::ffi::OsString,
    pub command: Vec<u8>,
}

/// Why the port is not opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Load(String),
    Start(StartRefusal),
}

impl Command {
    /// The command of a frame; `None` if it is none.
    pub fn decode(frame: &[u8]) -> Option<Command> {
        let mut input = Input(frame);
        Some(match input.u8()? {
            b'o' => Command::Open(Open::decode(&mut input)?),
            b'd' => Command::Output { caller: input.u64()?, force: input.u8()? != 0, data: input.rest() },
            b'c' => {
                let (ticket, op, caller) = (input.u64()?, input.u32()?, input.u64()?);
                Command::Control { ticket, op, caller, data: input.rest() }
            }
            b't' => {
                let (ticket, op, caller) = (input.u64()?, input.u32()?, input.u64()?);
                Command::Call { ticket, op, caller, term: input.rest() }
            }
            b'x' => Command::Close(if input.u8()? == 0 { CloseMode::Flush } else { CloseMode::Kill }),
            b'w' => Command::Owner(input.u64()?),
            b'e' => Command::Exited(input.u64()?),
            b'i' => Command::Info(input.u64()?),
            _ => return None,
        })
    }
}

impl Open {
    fn decode(input: &mut Input<'_>) -> Option<Open> {
        let flags = input.u8()?;
        let has = |flag: u8| flags & flag != 0;
        let (line, low, high) = (input.u64()?, input.u64()?, input.u64()?);
        let (caller, creation) = (input.u64()?, input.u32()?);
        let node = input.u16()?;
        let node = input.take(node.into())?.to_vec();
        let path = input.u32()?;
        let path = OsStr::from_bytes(input.take(path as usize)?).to_owned();
        let busy_limits = match (has(4), has(8)) {
            (true, _) => BusyLimits::Disabled,
            (false, true) => BusyLimits::Bytes { low, high },
            (false, false) => BusyLimits::Default,
        };
        let line = has(2).then(|| usize::try_from(line).unwrap_or(usize::MAX));
        let options = Options { eof: has(1), line, busy_limits };
        Some(Open { options, caller, creation, node, path, command: input.rest() })
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        Some(self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn u8(&mut self) -> Option<u8> {
        self.number(1).map(|number| number as u8)
    }

    fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|number| number as u16)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number(4).map(|number| number as u32)
    }

    fn u64(&mut self) -> Option<u64> {
        self.number(8)
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}

fn errno_name(number: i32) -> &'static str {
    errno::name(number).unwrap_or("unknown")
}

/// A frame of these parts, its length in front.
fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend((length as u32).to_be_bytes());
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// A port's event; `None` for what the VM knows by itself.
pub fn event(event: &Event<'_>) -> Option<Vec<u8>> {
    Some(match event {
        Event::Data { kind, header, data } => {
            let kind = match kind {
                Kind::Whole => 0,
                Kind::Eol => 1,
                Kind::Noeol => 2,
            };
            frame(&[b"d", &[kind], &(header.len() as u32).to_be_bytes(), header, data])
        }
        Event::Term(term) => frame(&[b"m", term]),
        Event::Eof => frame(&[b"E"]),
        Event::Failed(Reason::Driver(failure)) => failed(failure),
        // The driver is the port's own here, and is unloaded only with it.
        Event::Failed(Reason::Unloaded) => return None,
        Event::Busy(on) => frame(&[b"b", &[u8::from(*on)]]),
        Event::Closed => frame(&[b"z"]),
    })
}

fn failed(failure: &Failure) -> Vec<u8> {
    match failure {
        Failure::Eof => frame(&[b"fe"]),
        Failure::Code(code) => frame(&[b"fc", &code.to_be_bytes()]),
        Failure::Atom(atom) => frame(&[b"fa", atom.as_bytes()]),
        Failure::Errno(number) => frame(&[b"fn", errno_name(*number).as_bytes()]),
        Failure::Exit(0) => frame(&[b"fx"]),
        Failure::Exit(number) => frame(&[b"fx", errno_name(*number).as_bytes()]),
        Failure::Panic(message) => frame(&[b"fp", message.as_bytes()]),
    }
}

/// A term for a process.
pub fn send(to: u64, term: &[u8]) -> Vec<u8> {
    frame(&[b"M", &to.to_be_bytes(), term])
}

/// The port is open.
pub fn started(soft_busy: bool) -> Vec<u8> {
    frame(&[b"s", &[u8::from(soft_busy)]])
}

/// The port is not opened.
pub fn refused(refused: &Refused) -> Vec<u8> {
    match refused {
        Refused::Load(text) => frame(&[b"rl", text.as_bytes()]),
        Refused::Start(StartRefusal::General) => frame(&[b"rg"]),
        Refused::Start(StartRefusal::BadArg) => frame(&[b"rb"]),
        Refused::Start(StartRefusal::Errno(number)) => frame(&[b"re", errno_name(*number).as_bytes()]),
        Refused::Start(StartRefusal::Panic(message)) => frame(&[b"rp", message.as_bytes()]),
    }
}

/// What `control` came to.
pub fn replied(ticket: u64, reply: &Result<ControlReply, CallError>) -> Vec<u8> {
    match reply {
        Ok(reply) => {
            frame(&[b"y", &ticket.to_be_bytes(), if reply.binary { b"b" } else { b"l" }, &reply.bytes])
        }
        Err(error) => unanswered(ticket, error),
    }
}

/// What `call` came to.
pub fn answered(ticket: u64, reply: &Result<impl AsRef<[u8]>, CallError>) -> Vec<u8> {
    match reply {
        Ok(term) => frame(&[b"y", &ticket.to_be_bytes(), b"t", term.as_ref()]),
        Err(error) => unanswered(ticket, error),
    }
}

fn unanswered(ticket: u64, error: &CallError) -> Vec<u8> {
    let ticket = ticket.to_be_bytes();
    match error {
        CallError::BadArg => frame(&[b"y", &ticket, b"a"]),
        CallError::Closed => frame(&[b"y", &ticket, b"c"]),
        CallError::TooLarge(bytes) => frame(&[b"y", &ticket, b"z", &(*bytes as u64).to_be_bytes()]),
        CallError::Panic(message) => frame(&[b"y", &ticket, b"p", message.as_bytes()]),
    }
}

/// Watch a process.
pub fn monitor(monitor: u64, pid: u64) -> Vec<u8> {
    frame(&[b"+", &monitor.to_be_bytes(), &pid.to_be_bytes()])
}

/// Watch it no longer.
pub fn demonitor(monitor: u64) -> Vec<u8> {
    frame(&[b"-", &monitor.to_be_bytes()])
}

/// A line for the log.
pub fn log(text: &str) -> Vec<u8> {
    frame(&[b"l", text.as_bytes()])
}

/// A port's figures.
pub fn info(ticket: u64, info: &PortInfo) -> Vec<u8> {
    let flags = u8::from(info.busy) | u8::from(info.driver_locking) << 1;
    let monitors: Vec<u8> = info.monitors.iter().flat_map(|pid| pid.to_be_bytes()).collect();
    frame(&[
        b"i",
        &ticket.to_be_bytes(),
        &info.input.to_be_bytes(),
        &info.output.to_be_bytes(),
        &info.queue_size.to_be_bytes(),
        &info.os_pid.unwrap_or(0).to_be_bytes(),
        &[flags],
        &monitors,
    ])
}

#[cfg(test)]
mod tests {
    use super::{Command, Open};
    use safe_port_core::driver::{BusyLimits, CloseMode, Options};

    fn open(flags: u8) -> Vec<u8> {
        let numbers = [9_u64, 4, 8, 100].map(u64::to_be_bytes).concat();
        [b"o", &[flags][..], &numbers, &7_u32.to_be_bytes(), &[0, 1], b"n", &[0, 0, 0, 2], b"/x", b"echo 1"]
            .concat()
    }

    #[test]
    fn an_open_frame_says_all_about_the_port() {
        let Some(Command::Open(decoded)) = Command::decode(&open(1 | 2 | 8)) else { panic!("no open") };
        let busy_limits = BusyLimits::Bytes { low: 4, high: 8 };
        let expected = Open {
            options: Options { eof: true, line: Some(9), busy_limits },
            caller: 100,
            creation: 7,
            node: b"n".to_vec(),
            path: "/x".into(),
            command: b"echo 1".to_vec(),
        };
        assert_eq!(decoded, expected);
        let Some(Command::Open(decoded)) = Command::decode(&open(4)) else { panic!("no open") };
        assert_eq!(decoded.options, Options { busy_limits: BusyLimits::Disabled, ..Options::default() });
    }

    #[test]
    fn frames_that_are_cut_off_or_unknown_are_no_commands() {
        let whole = open(0);
        for length in 0..whole.len() - b"echo 1".len() {
            assert_eq!(Command::decode(&whole[..length]), None, "cut at {length}");
        }
        assert_eq!(Command::decode(b"?"), None);
        assert_eq!(Command::decode(b"c\0\0\0"), None);
        assert_eq!(Command::decode(b"x\x01"), Some(Command::Close(CloseMode::Kill)));
    }
}
