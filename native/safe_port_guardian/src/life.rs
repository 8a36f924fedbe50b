//! How a port's tree comes to its end: decided here, done elsewhere.
//!
//! ```text
//! open ── close, or the program ends ──> waiting ── eof_timeout ──> terminating ── kill_timeout ──> killing ─┐
//!                                                                                                    ^───────┘
//! over: as soon as the program has ended and nothing else of the tree is left
//! ```

use std::time::{Duration, Instant};

use safe_port_wire::{Ending, Orphans};

/// What a tree gets between SIGTERM and SIGKILL at the most once the VM is gone.
pub const GRACE_WITHOUT_VM: Duration = Duration::from_secs(1);
/// How soon SIGKILL is repeated; the pause doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How long the pause gets: what SIGKILL cannot end must not keep a processor busy.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What to do to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGTERM, and SIGCONT so that stopped ones receive it.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// What follows from the end of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// The ending of what is left goes its way, if anything is left.
    End,
    /// What is left is left alone: the port is over.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    Starting,
    Runs,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// For the tree to end by itself; `None`: for ever.
    Waiting(Option<Instant>),
    Terminating(Instant),
    Killing {
        again: Instant,
        pause: Duration,
    },
    Over,
}

/// The life of one port's tree.
#[derive(Clone, Debug)]
pub struct Life {
    eof_timeout: Option<Duration>,
    kill_timeout: Duration,
    orphans: Orphans,
    leader: Leader,
    phase: Phase,
    vm_gone: bool,
}

impl Life {
    /// Of a tree whose program is about to be started.
    pub fn new(ending: Ending) -> Life {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        Life {
            eof_timeout: ending.eof_timeout_ms.map(ms),
            kill_timeout: ms(ending.kill_timeout_ms),
            orphans: ending.orphans,
            leader: Leader::Starting,
            phase: Phase::Open,
            vm_gone: false,
        }
    }

    /// Of processes that belong to no port and are to be ended with the VM.
    pub fn of_strays(now: Instant) -> Life {
        let ending = Ending { eof_timeout_ms: None, kill_timeout_ms: 0, orphans: Orphans::Kill };
        Life {
            kill_timeout: GRACE_WITHOUT_VM,
            leader: Leader::Gone,
            phase: Phase::Waiting(Some(now)),
            vm_gone: true,
            ..Life::new(ending)
        }
    }

    /// Whether the program is still to be started.
    pub fn is_starting(&self) -> bool {
        self.leader == Leader::Starting
    }

    /// Whether the program has ended.
    pub fn has_exited(&self) -> bool {
        self.leader == Leader::Gone
    }

