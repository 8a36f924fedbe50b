//! Trees by descent.
//!
//! The guardian is a subreaper: a process below it that loses its parent becomes its child. So every process of a port
//! descends from one of the guardian's children: from the program itself, or from an orphan, which [`Orphans`] knows the
//! port of. That no orphan of a port is left means that, its program aside, nothing of it is left.

mod cgroup;
mod descent;
mod orphans;
mod strike;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use safe_port_os::clock::boot_ticks;
use safe_port_os::process::{own_pid, Pid};
use safe_port_os::wait::{self, Ended};
use safe_port_os::{errno, pipe, signal};
use safe_port_wire::{Orphans as Fate, PortId};

pub use cgroup::Cgroup;
pub use descent::below;
use orphans::{Orphans, Owner, Trunk};
pub use strike::strike;

use super::{Scope, Strike, STRAYS};
use crate::cookie::{Cookie, Realm};
use crate::proc::{self, Process};

/// All trees.
pub struct Tree {
    own: i32,
    realm: Realm,
    trunks: HashMap<PortId, Trunk>,
    /// The ports of programs that are not reaped.
    leaders: HashMap<Pid, PortId>,
    orphans: Orphans,
}

impl Tree {
    /// Whether deaths go unnoticed, of descendants that are no children and of programs that are not known yet, so that one
    /// has to look for them.
    pub const BLIND: bool = false;

    /// Without a port.
    pub fn new(realm: Realm) -> Tree {
        Tree {
            own: own_pid(),
            realm,
            trunks: HashMap::new(),
            leaders: HashMap::new(),
            orphans: Orphans::new(realm),
        }
    }

    /// A port whose program is to be started and given `fds`. Returns its cgroup, to be made below `parent`.
    pub fn plant(&mut self, id: PortId, fds: &[OwnedFd], parent: Option<&Path>) -> Option<Cgroup> {
        let pipes: Vec<u64> = fds.iter().filter_map(|fd| pipe::inode(fd.as_fd()).ok().flatten()).collect();
        self.orphans.add_pipes(id, &pipes);
        let cookie = Cookie { realm: self.realm, id, orphans: Fate::Kill };
        let cgroup = parent.map(|parent| Cgroup::below(parent, cookie));
        // A clock that cannot be read makes the port a candidate for orphans that are older than it is.
        let begun = boot_ticks().unwrap_or(0);
        self.trunks.insert(id, Trunk { begun, leader: None, session: 0, cgroup: cgroup.clone() });
        cgroup
    }

    /// Its program was started.
    pub fn started(&mut self, id: PortId, pid: Pid) {
        if let Some(trunk) = self.trunks.get_mut(&id) {
            trunk.leader = Some(pid);
            trunk.session = pid.get();
            self.leaders.insert(pid, id);
            self.orphans.add_session(pid.get(), Owner::Port(id));
        }
    }

    /// The port of a program that is not reaped.
    pub fn port_of(&self, pid: Pid) -> Option<PortId> {
        self.leaders.get(&pid).copied()
    }

    /// The program of a port, unless it is reaped.
    pub fn leader(&self, id: PortId) -> Option<Pid> {
        self.trunks.get(&id)?.leader
    }

    /// A child that has ended. It stays until it is [buried](Tree::bury), and its number keeps meaning it.
    pub fn next_death(&self) -> io::Result<Option<Ended>> {
        wait::peek()
    }

    /// Reaps a child that has ended.
    pub fn bury(&mut self, pid: Pid) {
        // That it has ended is known: what it returned is known too.
        let _ = wait::reap(pid);
        self.orphans.remove(pid.get());
        if let Some(trunk) = self.leaders.remove(&pid).and_then(|id| self.trunks.get_mut(&id)) {
            trunk.leader = None;
        }
    }

    /// Looks for new orphans and finds their ports. Each is returned once. `in_flight` are programs being started.
    pub fn look(&mut self, in_flight: &[Pid]) -> Vec<(Pid, PortId)> {
        let leaders = &self.leaders;
        let known = |pid| leaders.contains_key(&pid) || in_flight.contains(&pid);
        self.orphans.look(self.own, &self.trunks, known)
    }

    /// Whether nothing of the port is left beside its program.
    pub fn is_bare(&self, id: PortId) -> bool {
        let empty = match self.trunks.get(&id).and_then(|trunk| trunk.cgroup.as_ref()) {
            Some(cgroup) => !cgroup.is_populated(),
            None => true,
        };
        empty && self.orphans.count(owner(id)) == 0
    }

