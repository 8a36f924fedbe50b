//! Both ends of a link: who listens, and a guardian, a real one or one that does what a test wants.
#![allow(dead_code, unused_imports, reason = "every test file uses its own part of this")]

mod fake;
mod real;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{unbounded, Receiver, Sender};
use safe_port_core::link::{Exit, Link, LinkEvent, Listener};
use safe_port_os::{dir, pipe};
use safe_port_wire::{Ending, Orphans, PortId, Spawn, Stage};

pub use fake::{Fake, Fakes};
pub use real::{guardian, Process};

/// How long a test waits for what must happen at once, on the slowest of machines.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// An ending that is over quickly.
pub const QUICK: Ending = Ending { eof_timeout_ms: Some(50), kill_timeout_ms: 300, orphans: Orphans::Kill };

/// Passes on what it hears, and says when it is dropped by closing the channel.
struct Ear(Sender<LinkEvent>);

impl Listener for Ear {
    fn event(&self, event: LinkEvent) {
        // An error means that the test does not want to know.
        let _ = self.0.send(event);
    }
}

/// A port, as its listener sees it.
pub struct Port {
    pub id: PortId,
    pub events: Receiver<LinkEvent>,
}

impl Port {
    /// Starts `spawn` with a working directory and nothing but `/dev/null` otherwise.
    pub fn open(link: &Link, spawn: Spawn) -> Port {
        let nulls = spawn.fds.iter().map(|_| dir::null().expect("/dev/null")).collect();
        Port::open_with(link, spawn, nulls)
    }

    /// Starts `spawn` with a working directory and `fds`.
    pub fn open_with(link: &Link, spawn: Spawn, mut fds: Vec<OwnedFd>) -> Port {
        fds.insert(0, dir::current().expect("a working directory"));
        let (sender, events) = unbounded();
        let id = link.spawn(spawn, fds, Arc::new(Ear(sender))).expect("a thread");
        Port { id, events }
    }

    /// The next event.
    pub fn next(&self) -> LinkEvent {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    /// The events that are left, up to the last one.
    pub fn rest(&self) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => events.push(event),
                Err(error) => {
                    assert!(error.is_disconnected(), "no last event after {events:?}");
                    return events;
                }
            }
        }
    }

    /// The process id of its program, which has just been started.
    pub fn spawned(&self) -> i32 {
        match self.next() {
            LinkEvent::Spawned { os_pid } => i32::try_from(os_pid).expect("a process id"),
            event => panic!("expected a start, got {event:?}"),
        }
    }

    /// How its program ended, which is the next event.
    pub fn exited(&self) -> Exit {
        match self.next() {
            LinkEvent::Exited { exit, .. } => exit,
            event => panic!("expected an exit, got {event:?}"),
        }
    }
}

/// A program that is to run with `/dev/null` as its standard descriptors.
pub fn program(words: &[&str]) -> Spawn {
    Spawn {
        id: PortId(0),
        file: words[0].into(),
        args: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: b"PATH=/usr/local/bin:/usr/bin:/bin\0".to_vec(),
        dir: None,
        fds: vec![0, 1, 2],
        ending: QUICK,
        cgroup: None,
    }
}

pub fn shell(script: &str) -> Spawn {
    program(&["/bin/sh", "-c", script])
}

/// A program that only waits.
pub fn sleeper() -> Spawn {
    program(&["/bin/sleep", "1000"])
}

pub fn refused(stage: Stage, errno: i32) -> LinkEvent {
    LinkEvent::Refused { stage, errno }
}

/// A pipe: its reading end, as a file, and the end to be passed.
pub fn output() -> (std::fs::File, OwnedFd) {
    let (ours, theirs) = pipe::pipe().expect("a pipe");
    (ours.into(), theirs)
}

/// All that comes through a pipe until nobody can write to it any more.
pub fn read_to_end(mut pipe: std::fs::File) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).expect("text");
    text
}

/// What this process has open, by number.
pub fn open_descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc").filter_map(Result::ok);
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            // The descriptor of this very listing is gone by now.
            let target = std::fs::read_link(entry.path()).ok()?;
            Some(format!("{} {}", Path::new(&entry.file_name()).display(), target.display()))
        })
        .collect();
    found.sort();
    found
}
