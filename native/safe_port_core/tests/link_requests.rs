//! What goes to a guardian, and what becomes of it when that guardian is gone.
#![cfg(target_os = "linux")]

mod link_support;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use link_support::{output, program, read_to_end, refused, Fake, Fakes, Port};
use safe_port_core::link::{Link, LinkEvent};
use safe_port_os::{dir, errno};
use safe_port_wire::{Event, PortId, Request, Spawn, Stage, Target};

/// Bytes that fill a socket more than once.
const MUCH: usize = 2 * 1024 * 1024;

/// A program with arguments of about `bytes` bytes.
fn large(bytes: usize) -> Spawn {
    let mut spawn = program(&["/x"]);
    spawn.args.extend((0..bytes / 1000).map(|index| vec![index as u8 | 1; 1000]));
    spawn
}

/// A link whose guardian receives nothing, and a spawn that it has seen a part of.
fn stuck() -> (Link, Fakes, Fake, Port) {
    let (link, fakes) = Fakes::link();
    let partly = Port::open(&link, large(MUCH));
    let mut fake = fakes.next();
    fake.ready();
    fake.take_a_part();
    (link, fakes, fake, partly)
}

fn summary(requests: &[Request]) -> Vec<(char, PortId)> {
    requests
        .iter()
        .map(|request| match request {
            Request::Spawn(spawn) => ('s', spawn.id),
            Request::Close { id } => ('c', *id),
            Request::Signal { id, .. } => ('k', *id),
        })
        .collect()
}

#[test]
fn nothing_is_started_before_the_first_spawn() {
    let (link, fakes) = Fakes::link();
    link.close(PortId(1));
    link.signal(PortId(1), 1, 9, Target::Tree);
    assert_eq!(fakes.count(), 0);
    drop(link);
    assert_eq!(fakes.count(), 0);
}

#[test]
fn a_request_arrives_as_it_was_made_with_the_number_of_its_port() {
    let (link, fakes) = Fakes::link();
    for bytes in [0, 60_000, 70_000, MUCH] {
        let spawn = Spawn { dir: Some(b"/tmp".to_vec()), ..large(bytes) };
        let port = Port::open(&link, spawn.clone());
        let mut fake = fakes.next();
        fake.ready();
        link.signal(port.id, 8, 15, Target::Group);
        link.close(port.id);
        let (found, fds) = fake.spawn();
        assert!(found == Spawn { id: port.id, ..spawn }, "a spawn of {bytes} bytes");
        assert_eq!(fds.len(), 4);
        let signal = Request::Signal { id: port.id, ticket: 8, signal: 15, target: Target::Group };
        let rest = [fake.request(), fake.request()].map(|request| request.expect("a request").0);
        assert_eq!(rest, [signal, Request::Close { id: port.id }]);
    }
}

#[test]
fn descriptors_are_closed_on_this_side_once_they_are_passed() {
    let (link, fakes) = Fakes::link();
    let (reader, writer) = output();
    let port = Port::open_with(&link, Spawn { fds: vec![1], ..large(MUCH) }, vec![writer]);
    let mut fake = fakes.next();
    fake.take_a_part();
    // All that is left of them is what this guardian has.
    drop(fake);
    assert_eq!(read_to_end(reader), "");
    assert_eq!(port.rest(), [LinkEvent::Lost]);
}

#[test]
fn a_port_that_has_ended_is_not_spoken_of_any_more() {
    let (link, fakes) = Fakes::link();
    let (over, port) = (Port::open(&link, program(&["/x"])), Port::open(&link, program(&["/x"])));
    let mut fake = fakes.next();
    fake.send(&[Event::Ended { id: over.id }]);
    assert_eq!(over.rest(), [LinkEvent::Ended]);
    link.signal(over.id, 1, 9, Target::Leader);
    link.close(over.id);
    link.close(port.id);
    let requests: Vec<_> = (0..3).map(|_| fake.request().expect("a request").0).collect();
    assert_eq!(summary(&requests), [('s', over.id), ('s', port.id), ('c', port.id)]);
}

#[test]
fn a_guardian_that_sends_events_while_it_receives_nothing_holds_nothing_up() {
    let (link, _fakes, mut fake, port) = stuck();
    let event = Event::Signalled { id: port.id, ticket: 1, errno: 0 };
    // More than a socket holds: the link has to receive while it is still sending.
    for _ in 0..2000 {
        fake.send(&[event; 100]);
    }
    let (spawn, _) = fake.spawn();
    assert_eq!(spawn.id, port.id);
    fake.send(&[Event::Ended { id: port.id }]);
    let events = port.rest();
    assert_eq!((events.len(), events.last()), (200_001, Some(&LinkEvent::Ended)));
    drop(link);
}

