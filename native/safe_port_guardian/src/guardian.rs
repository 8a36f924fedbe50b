//! The loop.

mod requests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use safe_port_os::poll::{poll, Notify, PollFd};
use safe_port_os::process::{own_pid, Pid};
use safe_port_os::signal::{self, ChildNews, SIGCONT, SIGKILL, SIGTERM};
use safe_port_os::tally::Tally;
use safe_port_os::wait::Ended;
use safe_port_wire::{Event, PortId, Usage};

use crate::cookie::Realm;
use crate::inbox::Inbox;
use crate::life::{Blow, Legacy, Life, GRACE_WITHOUT_VM};
use crate::lull::Lull;
use crate::outbox::Outbox;
use crate::spawners::{News, Spawners};
use crate::tree::{Scope, Strike, Tree, STRAYS};

/// How long the guardian waits, once the VM is gone, for starts that hang before it leaves them to the sentinel.
const PATIENCE_WITHOUT_VM: Duration = Duration::from_millis(2 * GRACE_WITHOUT_VM.as_millis() as u64);
/// How often trees are looked at whose end goes unnoticed.
const BLIND_PAUSE: Duration = Duration::from_millis(100);
/// How often in a row orphans are looked for while trees are being killed.
const CHASES: usize = 100;

/// How the guardian has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to watch.
    Done,
    /// Something is, which it could not end: starts that hang.
    GaveUp,
}

/// A signal that waits for the next look at all processes.
struct Pending {
    strike: Strike,
    /// Whom to tell how it went.
    ticket: Option<u64>,
}

/// The guardian of one VM.
pub struct Guardian {
    realm: Realm,
    inbox: Inbox,
    /// The programs asked for so far; the VM reads it when this guardian is gone.
    tally: Tally,
    outbox: Arc<Outbox>,
    wake: Arc<Notify>,
    child_news: ChildNews,
    spawners: Spawners,
    tree: Tree,
    lives: HashMap<PortId, Life>,
    /// The time since the last program.
    lull: Lull,
    timers: BTreeSet<(Instant, PortId)>,
    /// What each port's entry in `timers` is.
    armed: HashMap<PortId, Instant>,
    /// Ports whose program has ended, but not all of their tree.
    leaderless: HashSet<PortId>,
    /// Ports that were closed before their program was started.
    awaited: HashSet<PortId>,
    pending: Vec<Pending>,
    /// When processes may be looked at next: as long after the last time as that took.
    rested: Instant,
    vm_gone: Option<Instant>,
    swept: HashSet<Vec<u8>>,
}

impl Guardian {
    /// The guardian of the VM at the other end of `socket`. Announces itself there, and counts in `tally` the programs that
    /// it is asked for.
    ///
    /// Must be made by the main thread, with all signals blocked and none ignored.
    pub fn new(realm: Realm, socket: OwnedFd, tally: Tally) -> io::Result<Guardian> {
        let wake = Arc::new(Notify::new()?);
        let outbox = Arc::new(Outbox::new(socket, Arc::clone(&wake)));
        let guardian = Guardian {
            realm,
            inbox: Inbox::default(),
            tally,
            spawners: Spawners::new(Arc::clone(&outbox), Arc::clone(&wake)),
            child_news: ChildNews::new()?,
            tree: Tree::new(realm),
            lives: HashMap::new(),
            lull: Lull::default(),
            timers: BTreeSet::new(),
            armed: HashMap::new(),
            leaderless: HashSet::new(),
            awaited: HashSet::new(),
            pending: Vec::new(),
            rested: Instant::now(),
            vm_gone: None,
            swept: HashSet::new(),
            outbox,
            wake,
        };
        guardian.spawners.wake_for_news(Tree::BLIND);
        guardian.outbox.send(&[Event::Ready { os_pid: own_pid() as u32 }]);
        Ok(guardian)
    }

