//! The processes that the guardian has adopted, and whose they are.

use std::collections::{HashMap, HashSet};

use safe_port_os::process::Pid;
use safe_port_wire::{Orphans as Fate, PortId};

use super::{Cgroup, STRAYS};
use crate::cookie::{cookies, Realm};
use crate::proc::{self, Children, Process};

/// Sessions that are remembered beyond those of living orphans and programs, before the others are forgotten.
const SPARE_SESSIONS: usize = 256;

/// What a port's tree grows from.
pub struct Trunk {
    /// A moment before its program was started, in clock ticks since boot.
    pub begun: u64,
    /// Its program, unless it is reaped or still to be started.
    pub leader: Option<Pid>,
    /// The session and the process group of its program; 0 if there never was one.
    pub session: i32,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
}

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A port's.
    Port(PortId),
    /// Nobody's: a port that is over was to leave it.
    Left,
    /// One of the ports', but which cannot be said.
    Stray,
}

/// Which ports' programs were given a pipe.
enum Holder {
    One(PortId),
    /// Several, now or before: it is the VM's own and tells nothing.
    Several,
}

/// All orphans.
pub struct Orphans {
    realm: Realm,
    /// `None` where the kernel has no such list: then all processes are looked at.
    children: Option<Children>,
    /// By number: whose it is, and its session.
    adopted: HashMap<i32, (Owner, i32)>,
    counts: HashMap<Owner, usize>,
    /// Whose the members of a session are.
    sessions: HashMap<i32, Owner>,
    /// Whose the processes were that the last look at all of them found, by number and start.
    seen: HashMap<(i32, u64), PortId>,
    /// The pipes that programs were given, by inode.
    pipes: HashMap<u64, Holder>,
}

impl Orphans {
    /// None yet.
    pub fn new(realm: Realm) -> Orphans {
        Orphans {
            realm,
            children: Children::open().ok(),
            adopted: HashMap::new(),
            counts: HashMap::new(),
            sessions: HashMap::new(),
            seen: HashMap::new(),
            pipes: HashMap::new(),
        }
    }

    /// Whose the orphan is.
    pub fn owner(&self, pid: i32) -> Option<Owner> {
        self.adopted.get(&pid).map(|(owner, _)| *owner)
    }

    /// How many orphans are `owner`'s.
    pub fn count(&self, owner: Owner) -> usize {
        self.counts.get(&owner).copied().unwrap_or(0)
    }

    /// Members of this session are `owner`'s.
    pub fn add_session(&mut self, session: i32, owner: Owner) {
        self.sessions.insert(session, owner);
    }

    /// The program of `id` is given these pipes.
    pub fn add_pipes(&mut self, id: PortId, inodes: &[u64]) {
        for inode in inodes {
            let holder = self.pipes.entry(*inode).or_insert(Holder::One(id));
            if !matches!(holder, Holder::One(only) if *only == id) {
                *holder = Holder::Several;
            }
        }
    }

    /// The orphan is reaped.
    pub fn remove(&mut self, pid: i32) {
        if let Some((owner, _)) = self.adopted.remove(&pid) {
            self.uncount(owner);
        }
    }

    /// Finds new orphans below `own`: children that are not `known` as programs. Returns those of ports and strays.
    ///
    /// To be called before a child is reaped: whoever was adopted at its death is then seen while all that is known of
    /// that child still is.
    pub fn look(
        &mut self,
        own: i32,
        trunks: &HashMap<PortId, Trunk>,
        known: impl Fn(Pid) -> bool,
    ) -> Vec<(Pid, PortId)> {
        let mut found = Vec::new();
        for pid in self.children(own, known) {
            let (Some(number), false) = (Pid::new(pid), self.adopted.contains_key(&pid)) else { continue };
            // Unreaped as it is, it cannot have gone.
            let Some(process) = Process::read(pid) else { continue };
            let owner = self.owner_of(&process, trunks);
            self.adopted.insert(pid, (owner, process.session));
            *self.counts.entry(owner).or_default() += 1;
            if owner != Owner::Stray {
                self.sessions.insert(process.session, owner);
            }
            match owner {
                Owner::Port(id) => found.push((number, id)),
                Owner::Stray => found.push((number, STRAYS)),
                Owner::Left => {}
            }
        }
        if self.sessions.len() > SPARE_SESSIONS + 2 * (self.adopted.len() + trunks.len()) {
            self.forget_sessions(trunks);
        }
        found
    }

    /// Children that are no programs.
    fn children(&mut self, own: i32, known: impl Fn(Pid) -> bool) -> Vec<i32> {
        if let Some(Ok(children)) = self.children.as_mut().map(Children::read) {
            // Programs are children of the spawners, orphans of the main thread.
            return children;
        }
        let processes = proc::scan().unwrap_or_default();
        let children = processes.iter().filter(|process| process.parent == own && !process.is_dead());
        children.map(|process| process.pid).filter(|pid| !Pid::new(*pid).is_none_or(&known)).collect()
    }

