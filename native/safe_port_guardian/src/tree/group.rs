//! Trees by process group, where nothing more can be known: no subreaper, no list of descendants.
//!
//! A descendant that leaves the group of its program is not found. A group outlives its leader, and as long as it has a
//! member its number is not used again; between the question whether it has one and a signal to it, that can change.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use safe_port_os::process::Pid;
use safe_port_os::wait::{self, Ended};
use safe_port_os::{errno, signal};
use safe_port_wire::PortId;

use super::{Scope, Strike};
use crate::cookie::Realm;

struct Trunk {
    leader: Option<Pid>,
    group: Option<Pid>,
}

/// All trees.
pub struct Tree {
    trunks: HashMap<PortId, Trunk>,
    leaders: HashMap<Pid, PortId>,
}

/// There are none on such systems.
#[derive(Clone, Debug)]
pub struct Cgroup;

impl Cgroup {
    /// `ENOSYS`.
    pub fn create(&self) -> io::Result<File> {
        Err(io::Error::from_raw_os_error(errno::ENOSYS))
    }

    /// There is nothing to remove.
    pub fn remove(&self) {}

    /// There is nothing to sweep.
    pub fn sweep(_parent: &Path, _realm: Realm) {}
}

impl Tree {
    /// Whether deaths go unnoticed, of descendants that are no children and of programs that are not known yet, so that one
    /// has to look for them.
    pub const BLIND: bool = true;

    /// Without a port.
    pub fn new(_realm: Realm) -> Tree {
        Tree { trunks: HashMap::new(), leaders: HashMap::new() }
    }

    /// A port whose program is to be started.
    pub fn plant(&mut self, id: PortId, _fds: &[OwnedFd], parent: Option<&Path>) -> Option<Cgroup> {
        self.trunks.insert(id, Trunk { leader: None, group: None });
        parent.map(|_| Cgroup)
    }

    /// Its program was started.
    pub fn started(&mut self, id: PortId, pid: Pid) {
        self.trunks.insert(id, Trunk { leader: Some(pid), group: Some(pid) });
        self.leaders.insert(pid, id);
    }

    /// The port of a program that is not buried.
    pub fn port_of(&self, pid: Pid) -> Option<PortId> {
        self.leaders.get(&pid).copied()
    }

    /// The program of a port, unless it is buried.
    pub fn leader(&self, id: PortId) -> Option<Pid> {
        self.trunks.get(&id)?.leader
    }

    /// A program that has ended. Its number may be used again already.
    ///
    /// Programs are asked one by one: one that its spawner has not told of yet must not be reaped.
    pub fn next_death(&self) -> io::Result<Option<Ended>> {
        for pid in self.leaders.keys() {
            if let Some(ended) = wait::reap(*pid)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Forgets a child that has ended.
    pub fn bury(&mut self, pid: Pid) {
        if let Some(trunk) = self.leaders.remove(&pid).and_then(|id| self.trunks.get_mut(&id)) {
            trunk.leader = None;
        }
    }

    /// Nobody is adopted on such systems.
    pub fn look(&mut self, _in_flight: &[Pid]) -> Vec<(Pid, PortId)> {
        Vec::new()
    }

    /// Whether nothing of the port is left beside its program.
    pub fn is_bare(&self, id: PortId) -> bool {
        match self.trunks.get(&id) {
            // Whom it may not signal, it cannot end either.
            Some(Trunk { leader: None, group: Some(group) }) => signal::send_group(*group, 0).is_err(),
            Some(Trunk { leader: Some(_), .. }) => false,
            _ => true,
        }
    }

    /// What is left of the port, which is about to be over, is left alone.
    pub fn leave(&mut self, _id: PortId) {}

    /// The port is over.
    pub fn fell(&mut self, id: PortId) {
        self.trunks.remove(&id);
    }

    /// Sends signals. For each strike whether anyone received one.
    pub fn strike(&mut self, strikes: &[Strike], _in_flight: &[Pid]) -> Vec<io::Result<()>> {
        let groups = strikes.iter().map(|strike| {
            let Strike { id, scope: Scope::Tree | Scope::Group, signals } = strike;
            let group = self.trunks.get(id).and_then(|trunk| trunk.group);
            let group = group.ok_or_else(|| io::Error::from_raw_os_error(errno::ESRCH))?;
            signals.iter().try_for_each(|number| signal::send_group(group, *number))
        });
        groups.collect()
    }
}
