//! What the guardian cannot attribute to a port (docs/guarantees.md), and that it ends with the VM all the same.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use support::{kill, shell, survivors, tag, wait_for_sleeps, Vm};

/// Its daemon has lost its parent, left the session, cleared its environment and closed its descriptors.
const UNTRACEABLE: &str =
    "env -i setsid sh -c 'exec </dev/null >/dev/null 2>&1; (sleep 600.TAG) & exit' & read line";

#[test]
fn an_untraceable_daemon_is_ended_with_the_only_port_it_can_be_of() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&shell(&UNTRACEABLE.replace("TAG", &tag)));
    support::wait_for(&tag, |found| {
        found.len() == 2 && found.iter().any(|process| support::is_sleep(process))
    });
    let id = port.id;
    vm.close(port);
    vm.ended(id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
}

#[test]
fn an_untraceable_daemon_is_ended_if_the_other_ports_are_younger() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&shell(&UNTRACEABLE.replace("TAG", &tag)));
    support::wait_for(&tag, |found| {
        found.len() == 2 && found.iter().any(|process| support::is_sleep(process))
    });
    // A clock tick later.
    let now = safe_port_os::clock::boot_ticks().expect("a clock");
    while safe_port_os::clock::boot_ticks().expect("a clock") <= now {}
    let younger = vm.open(&shell("read line"));
    let id = port.id;
    vm.close(port);
    vm.ended(id);
    assert_eq!(survivors(&tag), [""; 0]);
    assert_eq!(vm.signal(younger.id, 0, safe_port_wire::Target::Leader), 0);
    vm.die();
}

#[test]
fn an_untraceable_daemon_of_one_of_several_ports_stays_until_the_vm_goes() {
    let (mut vm, tag) = (Vm::start(), tag());
    let older = vm.open(&shell("read line"));
    let port = vm.open(&shell(&UNTRACEABLE.replace("TAG", &tag)));
    support::wait_for(&tag, |found| {
        found.len() == 2 && found.iter().any(|process| support::is_sleep(process))
    });
    let id = port.id;
    vm.close(port);
    vm.ended(id);
    wait_for_sleeps(&tag, 1);
    assert_eq!(
        vm.signal(older.id, 0, safe_port_wire::Target::Leader),
        0,
        "no other port is taken for its own"
    );
    vm.die();
    assert_eq!(survivors(&tag), [""; 0]);
}

#[test]
fn an_untraceable_daemon_is_ended_when_the_guardian_is_killed() {
    let (mut vm, tag) = (Vm::start(), tag());
    let older = vm.open(&shell("read line"));
    let port = vm.open(&shell(&UNTRACEABLE.replace("TAG", &tag)));
    support::wait_for(&tag, |found| {
        found.len() == 2 && found.iter().any(|process| support::is_sleep(process))
    });
    kill(vm.guardian);
    assert_eq!(vm.wait_for_sentinel(), 0);
    assert_eq!(survivors(&tag), [""; 0]);
    drop((older, port));
}

#[test]
fn only_with_guardian_and_sentinel_killed_something_escapes_and_only_what_has_no_cookie() {
    let (mut vm, tag) = (Vm::start(), tag());
    let script = format!("setsid sleep 600.{tag} & {}", UNTRACEABLE.replace("TAG", &tag));
    let port = vm.open(&shell(&script));
    support::wait_for(&tag, |found| found.iter().filter(|process| support::is_sleep(process)).count() == 2);
    kill(vm.sentinel);
    vm.wait_for_sentinel();
    kill(vm.guardian);
    let successor = Vm::start_again(vm.number, 2);
    wait_for_sleeps(&tag, 1);
    successor.die();
    for process in survivors(&tag) {
        kill(process.split(' ').next().expect("a number").parse().expect("a number"));
    }
    drop(port);
}