    /// Whether its end has been begun, by whatever.
    pub fn is_ending(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether SIGKILL is being sent until nothing is left.
    pub fn is_killing(&self) -> bool {
        matches!(self.phase, Phase::Killing { .. })
    }

    /// The program runs.
    pub fn started(&mut self) {
        self.leader = Leader::Runs;
    }

    /// The VM has let go of the port.
    pub fn closed(&mut self, now: Instant) {
        if self.phase == Phase::Open {
            self.phase = Phase::Waiting(self.eof_timeout.map(|timeout| now + timeout));
        }
    }

    /// The VM is gone.
    pub fn vm_gone(&mut self, now: Instant) {
        self.vm_gone = true;
        self.kill_timeout = self.kill_timeout.min(GRACE_WITHOUT_VM);
        match &mut self.phase {
            Phase::Open | Phase::Waiting(_) => self.phase = Phase::Waiting(Some(now)),
            Phase::Terminating(until) => *until = (*until).min(now + GRACE_WITHOUT_VM),
            Phase::Killing { .. } | Phase::Over => {}
        }
    }

    /// The program has ended.
    pub fn exited(&mut self, now: Instant) -> Legacy {
        self.leader = Leader::Gone;
        let by_itself = matches!(self.phase, Phase::Open | Phase::Waiting(_)) && !self.vm_gone;
        if by_itself && self.orphans == Orphans::Leave {
            self.phase = Phase::Over;
            return Legacy::Leave;
        }
        self.closed(now);
        Legacy::End
    }

    /// Nothing beside the program is left. Whether that is the end.
    pub fn emptied(&mut self) -> bool {
        let over = self.leader == Leader::Gone && self.phase != Phase::Over;
        if over {
            self.phase = Phase::Over;
        }
        over
    }

    /// When to ask [`due`](Life::due) again; `None` if only an event can change anything.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            // There is nothing to signal yet.
            _ if self.is_starting() => None,
            Phase::Open | Phase::Over => None,
            Phase::Waiting(until) => until,
            Phase::Terminating(until) | Phase::Killing { again: until, .. } => Some(until),
        }
    }

    /// What the time has come for.
    pub fn due(&mut self, now: Instant) -> Option<Blow> {
        if self.deadline()? > now {
            return None;
        }
        match self.phase {
            Phase::Open | Phase::Over => None,
            Phase::Waiting(_) => {
                self.phase = Phase::Terminating(now + self.kill_timeout);
                Some(Blow::Terminate)
            }
            Phase::Terminating(_) => {
                self.phase = Phase::Killing { again: now + FIRST_PAUSE, pause: FIRST_PAUSE };
                Some(Blow::Kill)
            }
            Phase::Killing { pause, .. } => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                self.phase = Phase::Killing { again: now + pause, pause };
                Some(Blow::Kill)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDING: Ending =
        Ending { eof_timeout_ms: Some(1000), kill_timeout_ms: 5000, orphans: Orphans::Kill };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The blows a life deals from `from` on, with their times, until `until`, if nothing else happens.
    fn blows(life: &mut Life, from: Instant, until: Duration) -> Vec<(u64, Blow)> {
        let mut found = Vec::new();
        while let Some(at) = life.deadline().filter(|at| *at <= from + until) {
            let blow = life.due(at).expect("due at its deadline");
            found.push(((at - from).as_millis() as u64, blow));
        }
        found
    }

    fn running(ending: Ending) -> (Life, Instant) {
        let mut life = Life::new(ending);
        life.started();
        (life, Instant::now())
    }

    #[test]
    fn an_open_port_is_left_alone() {
        let (mut life, now) = running(ENDING);
        assert_eq!(life.deadline(), None);
        assert_eq!(life.due(now + ms(1_000_000)), None);
        assert!(!life.emptied());
    }

    #[test]
    fn a_close_leads_to_term_after_eof_timeout_and_to_kill_after_kill_timeout() {
        let (mut life, now) = running(ENDING);
        life.closed(now);
        assert_eq!(blows(&mut life, now, ms(6004)), [(1000, Blow::Terminate), (6000, Blow::Kill)]);
    }

    #[test]
    fn kill_is_repeated_with_growing_pauses_until_nothing_is_left() {
        let (mut life, now) = running(Ending { eof_timeout_ms: Some(0), kill_timeout_ms: 0, ..ENDING });
        life.closed(now);
        let times: Vec<u64> = blows(&mut life, now, ms(4000)).into_iter().skip(1).map(|(at, _)| at).collect();
        assert_eq!(times, [0, 5, 15, 35, 75, 155, 315, 635, 1275, 2275, 3275]);
        assert!(life.is_killing() && !life.emptied());
        life.exited(now + ms(4000));
        assert!(life.emptied());
        assert_eq!(life.deadline(), None);
    }

    #[test]
    fn a_tree_that_ends_by_itself_gets_no_signal() {
        let (mut life, now) = running(ENDING);
        life.closed(now);
        assert_eq!(life.exited(now + ms(10)), Legacy::End);
        assert!(life.emptied());
        assert!(!life.emptied(), "only once");
        assert_eq!(blows(&mut life, now, ms(100_000)), []);
    }

    #[test]
    fn descendants_of_a_program_that_ended_have_eof_timeout_from_then_on() {
        let (mut life, now) = running(ENDING);
        assert_eq!(life.exited(now), Legacy::End);
        life.closed(now + ms(500));
        assert_eq!(blows(&mut life, now, ms(6000)), [(1000, Blow::Terminate), (6000, Blow::Kill)]);
    }

    #[test]
    fn the_death_of_the_program_on_term_does_not_spare_the_others_the_kill() {
        let (mut life, now) = running(ENDING);
        life.closed(now);
        assert_eq!(life.due(now + ms(1000)), Some(Blow::Terminate));
        assert_eq!(life.exited(now + ms(1001)), Legacy::End);
        assert_eq!(life.due(now + ms(6000)), Some(Blow::Kill));
    }

    #[test]
    fn without_eof_timeout_a_close_never_signals() {
        let (mut life, now) = running(Ending { eof_timeout_ms: None, ..ENDING });
        life.closed(now);
        assert_eq!((life.deadline(), life.is_ending()), (None, true));
        life.exited(now);
        assert_eq!(life.deadline(), None);
        assert!(life.emptied());
    }

    #[test]
    fn descendants_are_left_only_by_a_program_that_ended_by_itself() {
        let leave = Ending { orphans: Orphans::Leave, ..ENDING };
        let (mut life, now) = running(leave);
        assert_eq!((life.exited(now), life.deadline()), (Legacy::Leave, None));
        let (mut life, now) = running(leave);
        life.closed(now);
        assert_eq!(life.exited(now + ms(999)), Legacy::Leave);
        let (mut life, now) = running(leave);
        life.closed(now);
        life.due(now + ms(1000));
        assert_eq!(life.exited(now + ms(1001)), Legacy::End);
        let (mut life, now) = running(leave);
        life.vm_gone(now);
        assert_eq!(life.exited(now), Legacy::End);
    }

    #[test]
    fn without_the_vm_term_comes_at_once_and_kill_after_a_second_at_the_most() {
        for (kill_timeout_ms, kill) in [(5000, 1000), (1000, 1000), (200, 200)] {
            for eof_timeout_ms in [None, Some(1000)] {
                let (mut life, now) = running(Ending { eof_timeout_ms, kill_timeout_ms, ..ENDING });
                life.vm_gone(now);
                assert_eq!(blows(&mut life, now, ms(kill + 4)), [(0, Blow::Terminate), (kill, Blow::Kill)]);
            }
        }
    }

    #[test]
    fn a_grace_that_runs_already_is_cut_to_a_second_when_the_vm_goes() {
        let (mut life, now) = running(ENDING);
        life.closed(now);
        life.due(now + ms(1000));
        life.vm_gone(now + ms(1500));
        assert_eq!(blows(&mut life, now, ms(2504)), [(2500, Blow::Kill)]);
        let (mut life, now) = running(ENDING);
        life.closed(now);
        life.due(now + ms(1000));
        life.vm_gone(now + ms(5900));
        assert_eq!(blows(&mut life, now, ms(6004)), [(6000, Blow::Kill)]);
    }

    #[test]
    fn a_program_that_is_being_started_is_ended_once_it_runs() {
        let now = Instant::now();
        let mut life = Life::new(ENDING);
        life.vm_gone(now);
        assert_eq!(life.deadline(), None);
        life.started();
        assert_eq!(life.due(now), Some(Blow::Terminate));
    }

    #[test]
    fn strays_are_terminated_at_once_and_killed_after_a_second() {
        let now = Instant::now();
        let mut life = Life::of_strays(now);
        assert_eq!(blows(&mut life, now, ms(1004)), [(0, Blow::Terminate), (1000, Blow::Kill)]);
        assert!(life.emptied());
    }
}
