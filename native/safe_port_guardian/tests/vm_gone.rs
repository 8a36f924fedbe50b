//! When the VM goes, however it goes, everything goes with it.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use std::os::fd::AsFd;

use safe_port_os::process::Pid;
use safe_port_os::{dir, signal};
use safe_port_wire::{Ending, Orphans};
use support::{command, open_family, shell, survivors, tag, Vm, QUICK};

const DEFAULT: Ending = Ending { eof_timeout_ms: Some(1000), kill_timeout_ms: 5000, orphans: Orphans::Kill };

#[test]
fn nothing_outlives_the_vm() {
    let (mut vm, tag) = (Vm::start(), tag());
    let never = Ending { eof_timeout_ms: None, ..DEFAULT };
    let leave = Ending { orphans: Orphans::Leave, ..DEFAULT };
    let ports =
        [QUICK, DEFAULT, never, leave].map(|ending| open_family(&mut vm, &support::tag_below(&tag), ending));
    let guardian = vm.guardian;
    vm.die();
    assert_eq!(survivors(&tag), [""; 0]);
    assert!(!std::path::Path::new(&format!("/proc/{guardian}")).exists());
    drop(ports);
}

#[test]
fn endings_that_are_under_way_go_on_without_the_vm() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, Ending { kill_timeout_ms: 3_600_000, ..QUICK });
    vm.close(port);
    vm.die();
    assert_eq!(survivors(&tag), [""; 0]);
}

#[test]
fn programs_that_are_about_to_start_do_not_outlive_the_vm() {
    let (mut vm, tag) = (Vm::start(), tag());
    let (here, null) = (dir::current().expect("here"), dir::null().expect("null"));
    let sleep = command(&["/bin/sleep", &format!("600.{tag}")]);
    for _ in 0..100 {
        vm.spawn(&sleep, here.as_fd(), &[(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2)]);
    }
    vm.die();
    assert_eq!(survivors(&tag), [""; 0]);
}

#[test]
fn a_vm_that_sends_what_is_no_request_is_taken_for_gone() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&command(&["/bin/sleep", &format!("600.{tag}")]));
    vm.send_raw(b"\x03\x00\x00\x00\xff\xff\xff");
    assert!(vm.sees_guardian_gone());
    assert_eq!(vm.wait_for_sentinel(), 0);
    assert_eq!(survivors(&tag), [""; 0]);
    drop(port);
}

#[test]
fn signals_that_are_sent_to_everyone_do_not_end_guardian_and_sentinel() {
    let mut vm = Vm::start();
    for pid in [vm.guardian, vm.sentinel].map(|pid| Pid::new(pid).expect("a process")) {
        for number in (1..32).filter(|number| ![signal::SIGKILL, libc::SIGSTOP].contains(number)) {
            signal::send(pid, number).expect("sent");
        }
    }
    let port = vm.open(&shell("exit 6"));
    assert_eq!(vm.exited(port.id).0, 6 << 8);
    assert!(std::path::Path::new(&format!("/proc/{}", vm.sentinel)).exists());
    vm.die();
}

#[test]
fn guardian_and_sentinel_are_in_no_group_of_the_vm() {
    let vm = Vm::start();
    // SAFETY: takes an integer only.
    let (ours, guardian, sentinel) =
        unsafe { (libc::getpgid(0), libc::getpgid(vm.guardian), libc::getpgid(vm.sentinel)) };
    assert_eq!((guardian, sentinel), (vm.guardian, vm.sentinel));
    assert_ne!(ours, guardian);
    vm.die();
}
