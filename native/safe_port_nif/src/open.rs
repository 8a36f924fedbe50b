//! Opens a port: makes its pipes and has the guardian start its program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustler::{Atom, Binary, Encoder, Env, LocalPid, NifMap, ResourceArc, Term};
use safe_port_core::codec::{Endian, Framing, Prefix};
use safe_port_core::patience::Patience;
use safe_port_core::reader::Reader;
use safe_port_core::volume::Volume;
use safe_port_os::{dir, pipe};
use safe_port_wire::{Ending, Orphans, PortId, Spawn};

use crate::guardian::{link, Reporter};
use crate::handle::{lock, Delivery, Input, Output, PortHandle};
use crate::select::Pipe;
use crate::{atoms, errno, receive, registry};

/// What `SafePort.Core.Options` has made of the options of an open.
#[derive(NifMap)]
#[allow(clippy::struct_excessive_bools)]
struct Config<'a> {
    owner: LocalPid,
    file: Binary<'a>,
    args: Vec<Binary<'a>>,
    /// `NAME=value` entries, each followed by a NUL.
    env: Binary<'a>,
    cd: Option<Binary<'a>>,
    cgroup: Option<Binary<'a>>,
    /// Whether the port reads from the program.
    input: bool,
    /// Whether the port writes to the program.
    output: bool,
    use_stdio: bool,
    stderr: Atom,
    /// Bytes of the prefix; 0 without packets.
    packet: usize,
    packet_size: usize,
    little_endian: bool,
    /// The longest line; 0 without lines.
    line: usize,
    share: bool,
    passive: bool,
    binary: bool,
    eof_timeout: Option<u32>,
    kill_timeout: u32,
    leave_orphans: bool,
}

impl Config<'_> {
    fn framing(&self) -> Framing {
        match (Prefix::new(self.packet), self.line) {
            (Some(prefix), _) => {
                let endian = if self.little_endian { Endian::Little } else { Endian::Big };
                Framing::Packet { prefix, endian, max: self.packet_size }
            }
            (None, 0) => Framing::Stream,
            (None, max) => Framing::Line { max },
        }
    }

    fn spawn(&self, fds: Vec<i32>) -> Spawn {
        Spawn {
            id: PortId(0),
            file: self.file.as_slice().to_vec(),
            args: self.args.iter().map(|arg| arg.as_slice().to_vec()).collect(),
            env: self.env.as_slice().to_vec(),
            dir: self.cd.as_ref().map(|dir| dir.as_slice().to_vec()),
            fds,
            ending: Ending {
                eof_timeout_ms: self.eof_timeout,
                kill_timeout_ms: self.kill_timeout,
                orphans: if self.leave_orphans { Orphans::Leave } else { Orphans::Kill },
            },
            cgroup: self.cgroup.as_ref().map(|path| path.as_slice().to_vec()),
        }
    }
}

/// The descriptors of a new port.
struct Ends {
    /// Ours.
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    /// The child's: the working directory first, then one descriptor for each of `numbers`.
    passed: Vec<OwnedFd>,
    numbers: Vec<i32>,
}

impl Ends {
    fn new(config: &Config) -> io::Result<Ends> {
        let mut ends = Ends { input: None, output: None, passed: vec![dir::current()?], numbers: Vec::new() };
        let (reads_from, writes_to) = if config.use_stdio { (0, 1) } else { (3, 4) };
        if config.output {
            let (theirs, ours) = pipe::pipe()?;
            pipe::set_nonblocking(ours.as_fd(), true)?;
            ends.output = Some(ours);
            ends.pass(theirs, reads_from);
        }
        if config.input {
            let (ours, theirs) = pipe::pipe()?;
            pipe::set_nonblocking(ours.as_fd(), true)?;
            ends.input = Some(ours);
            ends.pass(theirs, writes_to);
        }
        for number in [0, 1, 2] {
            ends.inherit(config, number)?;
        }
        Ok(ends)
    }

    fn pass(&mut self, fd: OwnedFd, number: i32) {
        self.passed.push(fd);
        self.numbers.push(number);
    }

    /// Passes what the child's descriptor `number` is when no pipe of the port is it.
    fn inherit(&mut self, config: &Config, number: i32) -> io::Result<()> {
        if self.numbers.contains(&number) {
            return Ok(());
        }
        if number == 2 && config.stderr == atoms::disable() {
            self.pass(dir::null()?, 2);
        } else if number == 2 && config.stderr == atoms::redirect() {
            match self.numbers.iter().position(|passed| *passed == 1) {
                Some(stdout) if config.input => {
                    let copy = self.passed[stdout + 1].try_clone()?;
                    self.pass(copy, 2);
                }
                // A port that only writes: the pipe of contract P20, which has no reader.
                _ => {
                    let (_, unread) = pipe::pipe()?;
                    self.pass(unread, 2);
                }
            }
        } else if let Ok(own) = pipe::duplicate_number(number) {
            // The VM's own; where the VM has it closed, so has the child.
            self.pass(own, number);
        }
        Ok(())
    }
}

