//! What comes from a guardian, whole, in parts or not at all.
#![cfg(target_os = "linux")]

mod link_support;

use link_support::{program, refused, Fakes, Port};
use safe_port_core::link::{Exit, LinkEvent};
use safe_port_wire::{Event, PortId, Stage, Usage};

const USAGE: Usage = Usage { user_us: 1, system_us: 2, max_rss_kib: 3 };

/// A life, as a guardian tells it.
fn life(id: PortId) -> Vec<Event> {
    vec![
        Event::Spawned { id, os_pid: 77 },
        Event::Signalled { id, ticket: 5, errno: 0 },
        Event::Exited { id, status: 0x8b, usage: USAGE },
        Event::Ended { id },
    ]
}

/// The same, as a listener hears it.
fn heard() -> Vec<LinkEvent> {
    let exit = Exit::Signal { number: 11, core_dumped: true };
    vec![
        LinkEvent::Spawned { os_pid: 77 },
        LinkEvent::Signalled { ticket: 5, errno: 0 },
        LinkEvent::Exited { exit, usage: USAGE },
        LinkEvent::Ended,
    ]
}

fn encoded(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        event.encode(&mut bytes);
    }
    bytes
}

#[test]
fn a_listener_hears_its_own_port_in_order_and_is_dropped_after_the_last_event() {
    let (link, fakes) = Fakes::link();
    let ports = [Port::open(&link, program(&["/x"])), Port::open(&link, program(&["/x"]))];
    let fake = fakes.next();
    let lives = ports.each_ref().map(|port| life(port.id));
    for (one, other) in lives[0].iter().zip(&lives[1]) {
        fake.send(&[*one, *other]);
    }
    assert_eq!(ports.each_ref().map(Port::rest), [heard(), heard()]);
}

#[test]
fn a_refusal_is_the_last_event() {
    let (link, fakes) = Fakes::link();
    let port = Port::open(&link, program(&["/x"]));
    let fake = fakes.next();
    fake.send(&[Event::Refused { id: port.id, stage: Stage::Chdir, errno: 2 }, Event::Ended { id: port.id }]);
    assert_eq!(port.rest(), [refused(Stage::Chdir, 2)]);
}

#[test]
fn events_may_come_byte_by_byte() {
    let (link, fakes) = Fakes::link();
    let port = Port::open(&link, program(&["/x"]));
    let fake = fakes.next();
    for byte in encoded(&life(port.id)) {
        fake.send_bytes(&[byte]);
    }
    assert_eq!(port.rest(), heard());
}

#[test]
fn a_guardian_that_goes_in_the_middle_of_an_event_has_told_the_whole_ones() {
    let lengths: Vec<usize> = life(PortId(1)).iter().map(|event| encoded(&[*event]).len()).collect();
    let (link, fakes) = Fakes::link();
    for cut in 0..lengths.iter().sum::<usize>() {
        let port = Port::open(&link, program(&["/x"]));
        let mut fake = fakes.next();
        // A socket that is closed with something unread takes with it what was sent.
        fake.spawn();
        fake.send_bytes(&encoded(&life(port.id))[..cut]);
        drop(fake);
        let ends = lengths.iter().scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        });
        let whole = ends.filter(|end| *end <= cut).count();
        let expected: Vec<LinkEvent> =
            heard().into_iter().take(whole).chain([LinkEvent::GuardianDown]).collect();
        assert_eq!(port.rest(), expected, "after {cut} bytes");
    }
}

#[test]
fn events_of_ports_that_are_over_or_never_were_are_ignored() {
    let (link, fakes) = Fakes::link();
    let (over, port) = (Port::open(&link, program(&["/x"])), Port::open(&link, program(&["/x"])));
    let fake = fakes.next();
    fake.send(&[Event::Ended { id: over.id }, Event::Exited { id: over.id, status: 0, usage: USAGE }]);
    fake.send(&life(PortId(999)));
    fake.send(&life(port.id));
    assert_eq!(over.rest(), [LinkEvent::Ended]);
    assert_eq!(port.rest(), heard());
}

#[test]
fn a_guardian_that_talks_nonsense_is_given_up() {
    let unknown = [1, 0, 0, 0, 200];
    let short = [2, 0, 0, 0, 5, 5];
    let endless = [0xff, 0xff, 0xff, 0x7f];
    let (link, fakes) = Fakes::link();
    for nonsense in [&unknown[..], &short, &endless] {
        let port = Port::open(&link, program(&["/x"]));
        let mut fake = fakes.next();
        fake.ready();
        fake.send(&life(port.id)[..1]);
        fake.send_bytes(nonsense);
        assert_eq!(port.rest(), [LinkEvent::Spawned { os_pid: 77 }, LinkEvent::GuardianDown], "{nonsense:?}");
        assert_eq!(fake.rest().len(), 1, "it asked for one program, and then closed the socket");
    }
}

#[test]
fn the_guardian_is_known_from_when_it_is_ready_until_it_is_gone() {
    let (link, fakes) = Fakes::link();
    assert_eq!((link.guardian_pid(), link.generation()), (None, 0));
    let port = Port::open(&link, program(&["/x"]));
    let mut fake = fakes.next();
    fake.spawn();
    assert_eq!(link.guardian_pid(), None);
    fake.ready();
    fake.send(&life(port.id)[..1]);
    assert_eq!(port.next(), LinkEvent::Spawned { os_pid: 77 });
    assert_eq!((link.guardian_pid(), link.generation()), (Some(4711), 1));
    drop(fake);
    assert_eq!(port.rest(), [LinkEvent::GuardianDown]);
    assert_eq!((link.guardian_pid(), link.generation()), (None, 1));
}

#[test]
fn a_panic_of_a_listener_is_its_own() {
    struct Bomb;
    impl safe_port_core::link::Listener for Bomb {
        fn event(&self, event: LinkEvent) {
            panic!("this panic is part of the test: {event:?}");
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("this one as well");
        }
    }
    let (link, fakes) = Fakes::link();
    let id = link.spawn(program(&["/x"]), Vec::new(), std::sync::Arc::new(Bomb)).expect("a thread");
    let port = Port::open(&link, program(&["/x"]));
    let fake = fakes.next();
    fake.send(&life(id));
    fake.send(&life(port.id));
    assert_eq!(port.rest(), heard());
}

#[test]
fn dropping_the_link_ends_it_for_both_sides() {
    let (link, fakes) = Fakes::link();
    let port = Port::open(&link, program(&["/x"]));
    let mut fake = fakes.next();
    drop(link);
    assert_eq!(port.rest(), [LinkEvent::GuardianDown]);
    assert_eq!(fake.rest().len(), 1);
}
