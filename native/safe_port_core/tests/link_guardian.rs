//! The link and the real guardian together.
#![cfg(target_os = "linux")]

mod link_support;

use std::io::Read;
use std::path::PathBuf;

use link_support::{guardian, output, program, read_to_end, refused, shell, sleeper, Port, Process};
use safe_port_core::link::{Exit, Link, LinkConfig, LinkEvent};
use safe_port_os::errno;
use safe_port_os::signal::{SIGCONT, SIGKILL, SIGTERM};
use safe_port_wire::{Spawn, Stage, Target};

const SIGSTOP: i32 = 19;

#[test]
fn a_program_runs_exits_and_is_over() {
    let link = guardian();
    let port = Port::open(&link, shell("exit 3"));
    port.spawned();
    assert_eq!(port.exited(), Exit::Code(3));
    assert_eq!(port.rest(), [LinkEvent::Ended]);
    assert_eq!(link.generation(), 1);
}

#[test]
fn a_program_has_the_descriptors_that_were_passed() {
    let link = guardian();
    let (reader, writer) = output();
    let spawn = Spawn { fds: vec![7], ..shell("echo $PPID >&7") };
    let port = Port::open_with(&link, spawn, vec![writer]);
    port.spawned();
    let parent = read_to_end(reader);
    assert_eq!(parent.trim().parse().ok(), link.guardian_pid());
}

#[test]
fn an_exit_by_signal_tells_the_signal_and_what_was_used() {
    let link = guardian();
    let port = Port::open(&link, shell("kill -9 $$"));
    port.spawned();
    let LinkEvent::Exited { exit, usage } = port.next() else { panic!("expected an exit") };
    assert_eq!(exit, Exit::Signal { number: 9, core_dumped: false });
    assert_eq!(exit.status(), 137);
    assert!(usage.max_rss_kib > 0);
}

#[test]
fn what_cannot_be_started_is_refused_with_its_reason() {
    let link = guardian();
    let missing = Port::open(&link, program(&["/nowhere/to/be/found"]));
    assert_eq!(missing.rest(), [refused(Stage::Exec, errno::ENOENT)]);
    let folder = Spawn { dir: Some(b"/nowhere".to_vec()), ..program(&["/bin/true"]) };
    assert_eq!(Port::open(&link, folder).rest(), [refused(Stage::Chdir, errno::ENOENT)]);
    let too_long = program(&["/bin/true", &"x".repeat(200_000)]);
    assert_eq!(Port::open(&link, too_long).rest(), [refused(Stage::Exec, errno::E2BIG)]);
}

#[test]
fn arguments_of_two_megabytes_arrive() {
    let link = guardian();
    let (reader, writer) = output();
    let word = "x".repeat(100_000);
    let mut words = vec!["/bin/sh", "-c", "echo $# ${#20}", "sh"];
    words.extend([word.as_str(); 20]);
    // Others in between, so that events come while the long one is sent.
    let others: Vec<Port> = (0..20).map(|_| Port::open(&link, program(&["/bin/true"]))).collect();
    let port = Port::open_with(&link, Spawn { fds: vec![1], ..program(&words) }, vec![writer]);
    let more: Vec<Port> = (0..20).map(|_| Port::open(&link, program(&["/bin/true"]))).collect();
    port.spawned();
    assert_eq!(read_to_end(reader), "20 100000\n");
    for port in others.iter().chain(&more) {
        port.spawned();
        assert_eq!(port.exited(), Exit::Code(0));
    }
}

#[test]
fn a_closed_port_ends() {
    let link = guardian();
    let port = Port::open(&link, sleeper());
    port.spawned();
    link.close(port.id);
    assert_eq!(port.exited(), Exit::Signal { number: SIGTERM as u8, core_dumped: false });
    assert_eq!(port.rest(), [LinkEvent::Ended]);
}

#[test]
fn a_port_that_is_closed_before_its_program_is_started_ends() {
    let link = guardian();
    let warm = Port::open(&link, sleeper());
    warm.spawned();
    let process = Process::guardian(&link);
    process.signal(SIGSTOP);
    let port = Port::open(&link, sleeper());
    link.close(port.id);
    process.signal(SIGCONT);
    port.spawned();
    assert_eq!(port.exited(), Exit::Signal { number: SIGTERM as u8, core_dumped: false });
    assert_eq!(port.rest(), [LinkEvent::Ended]);
}

#[test]
fn a_spawn_takes_as_long_as_the_guardian_hangs() {
    let link = guardian();
    Port::open(&link, program(&["/bin/true"])).rest();
    let process = Process::guardian(&link);
    process.signal(SIGSTOP);
    let ports: Vec<Port> = (0..100).map(|_| Port::open(&link, program(&["/bin/true"]))).collect();
    assert!(ports.iter().all(|port| port.events.is_empty()));
    process.signal(SIGCONT);
    for port in ports {
        port.spawned();
        assert_eq!(port.exited(), Exit::Code(0));
    }
    assert_eq!(link.generation(), 1);
}

#[test]
fn a_signal_is_answered() {
    let link = guardian();
    let port = Port::open(&link, sleeper());
    port.spawned();
    link.signal(port.id, 41, 0, Target::Tree);
    assert_eq!(port.next(), LinkEvent::Signalled { ticket: 41, errno: 0 });
    link.signal(port.id, 42, SIGKILL, Target::Leader);
    assert_eq!(port.next(), LinkEvent::Signalled { ticket: 42, errno: 0 });
    assert_eq!(port.exited(), Exit::Signal { number: 9, core_dumped: false });
    assert_eq!(port.rest(), [LinkEvent::Ended]);
}

