//! When the guardian is killed, what it watched goes with it.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use safe_port_wire::{Ending, Orphans};
use support::{command, kill, open_family, shell, survivors, tag, wait_for_sleeps, Vm, QUICK};

#[test]
fn a_killed_guardian_leaves_nothing_behind() {
    let (mut vm, tag) = (Vm::start(), tag());
    let ports = [(); 3].map(|()| open_family(&mut vm, &support::tag_below(&tag), QUICK));
    kill(vm.guardian);
    assert!(vm.sees_guardian_gone());
    assert_eq!(vm.wait_for_sentinel(), 0);
    assert_eq!(survivors(&tag), [""; 0]);
    drop(ports);
}

#[test]
fn a_guardian_killed_together_with_its_vm_leaves_nothing_behind() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, QUICK);
    kill(vm.guardian);
    vm.die();
    assert_eq!(survivors(&tag), [""; 0]);
    drop(port);
}

#[test]
fn a_guardian_killed_in_the_middle_of_an_ending_leaves_nothing_behind() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, Ending { kill_timeout_ms: 3_600_000, ..QUICK });
    let id = port.id;
    vm.close(port);
    vm.exited(id);
    kill(vm.guardian);
    assert_eq!(vm.wait_for_sentinel(), 0);
    assert_eq!(survivors(&tag), [""; 0]);
}

#[test]
fn twenty_deaths_in_a_row_lose_nothing() {
    let tag = tag();
    let number = Vm::start().number;
    for generation in 2..22 {
        let mut vm = Vm::start_again(number, generation);
        let port =
            vm.open(&shell(&format!("setsid sleep 600.{tag} & sleep 600.{tag} & exec sleep 600.{tag}")));
        wait_for_sleeps(&tag, 3);
        kill(vm.guardian);
        vm.wait_for_sentinel();
        assert_eq!(survivors(&tag), [""; 0]);
        drop(port);
    }
}

#[test]
fn a_successor_ends_what_is_left_when_the_sentinel_was_killed_too() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&shell(&format!(
        "setsid sleep 600.{tag} & setsid sh -c 'sleep 600.{tag} & exit' & sleep 600.{tag} & wait"
    )));
    support::wait_for(&tag, |found| found.iter().filter(|process| support::is_sleep(process)).count() == 3);
    // The sentinel first, or it would do its work.
    kill(vm.sentinel);
    vm.wait_for_sentinel();
    kill(vm.guardian);
    assert!(vm.sees_guardian_gone());
    assert!(!survivors(&tag).is_empty(), "nobody is left to end them");
    let successor = Vm::start_again(vm.number, 2);
    support::wait_for(&tag, <[String]>::is_empty);
    successor.die();
    drop(port);
}

#[test]
fn descendants_that_may_stay_survive_the_guardian() {
    let (mut vm, tag) = (Vm::start(), tag());
    let ending = Ending { orphans: Orphans::Leave, ..QUICK };
    let left = vm.open(&shell(&format!("sleep 600.{tag} & exit 0")).ending(ending));
    vm.ended(left.id);
    let other = vm.open(&command(&["/bin/sleep", &format!("600.{tag}")]));
    wait_for_sleeps(&tag, 2);
    kill(vm.guardian);
    assert_eq!(vm.wait_for_sentinel(), 0);
    wait_for_sleeps(&tag, 1);
    for process in survivors(&tag) {
        kill(process.split(' ').next().expect("a number").parse().expect("a number"));
    }
    drop(other);
}