    /// What is left of the port, which is about to be over, is left alone.
    pub fn leave(&mut self, id: PortId) {
        self.orphans.leave(id);
    }

    /// The port is over.
    pub fn fell(&mut self, id: PortId) {
        self.orphans.fell(id);
        if let Some(cgroup) = self.trunks.remove(&id).and_then(|trunk| trunk.cgroup) {
            cgroup.remove();
        }
    }

    /// Sends signals to all processes of one kind or another, after one look at all there are.
    ///
    /// For each strike whether anyone received a signal: if not, the error, `ESRCH` if there was nobody.
    pub fn strike(&mut self, strikes: &[Strike], in_flight: &[Pid]) -> Vec<io::Result<()>> {
        let fast: Vec<bool> = strikes.iter().map(|strike| self.kill_fast(strike)).collect();
        let members = self.members(in_flight);
        let slow = strikes.iter().map(|strike| match &members {
            Ok(members) => self.strike_one(strike, members),
            // Without /proc, or out of descriptors.
            Err(_) => self.strike_group(strike),
        });
        slow.zip(fast).map(|(slow, fast)| if fast { Ok(()) } else { slow }).collect()
    }

    /// Ends what can be ended without a look at all processes, and without a chance to fork: the group, the cgroup.
    /// Whether there was anyone.
    fn kill_fast(&self, strike: &Strike) -> bool {
        let Some(trunk) = self.trunks.get(&strike.id).filter(|_| strike.signals == [signal::SIGKILL]) else {
            return false;
        };
        // Whatever fails here is met again when the members are struck one by one.
        let group = trunk.leader.is_some_and(|leader| signal::send_group(leader, signal::SIGKILL).is_ok());
        let cgroup = trunk.cgroup.as_ref().filter(|_| strike.scope == Scope::Tree);
        let populated = cgroup.is_some_and(Cgroup::is_populated);
        if let Some(cgroup) = cgroup {
            cgroup.kill();
        }
        group || populated
    }

    /// All processes that belong to a port.
    fn members(&mut self, in_flight: &[Pid]) -> io::Result<HashMap<PortId, Vec<Process>>> {
        let processes = proc::scan()?;
        // Whoever was adopted since then has been seen below its old parent, or is seen the next time.
        self.look(in_flight);
        let mut members: HashMap<PortId, Vec<Process>> = HashMap::new();
        for (root, process) in below(self.own, &processes) {
            let id = match Pid::new(root.pid).and_then(|pid| self.leaders.get(&pid)) {
                Some(id) => *id,
                None => match self.orphans.owner(root.pid) {
                    Some(Owner::Port(id)) => id,
                    Some(Owner::Stray) => STRAYS,
                    Some(Owner::Left) | None => continue,
                },
            };
            members.entry(id).or_default().push(*process);
        }
        self.orphans.remember(&members);
        Ok(members)
    }

    /// What can be done without knowing any process but the program.
    fn strike_group(&self, strike: &Strike) -> io::Result<()> {
        let leader = self.leader(strike.id).ok_or_else(|| io::Error::from_raw_os_error(errno::ESRCH))?;
        strike.signals.iter().try_for_each(|number| signal::send_group(leader, *number))
    }

    fn strike_one(&self, blow: &Strike, members: &HashMap<PortId, Vec<Process>>) -> io::Result<()> {
        let trunk = self.trunks.get(&blow.id);
        let nobody = |result: &io::Result<()>| matches!(result, Err(error) if error.raw_os_error() == Some(errno::ESRCH));
        let mut result = Err(io::Error::from_raw_os_error(errno::ESRCH));
        let mut note = |sent: io::Result<()>| {
            if nobody(&result) || sent.is_ok() {
                result = sent;
            }
        };
        for process in members.get(&blow.id).into_iter().flatten().filter(|process| !process.is_dead()) {
            if blow.scope == Scope::Tree || trunk.is_some_and(|trunk| process.group == trunk.session) {
                note(strike(self.own, process, blow.signals));
            }
        }
        if let (Some(cgroup), Scope::Tree) = (trunk.and_then(|trunk| trunk.cgroup.as_ref()), blow.scope) {
            note(cgroup.strike(blow.signals));
        }
        result
    }
}

fn owner(id: PortId) -> Owner {
    if id == STRAYS {
        Owner::Stray
    } else {
        Owner::Port(id)
    }
}
