//! Tells the port's owner what happens to files, by `inotify(7)`.
//!
//! `{:watch, path, events}` is sent for each event, `{:watch, :overflow}` when the system has lost some. The messages are
//! terms of the driver's own choice, not `{port, {:data, _}}`.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod tree;

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::Errno;
use safe_port_driver::{export, BadArg, Driver, PortHandle, Ready, StartError, Term};

use self::tree::{Depth, Watches};

/// `call` operation: watch the file or directory whose path is given. Replies `:ok` or `{:error, posix}`.
pub const ADD: u32 = 1;
/// `call` operation: watch it no longer. Replies `:ok` or `{:error, :enoent}`.
pub const REMOVE: u32 = 2;
/// `call` operation: reply with the list of all watched paths.
pub const LIST: u32 = 3;
/// `call` operation: as [`ADD`], with all directories below, also those that are made later.
pub const ADD_TREE: u32 = 4;

/// Events that one call of `ready_input` passes on, roughly: others shall have their turn.
const EVENTS_PER_CALL: usize = 1000;

/// Flags of an event and the atoms they are reported as.
const ATOMS: [(ReadFlags, &str); 9] = [
    (ReadFlags::CREATE, "created"),
    (ReadFlags::MODIFY, "modified"),
    (ReadFlags::CLOSE_WRITE, "written"),
    (ReadFlags::ATTRIB, "attributes"),
    (ReadFlags::DELETE, "deleted"),
    (ReadFlags::DELETE_SELF, "deleted"),
    (ReadFlags::MOVED_FROM, "moved_from"),
    (ReadFlags::MOVED_TO, "moved_to"),
    (ReadFlags::ISDIR, "directory"),
];

/// A port's state.
pub struct Watch {
    inotify: Arc<OwnedFd>,
    watches: Watches,
}

/// An event as it is read; the reader's own borrows its buffer.
struct Event {
    wd: i32,
    flags: ReadFlags,
    name: OsString,
}

impl Watch {
    fn add(&mut self, path: &Path, depth: Depth) -> Result<(), Errno> {
        // What is there already is no news.
        self.watches.add(&self.inotify, path, depth).map(drop)
    }

    fn report(&mut self, port: &PortHandle, event: &Event) {
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            let _ = port.output_term(&Term::tuple([Term::atom("watch"), Term::atom("overflow")]));
            return;
        }
        let Some((directory, depth)) = self.watches.get(event.wd) else { return };
        let path = if event.name.is_empty() { directory.clone() } else { directory.join(&event.name) };
        send(port, &path, event.flags);
        if event.flags.contains(ReadFlags::IGNORED) {
            self.watches.forget(event.wd);
        }
        if depth == Depth::Tree && event.flags.contains(ReadFlags::ISDIR) {
            if event.flags.contains(ReadFlags::MOVED_FROM) {
                self.watches.remove_tree(&self.inotify, &path);
            } else if event.flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                // What was made in it before it was watched is reported now. It may be gone again: no matter.
                for (path, is_directory) in
                    self.watches.add(&self.inotify, &path, Depth::Tree).unwrap_or_default()
                {
                    let kind = if is_directory { ReadFlags::ISDIR } else { ReadFlags::empty() };
                    send(port, &path, ReadFlags::CREATE | kind);
                }
            }
        }
    }
}

fn send(port: &PortHandle, path: &Path, flags: ReadFlags) {
    let events: Vec<Term> =
        ATOMS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, atom)| Term::atom(*atom)).collect();
    if !events.is_empty() {
        // A path and atoms are always a term.
        let _ = port.output_term(&Term::tuple([Term::atom("watch"), path_term(path), Term::list(events)]));
    }
}

fn path_term(path: &Path) -> Term {
    Term::binary(path.as_os_str().as_bytes())
}

/// The next events; the error is what ended the descriptor.
fn read(inotify: &OwnedFd) -> Result<Vec<Event>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut events = Vec::new();
    while events.len() < EVENTS_PER_CALL || !reader.is_buffer_empty() {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map_or(&[][..], |name| name.to_bytes());
                let name = OsStr::from_bytes(name).to_owned();
                events.push(Event { wd: event.wd(), flags: event.events(), name });
            }
            Err(Errno::WOULDBLOCK) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(events)
}

fn error_term(error: Errno) -> Term {
    let atom = match error {
        Errno::NOENT => "enoent",
        Errno::ACCESS => "eacces",
        Errno::NOTDIR => "enotdir",
        Errno::NAMETOOLONG => "enametoolong",
        Errno::LOOP => "eloop",
        // The user may not have more watches, see /proc/sys/fs/inotify.
        Errno::NOSPC => "enospc",
        Errno::NOMEM => "enomem",
        Errno::INVAL => "einval",
        _ => "eio",
    };
    Term::tuple([Term::atom("error"), Term::atom(atom)])
}

impl Driver for Watch {
    const NAME: &'static str = "watch";

    fn start(port: &PortHandle, command: &[u8]) -> Result<Watch, StartError> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let inotify =
            Arc::new(inotify::init(flags).map_err(|error| StartError::Errno(error.raw_os_error()))?);
        let mut watch = Watch { inotify: Arc::clone(&inotify), watches: Watches::default() };
        // "watch PATH" watches PATH from the start.
        if let Some(blank) = command.iter().position(u8::is_ascii_whitespace) {
            let path = PathBuf::from(OsString::from_vec(command[blank + 1..].to_vec()));
            watch.add(&path, Depth::One).map_err(|error| StartError::Errno(error.raw_os_error()))?;
        }
        port.select(&inotify, Ready::READ)?;
        Ok(watch)
    }

    fn ready_input(&mut self, port: &PortHandle, _fd: RawFd) {
        match read(&self.inotify) {
            Ok(events) => events.iter().for_each(|event| self.report(port, event)),
            Err(error) => port.fail_posix(error.raw_os_error()),
        }
    }

    fn call(&mut self, _port: &PortHandle, op: u32, term: Term) -> Result<Term, BadArg> {
        if op == LIST {
            return Ok(Term::list(self.watches.paths().map(path_term)));
        }
        let path = Path::new(OsStr::from_bytes(term.as_bytes().ok_or(BadArg)?));
        let result = match op {
            ADD => self.add(path, Depth::One),
            ADD_TREE => self.add(path, Depth::Tree),
            REMOVE => self.watches.remove(&self.inotify, path),
            _ => return Err(BadArg),
        };
        Ok(result.map_or_else(error_term, |()| Term::atom("ok")))
    }

    fn stop(self, port: &PortHandle) {
        // The runner has the descriptor as well, until it no longer watches it: then it is closed in `stop_select`.
        port.release(self.inotify.as_raw_fd());
    }
}

export!(Watch);