    fn owner_of(&self, process: &Process, trunks: &HashMap<PortId, Trunk>) -> Owner {
        if let Some(owner) = self.sessions.get(&process.session) {
            return *owner;
        }
        let seen = self.seen.get(&(process.pid, process.start));
        if let Some(id) = seen.filter(|id| trunks.contains_key(id)) {
            return Owner::Port(*id);
        }
        // An error if it changed its user: then it may be of the only port that can have it.
        let environ = proc::environ(process.pid).unwrap_or_default();
        if let Some(cookie) = cookies(&environ).find(|cookie| cookie.realm == self.realm) {
            return match (trunks.contains_key(&cookie.id), cookie.orphans) {
                (true, _) => Owner::Port(cookie.id),
                (false, Fate::Leave) => Owner::Left,
                (false, Fate::Kill) => Owner::Stray,
            };
        }
        self.holder(process).unwrap_or_else(|| self.only_candidate(process, trunks))
    }

    /// Whose pipes it still has open, if those of one port.
    fn holder(&self, process: &Process) -> Option<Owner> {
        let holders =
            proc::pipes(process.pid).into_iter().filter_map(|inode| match self.pipes.get(&inode)? {
                Holder::One(id) => Some(*id),
                Holder::Several => None,
            });
        let ports: HashSet<PortId> = holders.collect();
        let mut ports = ports.into_iter();
        match (ports.next(), ports.next()) {
            (Some(id), None) => Some(Owner::Port(id)),
            _ => None,
        }
    }

    /// Without a trace: the port that was there when the process was started, if there was only one.
    fn only_candidate(&self, process: &Process, trunks: &HashMap<PortId, Trunk>) -> Owner {
        let mut candidates = trunks.iter().filter(|(_, trunk)| trunk.begun <= process.start);
        match (candidates.next(), candidates.next(), self.count(Owner::Left)) {
            (Some((id, _)), None, 0) => Owner::Port(*id),
            _ => Owner::Stray,
        }
    }

    /// Remembers who was found to belong to whom.
    pub fn remember(&mut self, members: &HashMap<PortId, Vec<Process>>) {
        self.seen.clear();
        for (id, processes) in members.iter().filter(|(id, _)| **id != STRAYS) {
            for process in processes {
                self.seen.insert((process.pid, process.start), *id);
                self.sessions.entry(process.session).or_insert(Owner::Port(*id));
            }
        }
    }

    /// What the port still has is nobody's from now on.
    pub fn leave(&mut self, id: PortId) {
        for (owner, _) in self.adopted.values_mut().filter(|(owner, _)| *owner == Owner::Port(id)) {
            *owner = Owner::Left;
        }
        let left = self.counts.remove(&Owner::Port(id)).unwrap_or(0);
        if left > 0 {
            *self.counts.entry(Owner::Left).or_default() += left;
            for owner in self.sessions.values_mut().filter(|owner| **owner == Owner::Port(id)) {
                *owner = Owner::Left;
            }
        }
    }

    /// The port is over.
    pub fn fell(&mut self, id: PortId) {
        self.sessions.retain(|_, owner| *owner != Owner::Port(id));
        self.seen.retain(|_, owner| *owner != id);
        self.pipes.retain(|_, holder| !matches!(holder, Holder::One(only) if *only == id));
    }