    /// Works until the VM is gone and everything has ended.
    pub fn run(mut self) -> io::Result<Outcome> {
        loop {
            let (news, deaths, requests, room) = self.wait()?;
            if news {
                self.wake.drain();
            }
            self.hear_news(None);
            if deaths {
                self.child_news.drain();
            }
            if deaths || Tree::BLIND {
                self.bury_the_dead()?;
            }
            if requests && self.vm_gone.is_none() {
                self.receive();
            }
            if room {
                self.outbox.flush();
            }
            self.tick();
            self.strike();
            if let Some(outcome) = self.outcome() {
                return Ok(outcome);
            }
        }
    }

    /// Until something happens: news from spawners, a death, requests, room in the socket, or the time for something.
    fn wait(&mut self) -> io::Result<(bool, bool, bool, bool)> {
        let now = Instant::now();
        let strikes = (!self.pending.is_empty()).then_some(self.rested);
        let blind = (Tree::BLIND && !self.leaderless.is_empty()).then_some(now + BLIND_PAUSE);
        let giving_up = self.vm_gone.map(|since| since + PATIENCE_WITHOUT_VM).filter(|at| *at > now);
        let timer = self.timers.first().map(|(at, _)| *at);
        let deadlines = [timer, strikes, blind, giving_up, self.spawners.relieve(now)];
        let timeout = deadlines.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
        // A VM that is gone leaves a socket that is always readable.
        let (listens, speaks) = (self.vm_gone.is_none(), self.vm_gone.is_none() && self.outbox.is_pending());
        let mut fds = [
            PollFd::new(self.wake.as_fd(), true, false),
            PollFd::new(self.child_news.as_fd(), true, false),
            PollFd::new(self.outbox.as_fd(), listens, speaks),
        ];
        let watched = if listens { &mut fds[..] } else { &mut fds[..2] };
        let mut ready = 0;
        while ready == 0 && self.lull.is_awake(Instant::now()) {
            ready = poll(watched, Some(Duration::ZERO))?;
        }
        if ready == 0 {
            poll(watched, timeout)?;
        }
        Ok((fds[0].readable(), fds[1].readable(), fds[2].readable(), speaks && fds[2].writable()))
    }

    /// What has become of programs to be started.
    fn hear_news(&mut self, dead: Option<Pid>) {
        for news in self.spawners.collect(dead) {
            let (News::Started(id, _) | News::Failed(id)) = news;
            if self.awaited.remove(&id) && self.awaited.is_empty() {
                self.spawners.wake_for_news(Tree::BLIND || self.vm_gone.is_some());
            }
            match news {
                News::Started(id, pid) => {
                    // Heard twice if its death was faster than its spawner.
                    if let Some(life) = self.lives.get_mut(&id).filter(|life| life.is_starting()) {
                        life.started();
                        self.tree.started(id, pid);
                        self.arm(id);
                    }
                }
                News::Failed(id) => {
                    if self.lives.get(&id).is_some_and(Life::is_starting) {
                        self.forget(id);
                    }
                }
            }
        }
    }

    /// Reports and reaps the children that have ended.
    fn bury_the_dead(&mut self) -> io::Result<()> {
        while let Some(ended) = self.tree.next_death()? {
            self.hear_news(Some(ended.pid));
            // Before it is reaped: see `Orphans::look`.
            self.look();
            let id = self.tree.port_of(ended.pid);
            self.tree.bury(ended.pid);
            if let Some(id) = id {
                self.exited(id, &ended);
            }
        }
        self.chase();
        self.end_what_is_bare();
        Ok(())
    }