#[test]
fn each_callers_requests_keep_their_order() {
    const CALLERS: usize = 8;
    const PORTS: usize = 200;
    let (link, fakes) = Fakes::link();
    let open =
        |index: usize| Port::open(&link, if index.is_multiple_of(50) { large(100_000) } else { large(0) });
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let ports: Vec<Port> = (0..PORTS)
                        .map(|index| {
                            let port = open(index);
                            link.signal(port.id, 1, 0, Target::Leader);
                            link.close(port.id);
                            port
                        })
                        .collect();
                    ports.into_iter().map(|port| port.id).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut fake = fakes.next();
        let requests: Vec<_> =
            (0..CALLERS * PORTS * 3).map(|_| fake.request().expect("a request").0).collect();
        let found = summary(&requests);
        for caller in callers {
            let ids = caller.join().expect("no panic");
            let mine: Vec<_> = found.iter().filter(|(_, id)| ids.contains(id)).copied().collect();
            let expected: Vec<_> = ids.iter().flat_map(|id| [('s', *id), ('k', *id), ('c', *id)]).collect();
            assert_eq!(mine, expected);
        }
    });
}

#[test]
fn what_a_guardian_has_not_seen_waits_for_the_next_one() {
    let (link, fakes, fake, partly) = stuck();
    let unseen = [Port::open(&link, large(MUCH)), Port::open(&link, program(&["/x"]))];
    link.close(partly.id);
    link.close(unseen[0].id);
    link.signal(unseen[1].id, 3, 9, Target::Tree);
    drop(fake);
    assert_eq!(partly.rest(), [LinkEvent::Lost]);
    let mut next = fakes.next();
    let mut requests = Vec::new();
    for _ in 0..4 {
        let (request, fds) = next.request().expect("a request");
        assert_eq!(matches!(request, Request::Spawn(_)), fds.len() == 4);
        requests.push(request);
    }
    assert_eq!((next.generation, link.generation()), (2, 2));
    let [one, other] = unseen.each_ref().map(|port| port.id);
    assert_eq!(summary(&requests), [('s', one), ('s', other), ('c', one), ('k', other)]);
    next.send(&[Event::Ended { id: one }, Event::Ended { id: other }]);
    assert_eq!(unseen.each_ref().map(Port::rest), [[LinkEvent::Ended], [LinkEvent::Ended]]);
}

#[test]
fn what_waits_outlives_any_number_of_guardians_that_were_at_work() {
    let (link, fakes) = Fakes::link();
    let lost: Vec<Port> = (0..10).map(|_| Port::open(&link, large(MUCH))).collect();
    let waits = Port::open(&link, program(&["/x"]));
    for port in lost {
        let mut fake = fakes.next();
        fake.ready();
        fake.take_a_part();
        drop(fake);
        assert_eq!(port.rest(), [LinkEvent::Lost]);
    }
    let mut survivor = fakes.next();
    assert_eq!((survivor.generation, survivor.spawn().0.id), (11, waits.id));
}

#[test]
fn guardians_that_never_get_to_work_are_not_started_for_ever() {
    let starts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&starts);
    // The other end is closed before anything can be sent.
    let link = Link::with_start(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let (ours, _) = safe_port_os::socket::pair()?;
        Ok(safe_port_core::link::Started { socket: ours, process: None, tally: None })
    });
    for spawns in 1..=5 {
        let port = Port::open(&link, program(&["/x"]));
        assert_eq!(port.rest(), [LinkEvent::GuardianDown]);
        assert_eq!(starts.load(Ordering::Relaxed), 3 * spawns);
    }
}

#[test]
fn a_guardian_that_cannot_be_started_is_tried_once_for_each_spawn() {
    let starts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&starts);
    let link = Link::with_start(move |generation| {
        assert_eq!(generation, 1, "none was ever started");
        count.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(errno::EACCES))
    });
    for spawns in 1..=5 {
        let (reader, writer) = output();
        let port = Port::open_with(&link, Spawn { fds: vec![1], ..program(&["/x"]) }, vec![writer]);
        assert_eq!(port.rest(), [refused(Stage::Fork, errno::EACCES)]);
        assert_eq!(read_to_end(reader), "", "the descriptors are closed");
        assert_eq!((starts.load(Ordering::Relaxed), link.generation()), (spawns, 0));
    }
}

#[test]
fn more_than_a_frame_may_hold_is_refused_as_exec_would() {
    let (link, fakes) = Fakes::link();
    let first = Port::open(&link, program(&["/x"]));
    let mut fake = fakes.next();
    let port = Port::open(&link, large(safe_port_wire::MAX_FRAME_BYTES + 1000));
    assert_eq!(port.rest(), [refused(Stage::Exec, errno::E2BIG)]);
    assert_eq!(fake.spawn().0.id, first.id);
}

#[test]
fn more_descriptors_than_can_be_passed_are_refused() {
    let (link, fakes) = Fakes::link();
    let first = Port::open(&link, program(&["/x"]));
    let mut fake = fakes.next();
    let nulls = (0..40).map(|_| dir::null().expect("/dev/null")).collect();
    let port = Port::open_with(&link, Spawn { fds: (0..40).collect(), ..program(&["/x"]) }, nulls);
    assert_eq!(port.rest(), [refused(Stage::Fork, errno::EINVAL)]);
    assert_eq!(fake.spawn().0.id, first.id);
}
