//! The native half of a port: its pipes, and what is needed to read and write them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustler::{Env, LocalPid, Monitor, Resource};
use safe_port_core::codec::Framing;
use safe_port_core::patience::Patience;
use safe_port_core::reader::Reader;
use safe_port_core::turns::Turns;
use safe_port_core::volume::Volume;
use safe_port_wire::PortId;

use crate::chunk::Chunk;
use crate::receive::Waiter;
use crate::select::Pipe;
use crate::{guardian, receive, registry};

/// Locks `mutex`; a thread that panicked with it left plain data behind, which is as good as any.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading side.
pub struct Input {
    /// The program's standard output; gone once the port is closed, absent for ports that only write.
    pub pipe: Option<Pipe>,
    /// Cuts what is read.
    pub reader: Reader<Chunk>,
    /// Whether packets may share the chunk they came in.
    pub share: bool,
    /// The process that waits in a passive read.
    pub waiter: Option<Waiter>,
}

/// The writing side.
pub struct Output {
    /// The program's standard input.
    pub pipe: Option<Pipe>,
    /// Whether the port process holds bytes that go first.
    pub queued: bool,
    /// Whether `close_stdin` was called.
    pub half_closed: bool,
    /// What the writes that met a full pipe have shown.
    pub volume: Volume,
    /// Whether room in a full pipe comes soon.
    pub patience: Patience,
    /// Payload bytes accepted so far.
    pub payload: u64,
}

/// Who may do what with the port at present.
pub struct Roles {
    /// The process whose death closes the port: the port process, or its successor while the queue is flushed.
    pub keeper: LocalPid,
    /// The only process that may read in passive mode.
    pub owner: LocalPid,
}

/// How data reaches the owner.
pub struct Delivery {
    /// As binaries or as lists of bytes.
    pub binary: bool,
    /// By reading or by messages.
    pub passive: bool,
    /// How it is cut.
    pub framing: Framing,
}

/// One port.
pub struct PortHandle {
    /// The port process, whose pid is the port.
    pub port: LocalPid,
    /// Whether the owner gets binaries; otherwise lists of bytes.
    pub binary: bool,
    /// How bytes are cut and framed.
    pub framing: Framing,
    pub input: Mutex<Input>,
    pub output: Mutex<Output>,
    pub roles: Mutex<Roles>,
    /// Whether the owner reads for itself.
    pub passive: AtomicBool,
    /// Whether replies come fast.
    pub turns: Turns,
    /// What the guardian knows the port by, once it was asked to spawn.
    pub id: OnceLock<PortId>,
    closed: AtomicBool,
}

impl PortHandle {
    /// A port that `owner` opens, in the port process `port`.
    pub fn new(
        port: LocalPid,
        owner: LocalPid,
        delivery: Delivery,
        input: Input,
        output: Output,
    ) -> PortHandle {
        let Delivery { binary, passive, framing } = delivery;
        PortHandle {
            port,
            binary,
            framing,
            input: Mutex::new(input),
            output: Mutex::new(output),
            roles: Mutex::new(Roles { keeper: port, owner }),
            passive: AtomicBool::new(passive),
            turns: Turns::default(),
            id: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Lets go of everything, once: the descriptors, the entry in the registry, and the program, whose ending begins.
    pub fn close(&self, env: Env) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        registry::remove(self.port);
        self.close_output_if(env, |_| true);
        let pipe = {
            let mut input = lock(&self.input);
            receive::release(env, self, &mut input);
            input.pipe.take()
        };
        if let Some(pipe) = pipe {
            pipe.close(env);
        }
        if let Some(id) = self.id.get() {
            guardian::link().close(*id);
        }
    }

    /// Closes the program's standard input if `condition` holds.
    pub fn close_output_if(&self, env: Env, condition: impl FnOnce(&Output) -> bool) {
        let pipe = {
            let mut output = lock(&self.output);
            if condition(&output) {
                output.pipe.take()
            } else {
                None
            }
        };
        if let Some(pipe) = pipe {
            pipe.close(env);
        }
    }
}

#[rustler::resource_impl]
impl Resource for PortHandle {
    const IMPLEMENTS_DOWN: bool = true;

    /// The port process died, or its successor: whatever the cause, the port ends with it.
    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if lock(&self.roles).keeper == pid {
            self.close(env);
        }
    }
}