/// `Native.open/1`: makes the port of the calling process and asks for its program. Never blocks.
///
/// Returns `{:ok, handle}` or `{:error, reason}`; `{handle, {:spawned, os_pid}}` or `{handle, {:refused, stage, reason}}`
/// follows as a message.
#[rustler::nif]
fn open<'a>(env: Env<'a>, config: Config<'a>) -> Term<'a> {
    match start(env, &config) {
        Ok(handle) => (atoms::ok(), handle).encode(env),
        Err(error) => env.error_tuple(errno::of(env, &error)),
    }
}

fn start(env: Env, config: &Config) -> io::Result<ResourceArc<PortHandle>> {
    // Seen from the VM's working directory; exec will see it from the program's (contract O11, O13).
    dir::executable(&CString::new(config.file.as_slice())?)?;
    let ends = Ends::new(config)?;
    let input = ends.input.map(|fd| Pipe::new(fd, false));
    let output = ends.output.map(|fd| Pipe::new(fd, false));
    let handle = handle(env, config, input, output);
    let reporter = std::sync::Arc::new(Reporter(handle.clone()));
    let id = link().spawn(config.spawn(ends.numbers), ends.passed, reporter)?;
    let _ = handle.id.set(id);
    Ok(handle)
}

/// The port of the calling process.
fn handle(env: Env, config: &Config, input: Option<Pipe>, output: Option<Pipe>) -> ResourceArc<PortHandle> {
    let framing = config.framing();
    let input = Input { pipe: input, reader: Reader::new(framing), share: config.share, waiter: None };
    let output = Output {
        pipe: output,
        queued: false,
        half_closed: false,
        volume: Volume::default(),
        patience: Patience::default(),
        payload: 0,
    };
    let server = env.pid();
    let delivery = Delivery { binary: config.binary, passive: config.passive, framing };
    let handle = ResourceArc::new(PortHandle::new(server, config.owner, delivery, input, output));
    // The caller is alive, so this does not fail.
    let _ = env.monitor(&handle, &server);
    handle
}

/// `Native.open_fd/3`: makes the port of the calling process over copies of descriptors of the VM.
///
/// Returns `{handle, input}`, where `input` tells whether there is something to read from. A descriptor that is not open
/// is no error here: the port then reads nothing, or ends when it is to write (contract O16).
#[rustler::nif]
fn open_fd<'a>(env: Env<'a>, config: Config<'a>, input: i32, output: i32) -> Term<'a> {
    let copy = |wanted: bool, number: i32| {
        let fd = pipe::duplicate_number(number).ok().filter(|_| wanted)?;
        pipe::set_nonblocking(fd.as_fd(), true).ok()?;
        Some(Pipe::new(fd, true))
    };
    let input = copy(config.input, input);
    let readable = input.is_some();
    (handle(env, &config, input, copy(config.output, output)), readable).encode(env)
}

/// `Native.publish/1`: the program runs; from now on the port can be found.
#[rustler::nif]
fn publish(handle: ResourceArc<PortHandle>) -> Atom {
    registry::insert(handle);
    atoms::ok()
}

/// `Native.close/1`: closes the pipes and begins the ending of the program's tree. Never blocks.
#[rustler::nif]
fn close(env: Env, handle: ResourceArc<PortHandle>) -> Atom {
    handle.close(env);
    atoms::ok()
}

/// `Native.hand_over/2`: the port can no longer be found, and lives until `successor` is done with it.
#[rustler::nif]
fn hand_over(env: Env, handle: ResourceArc<PortHandle>, successor: LocalPid) -> Atom {
    registry::remove(handle.port);
    lock(&handle.roles).keeper = successor;
    receive::release(env, &handle, &mut lock(&handle.input));
    if env.monitor(&handle, &successor).is_none() {
        handle.close(env);
    }
    atoms::ok()
}

/// `Native.set_owner/2`: who may read in passive mode.
#[rustler::nif]
fn set_owner(env: Env, handle: ResourceArc<PortHandle>, owner: LocalPid) -> Atom {
    lock(&handle.roles).owner = owner;
    receive::release(env, &handle, &mut lock(&handle.input));
    atoms::ok()
}

/// `Native.set_passive/2`: whether the owner reads for itself.
#[rustler::nif]
fn set_passive(env: Env, handle: ResourceArc<PortHandle>, passive: bool) -> Atom {
    handle.passive.store(passive, std::sync::atomic::Ordering::Release);
    receive::release(env, &handle, &mut lock(&handle.input));
    atoms::ok()
}

/// `Native.counters/1`: `{input, output}`, payload bytes so far.
#[rustler::nif]
fn counters(handle: ResourceArc<PortHandle>) -> (u64, u64) {
    let input = lock(&handle.input).reader.input();
    (input, lock(&handle.output).payload)
}
