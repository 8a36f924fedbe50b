//! Signals reach whom they are for, and nobody else.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use safe_port_os::errno::{EINVAL, ESRCH};
use safe_port_os::signal::{SIGKILL, SIGTERM};
use safe_port_wire::{Ending, PortId, Target};
use support::{is_sleep, open_family, shell, survivors, tag, wait_for, wait_for_sleeps, Vm, FAMILY, QUICK};

const SLOW: Ending = Ending { eof_timeout_ms: Some(3_600_000), ..QUICK };

#[test]
fn a_signal_reaches_the_program_alone() {
    let (mut vm, tag) = (Vm::start(), tag());
    let mut port = vm.open(&shell(&format!(
        "trap 'echo USR1' USR1; sleep 600.{tag} & echo ready; while :; do wait; done"
    )));
    assert_eq!(port.line(), "ready");
    // A program that is just being executed has no command line to be found by.
    wait_for(&tag, two_with_a_sleep);
    assert_eq!(vm.signal(port.id, libc::SIGUSR1, Target::Leader), 0);
    assert_eq!(port.line(), "USR1");
    // Its child would have died of it.
    wait_for(&tag, two_with_a_sleep);
    vm.die();
}

fn two_with_a_sleep(found: &[String]) -> bool {
    found.len() == 2 && found.iter().filter(|process| is_sleep(process)).count() == 1
}

#[test]
fn a_signal_reaches_the_group_and_not_the_rest_of_the_tree() {
    let (mut vm, tag) = (Vm::start(), tag());
    let script = format!("setsid sleep 600.{tag} & sleep 600.{tag} & exec sleep 600.{tag}");
    let port = vm.open(&shell(&script).ending(SLOW));
    wait_for_sleeps(&tag, 3);
    assert_eq!(vm.signal(port.id, SIGTERM, Target::Group), 0);
    assert_eq!(vm.exited(port.id).0, SIGTERM);
    wait_for_sleeps(&tag, 1);
    assert_eq!(vm.signal(port.id, SIGTERM, Target::Leader), ESRCH);
    assert_eq!(vm.signal(port.id, SIGTERM, Target::Group), ESRCH);
    assert_eq!(vm.signal(port.id, SIGTERM, Target::Tree), 0);
    vm.ended(port.id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
}

#[test]
fn a_group_is_reached_when_its_leader_is_gone() {
    let (mut vm, tag) = (Vm::start(), tag());
    let script = format!("setsid sleep 600.{tag} & sleep 600.{tag} & exit 0");
    let port = vm.open(&shell(&script).ending(SLOW));
    vm.exited(port.id);
    wait_for_sleeps(&tag, 2);
    assert_eq!(vm.signal(port.id, SIGTERM, Target::Group), 0);
    wait_for_sleeps(&tag, 1);
    vm.die();
}

#[test]
fn a_signal_reaches_the_whole_tree() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, SLOW);
    assert_eq!(vm.signal(port.id, 0, Target::Tree), 0);
    wait_for(&tag, |found| found.len() == FAMILY);
    assert_eq!(vm.signal(port.id, SIGKILL, Target::Tree), 0);
    assert_eq!(vm.exited(port.id).0, SIGKILL);
    vm.ended(port.id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
}

#[test]
fn a_signal_to_nobody_and_no_signal_are_told() {
    let mut vm = Vm::start();
    let port = vm.open(&shell("exit 0"));
    vm.ended(port.id);
    for target in [Target::Leader, Target::Group, Target::Tree] {
        assert_eq!(vm.signal(port.id, SIGTERM, target), ESRCH);
        assert_eq!(vm.signal(PortId(4711), SIGTERM, target), ESRCH);
    }
    let port = vm.open(&shell("read line"));
    for target in [Target::Leader, Target::Group, Target::Tree] {
        for number in [-1, 99, 100_000] {
            assert_eq!(vm.signal(port.id, number, target), EINVAL);
        }
    }
    vm.close(port);
    vm.die();
}
