//! What is promised where there is no more than the process group: `cargo test --features posix`.
#![cfg(feature = "posix")]

mod support;

use safe_port_os::errno::{ENOENT, ESRCH};
use safe_port_os::signal::{SIGKILL, SIGTERM};
use safe_port_wire::{Stage, Target};
use support::{command, kill, shell, survivors, tag, wait_for_sleeps, Vm};

#[test]
fn programs_start_and_their_end_is_told() {
    let mut vm = Vm::start();
    for status in [0, 3, 255] {
        let port = vm.open(&shell(&format!("exit {status}")));
        assert_eq!(vm.exited(port.id).0, status << 8);
        vm.ended(port.id);
    }
    assert_eq!(vm.try_open(&command(&["/nonexistent"])).map(drop), Err((Stage::Exec, ENOENT)));
    let bad = support::Command { dir: Some("/nonexistent".to_owned()), ..command(&["/bin/true"]) };
    assert_eq!(vm.try_open(&bad).map(drop), Err((Stage::Chdir, ENOENT)));
    support::wait_until_childless(vm.guardian);
    vm.die();
}

#[test]
fn a_close_ends_the_group_and_what_ignores_term_in_it() {
    let (mut vm, tag) = (Vm::start(), tag());
    let script =
        format!("sleep 600.{tag} & sh -c 'trap \"\" TERM; exec sleep 600.{tag}' & exec sleep 600.{tag}");
    let port = vm.open(&shell(&script));
    wait_for_sleeps(&tag, 3);
    let id = port.id;
    vm.close(port);
    assert_eq!(vm.exited(id).0, SIGTERM);
    vm.ended(id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
}

#[test]
fn a_group_goes_with_the_vm() {
    let (mut vm, tag) = (Vm::start(), tag());
    let script =
        format!("sleep 600.{tag} & sh -c 'trap \"\" TERM; exec sleep 600.{tag}' & exec sleep 600.{tag}");
    let port = vm.open(&shell(&script));
    wait_for_sleeps(&tag, 3);
    vm.die();
    assert_eq!(survivors(&tag), [""; 0]);
    drop(port);
}

#[test]
fn who_leaves_the_group_is_lost() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&shell(&format!("setsid sleep 600.{tag} & exec sleep 600.{tag}")));
    wait_for_sleeps(&tag, 2);
    let id = port.id;
    vm.close(port);
    vm.ended(id);
    wait_for_sleeps(&tag, 1);
    vm.die();
    for process in survivors(&tag) {
        kill(process.split(' ').next().expect("a number").parse().expect("a number"));
    }
}

#[test]
fn signals_reach_program_and_group() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&shell(&format!("sleep 600.{tag} & exec sleep 600.{tag}")));
    wait_for_sleeps(&tag, 2);
    assert_eq!(vm.signal(port.id, 0, Target::Leader), 0);
    assert_eq!(vm.signal(port.id, SIGKILL, Target::Tree), 0);
    vm.ended(port.id);
    assert_eq!(vm.signal(port.id, SIGTERM, Target::Group), ESRCH);
    vm.die();
}