#[test]
fn without_an_executable_every_spawn_is_refused() {
    for (path, errno) in [("/nowhere/guardian", errno::ENOENT), ("/etc/passwd", errno::EACCES)] {
        let link = Link::new(LinkConfig { guardian: PathBuf::from(path) });
        for _ in 0..3 {
            let port = Port::open(&link, program(&["/bin/true"]));
            assert_eq!(port.rest(), [refused(Stage::Fork, errno)]);
        }
        assert_eq!((link.guardian_pid(), link.generation()), (None, 0));
    }
    let link = Link::new(LinkConfig { guardian: PathBuf::from("/a\0b") });
    assert_eq!(Port::open(&link, sleeper()).rest(), [refused(Stage::Fork, errno::EINVAL)]);
}

#[test]
fn an_executable_that_is_no_guardian_loses_its_ports() {
    let link = Link::new(LinkConfig { guardian: PathBuf::from("/bin/true") });
    for _ in 0..5 {
        // It may have been sent before that is seen.
        let tries = (0..3).map(|_| Port::open(&link, program(&["/bin/true"])).rest());
        let last = tries.into_iter().find(|events| *events != [LinkEvent::Lost]);
        assert_eq!(last, Some(vec![LinkEvent::GuardianDown]));
    }
    assert!(link.generation() <= 15, "{} were started", link.generation());
}

#[test]
fn the_ports_of_a_killed_guardian_are_down_and_the_next_spawn_has_another() {
    let link = guardian();
    let ports: Vec<Port> = (0..5).map(|_| Port::open(&link, sleeper())).collect();
    let programs: Vec<Process> = ports.iter().map(|port| Process::of(port.spawned())).collect();
    Process::guardian(&link).signal(SIGKILL);
    for (port, program) in ports.iter().zip(programs) {
        assert_eq!(port.rest(), [LinkEvent::GuardianDown]);
        program.wait_for_end();
    }
    assert_eq!(link.guardian_pid(), None);
    let port = Port::open(&link, shell("exit 0"));
    port.spawned();
    assert_eq!(port.exited(), Exit::Code(0));
    assert_eq!(link.generation(), 2);
}

#[test]
fn what_a_killed_guardian_never_heard_of_is_lost_and_can_be_tried_again() {
    let link = guardian();
    let seen = Port::open(&link, sleeper());
    seen.spawned();
    // It hangs, so that all of this waits in its socket.
    let process = Process::guardian(&link);
    process.signal(SIGSTOP);
    let unseen: Vec<Port> = (0..5).map(|_| Port::open(&link, sleeper())).collect();
    process.signal(SIGKILL);
    assert_eq!(seen.rest(), [LinkEvent::GuardianDown]);
    for port in unseen {
        assert_eq!(port.rest(), [LinkEvent::Lost]);
    }
    Port::open(&link, sleeper()).spawned();
    assert_eq!(link.generation(), 2);
}

#[test]
fn twenty_deaths_of_the_guardian_under_load_lose_nothing_else() {
    const DEATHS: u64 = 20;
    let link = guardian();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut lives = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let port = Port::open(&link, shell("exit 5"));
                        check(&port.rest());
                        lives += 1;
                    }
                    lives
                })
            })
            .collect();
        for generation in 1..=DEATHS {
            let port = Port::open(&link, sleeper());
            port.spawned();
            assert_eq!(link.generation(), generation);
            Process::guardian(&link).signal(SIGKILL);
            assert_eq!(port.rest(), [LinkEvent::GuardianDown]);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let lives: u32 = callers.into_iter().map(|caller| caller.join().expect("no panic")).sum();
        assert!(lives > 0);
    });
    let port = Port::open(&link, shell("exit 5"));
    port.spawned();
    assert_eq!(port.rest().len(), 2);
    assert_eq!(link.generation(), DEATHS + 1);
}

/// A life that is whole, or was cut short by the guardian's death.
fn check(events: &[LinkEvent]) {
    let down = matches!(events.last(), Some(LinkEvent::GuardianDown | LinkEvent::Lost));
    let told = if down { &events[..events.len() - 1] } else { events };
    assert!(down || told.len() == 3, "{events:?}");
    for (index, event) in told.iter().enumerate() {
        let right = match event {
            LinkEvent::Spawned { .. } => index == 0,
            LinkEvent::Exited { exit, .. } => index == 1 && *exit == Exit::Code(5),
            LinkEvent::Ended => index == 2,
            _ => false,
        };
        assert!(right, "{events:?}");
    }
}

#[test]
fn dropping_the_link_ends_its_programs_and_its_guardian() {
    let link = guardian();
    let (mut reader, writer) = output();
    let spawn = Spawn { fds: vec![1], ..shell("trap '' TERM; echo on; exec sleep 1000") };
    let port = Port::open_with(&link, spawn, vec![writer]);
    let program = Process::of(port.spawned());
    reader.read_exact(&mut [0; 3]).expect("it runs");
    let process = Process::guardian(&link);
    drop(link);
    assert_eq!(port.rest(), [LinkEvent::GuardianDown]);
    program.wait_for_end();
    process.wait_for_end();
}
