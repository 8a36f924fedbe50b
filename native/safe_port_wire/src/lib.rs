//! The protocol between the SafePort NIF and its guardian. Pure: values in, bytes out, and back.
//!
//! A frame is a length of four bytes, in native order as both ends run on one machine, and that many bytes of body:
//! a tag, then the fields. Descriptors travel beside the first byte of a [`Request::Spawn`].
#![forbid(unsafe_code)]

mod codec;
mod frames;

pub use codec::DecodeError;
pub use frames::{Frames, MAX_FRAME_BYTES};

/// A port, as the link and the guardian name it; never used twice by one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u64);

/// What becomes of descendants that outlive a program which ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphans {
    /// They are ended as if the port had been closed.
    Kill,
    /// They stay.
    Leave,
}

/// How the tree of a port ends. All times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How long the program may run on after the end of its input; `None`: for ever.
    pub eof_timeout_ms: Option<u32>,
    /// Time between SIGTERM and SIGKILL.
    pub kill_timeout_ms: u32,
    /// What becomes of orphans.
    pub orphans: Orphans,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// What to call it from now on.
    pub id: PortId,
    /// The executable's path.
    pub file: Vec<u8>,
    /// Its arguments, the zeroth included.
    pub args: Vec<Vec<u8>>,
    /// Its environment as `NAME=value`; the guardian adds its cookie.
    pub env: Vec<Vec<u8>>,
    /// The folder to change to, seen from the working directory that is passed along.
    pub dir: Option<Vec<u8>>,
    /// What the passed descriptors are in the child; the working directory, passed first, is not counted.
    pub fds: Vec<i32>,
    /// How it ends.
    pub ending: Ending,
    /// The cgroup v2 folder to make a group for it in.
    pub cgroup: Option<Vec<u8>>,
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The program itself.
    Leader,
    /// Its process group.
    Group,
    /// All of its tree.
    Tree,
}

/// What the link asks of the guardian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start a program; answered by [`Event::Spawned`] or [`Event::Refused`].
    Spawn(Box<Spawn>),
    /// The VM has let go of the port: its tree is to end.
    Close {
        /// The port.
        id: PortId,
    },
    /// Send a signal; answered by [`Event::Signalled`].
    Signal {
        /// The port.
        id: PortId,
        /// Comes back with the answer.
        ticket: u64,
        /// The signal's number.
        signal: i32,
        /// Whom it is for.
        target: Target,
    },
}

/// What failed when a program was to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Making the process, or reaching the guardian.
    Fork,
    /// Changing to its folder.
    Chdir,
    /// Executing its file.
    Exec,
}

/// What a program used (`getrusage(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds in user mode.
    pub user_us: u64,
    /// Microseconds in the kernel.
    pub system_us: u64,
    /// The most memory it had resident, in KiB.
    pub max_rss_kib: u64,
}

/// What the guardian reports to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program runs: `execve(2)` has succeeded.
    Spawned {
        /// The port.
        id: PortId,
        /// The program's process id.
        os_pid: u32,
    },
    /// The program could not be started.
    Refused {
        /// The port.
        id: PortId,
        /// What failed.
        stage: Stage,
        /// With which error.
        errno: i32,
    },
    /// The program itself ended.
    Exited {
        /// The port.
        id: PortId,
        /// Its wait status, undecoded.
        status: i32,
        /// What it used.
        usage: Usage,
    },
    /// Nothing of the port's tree is left.
    Ended {
        /// The port.
        id: PortId,
    },
    /// The answer to [`Request::Signal`].
    Signalled {
        /// The port.
        id: PortId,
        /// That of the request.
        ticket: u64,
        /// 0 if the signal was sent; `ESRCH` if nothing is left to signal.
        errno: i32,
    },
}
