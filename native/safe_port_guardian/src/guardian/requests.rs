//! What the VM asks for, and that it is gone.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use safe_port_os::{errno, signal};
use safe_port_wire::{PortId, Request, Spawn, Target};

use super::{Guardian, Pending};
use crate::inbox::Batch;
use crate::life::Life;
use crate::spawners::Job;
use crate::tree::{Cgroup, Scope, Strike};

/// All signals by number, so that a [`Strike`] can borrow one.
static NUMBERS: [i32; 65] = {
    let mut numbers = [0; 65];
    let mut number = 0;
    while number < 65 {
        numbers[number] = number as i32;
        number += 1;
    }
    numbers
};

impl Guardian {
    /// Receives and does what the VM asks for.
    pub(super) fn receive(&mut self) {
        let mut requests = Vec::new();
        let socket = self.outbox.as_fd();
        let there = self.inbox.receive(socket, |request, batch| requests.push((request, batch)));
        for (request, batch) in requests {
            match request {
                Request::Spawn(spawn) => self.spawn(spawn, batch),
                Request::Close { id } => self.close(id),
                Request::Signal { id, ticket, signal, target } => self.signal(id, ticket, signal, target),
            }
        }
        if !there {
            self.lose_vm();
        }
    }

    fn spawn(&mut self, spawn: Box<Spawn>, batch: Batch) {
        // Before anything is done about it: what is not counted when the guardian is gone was never begun.
        self.tally.count();
        let now = Instant::now();
        self.lull.end(now);
        let parent = spawn.cgroup.as_deref().map(|path| Path::new(OsStr::from_bytes(path)));
        if let Some(parent) = parent {
            if self.realm.generation > 1 && self.swept.insert(parent.as_os_str().as_bytes().to_vec()) {
                Cgroup::sweep(parent, self.realm);
            }
        }
        let cgroup = self.tree.plant(spawn.id, &batch.fds, parent);
        self.lives.insert(spawn.id, Life::new(spawn.ending));
        self.spawners.submit(Job::new(spawn, batch, self.realm, cgroup), now);
    }

    fn close(&mut self, id: PortId) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.closed(Instant::now());
            if life.is_starting() {
                // Its ending goes on once it runs.
                self.awaited.insert(id);
                self.spawners.wake_for_news(true);
            }
            self.arm(id);
        }
    }

    fn signal(&mut self, id: PortId, ticket: u64, number: i32, target: Target) {
        let gone = || io::Error::from_raw_os_error(errno::ESRCH);
        // It may run already; that the VM knows of it means that the news are there.
        self.hear_news(None);
        let leader = self.tree.leader(id);
        let scope = match (target, leader) {
            (Target::Leader, leader) => {
                let sent = leader.ok_or_else(gone).and_then(|leader| signal::send(leader, number));
                return self.answer(id, ticket, &sent);
            }
            // Not reaped, so the group is what it was.
            (Target::Group, Some(leader)) => {
                return self.answer(id, ticket, &signal::send_group(leader, number));
            }
            (Target::Group, None) => Scope::Group,
            (Target::Tree, _) => Scope::Tree,
        };
        if !self.lives.contains_key(&id) {
            return self.answer(id, ticket, &Err(gone()));
        }
        match usize::try_from(number).ok().and_then(|index| NUMBERS.get(index..=index)) {
            Some(signals) => {
                let strike = Strike { id, scope, signals };
                self.pending.push(Pending { strike, ticket: Some(ticket) });
            }
            None => self.answer(id, ticket, &Err(io::Error::from_raw_os_error(errno::EINVAL))),
        }
    }

    /// The VM is gone, and everything goes with it.
    fn lose_vm(&mut self) {
        let now = Instant::now();
        self.vm_gone = Some(now);
        for id in self.spawners.cancel() {
            self.forget(id);
        }
        // The end may come with one of these.
        self.spawners.wake_for_news(true);
        let ids: Vec<PortId> = self.lives.keys().copied().collect();
        for id in ids {
            if let Some(life) = self.lives.get_mut(&id) {
                life.vm_gone(now);
            }
            self.arm(id);
        }
        // Those that were adopted since the last death.
        self.look();
    }
}
