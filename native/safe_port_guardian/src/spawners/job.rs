//! One program to start.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::AsFd;

use safe_port_os::errno;
use safe_port_os::process::Pid;
use safe_port_os::spawn::{self, Block, Passed, Program, Slot, Spawner};
use safe_port_wire::{Event, PortId, Spawn, Stage};

use crate::cookie::{Cookie, Realm};
use crate::inbox::Batch;
use crate::tree::Cgroup;

/// A program to start, with its descriptors.
pub struct Job {
    spawn: Box<Spawn>,
    batch: Batch,
    realm: Realm,
    cgroup: Option<Cgroup>,
}

/// Why there is no program: what failed, and how.
type Refusal = (Stage, i32);

impl Job {
    /// To start `spawn` with what was passed beside it, under a cookie of `realm`, in `cgroup` if there is one.
    pub fn new(spawn: Box<Spawn>, batch: Batch, realm: Realm, cgroup: Option<Cgroup>) -> Job {
        Job { spawn, batch, realm, cgroup }
    }

    /// Whose it is.
    pub fn id(&self) -> PortId {
        self.spawn.id
    }

    /// Starts it, and closes the descriptors here.
    pub fn run(self, spawner: &mut Spawner, slot: &Slot) -> Result<Pid, Refusal> {
        let Job { spawn, batch, realm, cgroup } = self;
        let Spawn { id, file, args, env, dir, fds, ending, .. } = *spawn;
        if batch.incomplete {
            return Err((Stage::Fork, errno::EMFILE));
        }
        let Some((working_dir, passed)) =
            batch.fds.split_first().filter(|(_, passed)| passed.len() == fds.len())
        else {
            return Err((Stage::Fork, errno::EBADF));
        };
        let env = Cookie { realm, id, orphans: ending.orphans }.put(&env);
        let program = program(file, args, env, dir).map_err(|_| (Stage::Exec, errno::EINVAL))?;
        let procs = cgroup.as_ref().map(Cgroup::create).transpose().map_err(|error| fork(&error))?;
        let passed = Passed {
            working_dir: working_dir.as_fd(),
            fds: passed.iter().map(AsFd::as_fd).zip(fds).collect(),
            cgroup: procs.as_ref().map(AsFd::as_fd),
        };
        spawner.spawn(&program, &passed, slot).map_err(|failure| {
            if let Some(cgroup) = &cgroup {
                cgroup.remove();
            }
            let stage = match failure.stage {
                spawn::Stage::Fork => Stage::Fork,
                spawn::Stage::Chdir => Stage::Chdir,
                spawn::Stage::Exec => Stage::Exec,
            };
            (stage, failure.errno)
        })
    }
}

/// A NUL in any of it, where it does not end an entry of the environment, has no meaning to the system.
fn program(
    file: Vec<u8>,
    args: Vec<Vec<u8>>,
    env: Vec<u8>,
    dir: Option<Vec<u8>>,
) -> Result<Program, NulError> {
    Ok(Program {
        file: CString::new(file)?,
        args: args.into_iter().map(CString::new).collect::<Result<_, _>>()?,
        env: Block::new(env),
        dir: dir.map(CString::new).transpose()?,
    })
}

fn fork(error: &io::Error) -> Refusal {
    (Stage::Fork, error.raw_os_error().unwrap_or(errno::EIO))
}

/// What the VM is told when there is no program.
pub fn refused(id: PortId, stage: Stage, errno: i32) -> Event {
    Event::Refused { id, stage, errno }
}