    fn uncount(&mut self, owner: Owner) {
        if let Some(count) = self.counts.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&owner);
            }
        }
    }

    fn forget_sessions(&mut self, trunks: &HashMap<PortId, Trunk>) {
        let orphans = self.adopted.values().map(|(_, session)| *session);
        let living: HashSet<i32> = orphans.chain(trunks.values().map(|trunk| trunk.session)).collect();
        self.sessions.retain(|session, _| living.contains(session));
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use safe_port_os::process::own_pid;
    use safe_port_wire::Orphans as Fate;

    use super::*;
    use crate::cookie::Cookie;

    const REALM: Realm = Realm { vm: 7, generation: 3 };
    const A: PortId = PortId(1);
    const B: PortId = PortId(2);

    fn trunk(begun: u64) -> Trunk {
        Trunk { begun, leader: None, session: 0, cgroup: None }
    }

    /// A child of this process, which stands for one that was adopted.
    struct Orphan(Child);

    impl Orphan {
        fn start(cookie: Option<Cookie>) -> Orphan {
            let mut command = Command::new("sleep");
            command.arg("600").env_clear();
            if let Some(cookie) = cookie {
                command.env(safe_port_wire::COOKIE_NAME, cookie.text());
            }
            Orphan(command.spawn().expect("started"))
        }

        fn process(&self) -> Process {
            Process::read(self.0.id() as i32).expect("it runs")
        }
    }

    impl Drop for Orphan {
        fn drop(&mut self) {
            self.0.kill().expect("killed");
            self.0.wait().expect("reaped");
        }
    }

    fn cookie(id: PortId, orphans: Fate) -> Cookie {
        Cookie { realm: REALM, id, orphans }
    }

    #[test]
    fn an_orphan_is_known_by_its_cookie() {
        let (orphans, trunks) = (Orphans::new(REALM), HashMap::from([(A, trunk(0)), (B, trunk(0))]));
        let owner = |cookie| orphans.owner_of(&Orphan::start(Some(cookie)).process(), &trunks);
        assert_eq!(owner(cookie(B, Fate::Kill)), Owner::Port(B));
        assert_eq!(owner(cookie(B, Fate::Leave)), Owner::Port(B), "as long as the port is there");
        assert_eq!(owner(cookie(PortId(9), Fate::Leave)), Owner::Left);
        assert_eq!(owner(cookie(PortId(9), Fate::Kill)), Owner::Stray);
        let other = Cookie { realm: Realm { vm: 8, ..REALM }, ..cookie(B, Fate::Kill) };
        assert_eq!(owner(other), Owner::Stray, "another VM's says nothing");
    }

    #[test]
    fn an_orphan_is_known_by_its_session_and_by_an_earlier_look() {
        let mut orphans = Orphans::new(REALM);
        let trunks = HashMap::from([(A, trunk(0)), (B, trunk(0))]);
        let orphan = Orphan::start(None);
        let process = orphan.process();
        assert_eq!(orphans.owner_of(&process, &trunks), Owner::Stray);
        orphans.remember(&HashMap::from([(A, vec![Process { session: 4711, ..process }])]));
        assert_eq!(orphans.owner_of(&process, &trunks), Owner::Port(A));
        let reused = Process { start: process.start + 1, ..process };
        assert_eq!(orphans.owner_of(&reused, &trunks), Owner::Stray, "its number alone says nothing");
        orphans.add_session(process.session, Owner::Port(B));
        assert_eq!(orphans.owner_of(&process, &trunks), Owner::Port(B));
        orphans.fell(B);
        orphans.fell(A);
        assert_eq!(orphans.owner_of(&process, &trunks), Owner::Stray);
    }

    #[test]
    fn an_orphan_without_a_trace_is_that_of_the_only_port_old_enough() {
        let orphan = Orphan::start(None);
        let process = orphan.process();
        let (old, young) = (|| trunk(process.start), || trunk(process.start + 1));
        let mut orphans = Orphans::new(REALM);
        let owner = |trunks| {
            let trunks = HashMap::from(trunks);
            orphans.owner_of(&process, &trunks)
        };
        assert_eq!(owner([(A, old()), (B, young())]), Owner::Port(A));
        assert_eq!(owner([(A, old()), (B, old())]), Owner::Stray);
        assert_eq!(owner([(A, young()), (B, young())]), Owner::Stray);
        orphans.counts.insert(Owner::Left, 1);
        let trunks = HashMap::from([(A, old())]);
        assert_eq!(orphans.owner_of(&process, &trunks), Owner::Stray, "it may be below one that was left");
    }

    #[test]
    fn a_pipe_that_several_ports_have_had_says_nothing() {
        let (reader, writer) = safe_port_os::pipe::pipe().expect("a pipe");
        let inode =
            safe_port_os::pipe::inode(std::os::fd::AsFd::as_fd(&reader)).expect("open").expect("a pipe");
        let child = Command::new("sleep").arg("600").env_clear().stdout(writer).spawn().expect("started");
        let process = Orphan(child);
        let trunks = HashMap::from([(A, trunk(0)), (B, trunk(0))]);
        let mut orphans = Orphans::new(REALM);
        orphans.add_pipes(A, &[inode]);
        assert_eq!(orphans.owner_of(&process.process(), &trunks), Owner::Port(A));
        orphans.add_pipes(B, &[inode]);
        orphans.fell(A);
        assert_eq!(orphans.owner_of(&process.process(), &trunks), Owner::Stray);
    }

    #[test]
    fn orphans_are_found_without_a_list_of_children_too() {
        let orphan = Orphan::start(Some(cookie(A, Fate::Kill)));
        let pid = orphan.process().pid;
        let trunks = HashMap::from([(A, trunk(0))]);
        let mut orphans = Orphans { children: None, ..Orphans::new(REALM) };
        // Children of other tests beside this one are programs here.
        let others = |known: Pid| known.get() != pid;
        let found = orphans.look(own_pid(), &trunks, others);
        assert_eq!(found, [(Pid::new(pid).expect("a process"), A)]);
        assert_eq!(orphans.count(Owner::Port(A)), 1);
        assert_eq!(orphans.look(own_pid(), &trunks, others), [], "each is new once");
        orphans.leave(A);
        assert_eq!((orphans.count(Owner::Port(A)), orphans.owner(pid)), (0, Some(Owner::Left)));
        orphans.remove(pid);
        assert_eq!(orphans.owner(pid), None);
    }
}