    fn exited(&mut self, id: PortId, ended: &Ended) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let legacy = life.exited(Instant::now());
        let Ended { status, user_us, system_us, max_rss_kib, .. } = *ended;
        let exited = Event::Exited { id, status, usage: Usage { user_us, system_us, max_rss_kib } };
        let left = legacy == Legacy::Leave;
        if left || self.tree.is_bare(id) {
            if left {
                self.tree.leave(id);
            }
            self.forget(id);
            // In one piece: the VM wakes up once.
            self.outbox.send(&[exited, Event::Ended { id }]);
        } else {
            self.outbox.send(&[exited]);
            self.leaderless.insert(id);
            self.arm(id);
        }
    }

    /// Looks for orphans. Those of trees that are being killed are killed. Whether there were any such.
    fn look(&mut self) -> bool {
        let in_flight = self.spawners.in_flight();
        let mut killed = false;
        for (pid, id) in self.tree.look(&in_flight) {
            if self.lives.get(&id).is_some_and(Life::is_killing) {
                // Our child, and only we reap it.
                killed |= signal::send(pid, SIGKILL).is_ok();
            }
        }
        killed
    }

    /// Keeps up with trees that go on forking while they are being killed.
    fn chase(&mut self) {
        if self.leaderless.iter().any(|id| self.lives.get(id).is_some_and(Life::is_killing)) {
            for _ in 0..CHASES {
                if !self.look() {
                    break;
                }
            }
        }
    }

    fn end_what_is_bare(&mut self) {
        let bare: Vec<PortId> = self.leaderless.iter().copied().filter(|id| self.tree.is_bare(*id)).collect();
        for id in bare {
            if self.lives.get_mut(&id).is_some_and(Life::emptied) {
                self.forget(id);
                self.outbox.send(&[Event::Ended { id }]);
            }
        }
    }

    /// The port is over.
    fn forget(&mut self, id: PortId) {
        self.lives.remove(&id);
        if self.lives.is_empty() {
            self.lull.begin(Instant::now());
        }
        self.leaderless.remove(&id);
        self.tree.fell(id);
        self.disarm(id);
    }

    /// Notes when the port's life has to be looked at next.
    fn arm(&mut self, id: PortId) {
        self.disarm(id);
        if let Some(at) = self.lives.get(&id).and_then(Life::deadline) {
            self.timers.insert((at, id));
            self.armed.insert(id, at);
        }
    }

    fn disarm(&mut self, id: PortId) {
        if let Some(at) = self.armed.remove(&id) {
            self.timers.remove(&(at, id));
        }
    }

    /// Does what the time has come for.
    fn tick(&mut self) {
        let now = Instant::now();
        if Tree::BLIND {
            self.end_what_is_bare();
        }
        self.mind_strays();
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            let signals: &[i32] = match self.lives.get_mut(&id).and_then(|life| life.due(now)) {
                Some(Blow::Terminate) => &[SIGTERM, SIGCONT],
                Some(Blow::Kill) => &[SIGKILL],
                None => &[],
            };
            if !signals.is_empty() {
                let strike = Strike { id, scope: Scope::Tree, signals };
                self.pending.push(Pending { strike, ticket: None });
            }
            self.arm(id);
        }
    }

    /// Processes that belong to no port end with the VM.
    fn mind_strays(&mut self) {
        let Some(since) = self.vm_gone else { return };
        if !self.lives.contains_key(&STRAYS) && !self.tree.is_bare(STRAYS) {
            self.lives.insert(STRAYS, Life::of_strays(since));
            self.leaderless.insert(STRAYS);
            self.arm(STRAYS);
        }
    }

    /// Sends what is to be sent, after one look at all processes. Whatever comes while one look follows the last too
    /// closely is served by the next.
    fn strike(&mut self) {
        let begun = Instant::now();
        if self.pending.is_empty() || begun < self.rested {
            return;
        }
        let in_flight = self.spawners.in_flight();
        let pending = std::mem::take(&mut self.pending);
        let strikes: Vec<Strike> = pending.iter().map(|pending| pending.strike).collect();
        let results = self.tree.strike(&strikes, &in_flight);
        for (pending, result) in pending.iter().zip(results) {
            if let Some(ticket) = pending.ticket {
                self.answer(pending.strike.id, ticket, &result);
            }
        }
        self.chase();
        self.end_what_is_bare();
        let now = Instant::now();
        self.rested = now + (now - begun);
    }

    fn answer(&self, id: PortId, ticket: u64, result: &io::Result<()>) {
        let errno = match result {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(safe_port_os::errno::EIO),
        };
        self.outbox.send(&[Event::Signalled { id, ticket, errno }]);
    }

    fn outcome(&self) -> Option<Outcome> {
        let since = self.vm_gone?;
        if self.lives.is_empty() && self.tree.is_bare(STRAYS) {
            return Some(Outcome::Done);
        }
        let hangs = self.lives.values().all(Life::is_starting) && since.elapsed() >= PATIENCE_WITHOUT_VM;
        hangs.then_some(Outcome::GaveUp)
    }
}
