//! A number that is used again is never hit.
//!
//! The tests run themselves again inside a process namespace of their own, where `ns_last_pid` says which number the next
//! process gets. That needs root; without it they say so and do nothing.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};

use safe_port_guardian::proc::Process;
use safe_port_guardian::tree::strike;
use safe_port_os::clock::boot_ticks;
use safe_port_os::errno::ESRCH;
use safe_port_os::process::own_pid;
use safe_port_os::signal::{SIGKILL, SIGTERM};
use safe_port_wire::{Ending, Target};
use support::{command, shell, survivors, tag, wait_for, wait_for_sleeps, Port, Vm, QUICK};

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
const INSIDE: &str = "SAFE_PORT_TEST_INSIDE";
const SLOW: Ending = Ending { eof_timeout_ms: Some(3_600_000), kill_timeout_ms: 3_600_000, ..QUICK };

/// Runs the test `name` in a namespace of its own; whether this is already in there.
fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(program).env(INSIDE, "1");
        command
    };
    let allowed = unshare(&["sh", "-c", &format!("echo 100 > {LAST_PID}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !allowed {
        println!("not applicable: making a process namespace and writing {LAST_PID} needs root");
        return false;
    }
    let test = std::env::current_exe().expect("a path");
    let status = unshare(&[test.to_str().expect("text"), "--exact", name, "--nocapture", "--test-threads=1"])
        .status()
        .expect("unshare was there before");
    assert!(status.success(), "{name} failed inside its namespace");
    false
}

/// Starts a process of the test's own, no port's, that has the number `pid` and leads a group and a session.
fn reuse(pid: i32, tag: &str) -> Child {
    // In another clock tick than whoever had it before.
    let now = boot_ticks().expect("a clock");
    while boot_ticks().expect("a clock") == now {}
    loop {
        fs::write(LAST_PID, (pid - 1).to_string()).expect("writable");
        let mut child =
            Command::new("setsid").arg("sleep").arg(format!("600.{tag}")).spawn().expect("started");
        if child.id() == pid as u32 {
            wait_for_sleeps(tag, 1);
            return child;
        }
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }
}

fn assert_unharmed(mut child: Child) {
    assert!(child.try_wait().expect("ours").is_none(), "the wrong process was hit");
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

#[test]
fn a_process_seen_before_is_not_hit_under_its_old_number() {
    if !inside("a_process_seen_before_is_not_hit_under_its_old_number") {
        return;
    }
    let (victim_tag, other_tag) = (tag(), tag());
    let mut parent = Command::new("sh")
        .args(["-c", &format!("sleep 600.{victim_tag} & wait; : a; sleep 600")])
        .spawn()
        .expect("started");
    wait_for(&victim_tag, |found| found.iter().any(|process| support::is_sleep(process)));
    let victims = survivors(&victim_tag);
    let victim = victims.iter().find(|process| support::is_sleep(process)).expect("there");
    let pid: i32 = victim.split(' ').next().expect("a number").parse().expect("a number");
    let seen = Process::read(pid).expect("there");
    assert_ne!(seen.parent, own_pid(), "a grandchild");
    strike(own_pid(), &seen, &[0]).expect("it is there");
    support::kill(pid);
    wait_for(&victim_tag, |found| !found.iter().any(|process| support::is_sleep(process)));
    // Reaped by its parent.
    while Process::read(pid).is_some() {}
    assert_eq!(strike(own_pid(), &seen, &[SIGKILL]).expect_err("gone").raw_os_error(), Some(ESRCH));
    let other = reuse(pid, &other_tag);
    assert_eq!(strike(own_pid(), &seen, &[SIGKILL]).expect_err("gone").raw_os_error(), Some(ESRCH));
    assert_unharmed(other);
    parent.kill().expect("killed");
    parent.wait().expect("reaped");
}

/// A port whose program has ended and is reaped, while a descendant in another session keeps the port.
fn leaderless(vm: &mut Vm, tag: &str) -> Port {
    let port =
        vm.open(&shell(&format!("setsid sh -c 'trap \"\" TERM; sleep 600.{tag}' & exit 0")).ending(SLOW));
    vm.exited(port.id);
    wait_for(tag, |found| found.iter().any(|process| support::is_sleep(process)));
    port
}

#[test]
fn a_port_does_not_hit_who_has_the_number_of_its_program_now() {
    if !inside("a_port_does_not_hit_who_has_the_number_of_its_program_now") {
        return;
    }
    let (mut vm, tag, other_tag) = (Vm::start(), tag(), tag());
    let port = leaderless(&mut vm, &tag);
    let other = reuse(port.os_pid, &other_tag);
    assert_eq!(vm.signal(port.id, SIGKILL, Target::Leader), ESRCH);
    assert_eq!(vm.signal(port.id, SIGKILL, Target::Group), ESRCH);
    assert_eq!(vm.signal(port.id, SIGTERM, Target::Tree), 0);
    assert_eq!(vm.signal(port.id, SIGKILL, Target::Tree), 0);
    vm.ended(port.id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
    assert_unharmed(other);
}

#[test]
fn a_port_does_not_hit_another_whose_program_has_the_number_of_its_own() {
    if !inside("a_port_does_not_hit_another_whose_program_has_the_number_of_its_own") {
        return;
    }
    let (mut vm, old_tag, new_tag) = (Vm::start(), tag(), tag());
    let old = leaderless(&mut vm, &old_tag);
    let script = format!("setsid sleep 600.{new_tag} & sleep 600.{new_tag} & exec sleep 600.{new_tag}");
    let new = loop {
        fs::write(LAST_PID, (old.os_pid - 1).to_string()).expect("writable");
        let port = vm.open(&shell(&script).ending(SLOW));
        if port.os_pid == old.os_pid {
            break port;
        }
        vm.signal(port.id, SIGKILL, Target::Tree);
        vm.ended(port.id);
    };
    wait_for_sleeps(&new_tag, 3);
    assert_eq!(vm.signal(old.id, SIGKILL, Target::Leader), ESRCH);
    assert_eq!(vm.signal(old.id, SIGKILL, Target::Group), ESRCH);
    assert_eq!(vm.signal(old.id, SIGKILL, Target::Tree), 0);
    vm.ended(old.id);
    assert_eq!((survivors(&old_tag).len(), survivors(&new_tag).len()), (0, 3));
    assert_eq!(vm.signal(new.id, 0, Target::Leader), 0);
    vm.die();
    assert_eq!(survivors(&new_tag), [""; 0]);
}

#[test]
fn a_dying_vm_hits_nobody_who_has_a_number_of_its_tree() {
    if !inside("a_dying_vm_hits_nobody_who_has_a_number_of_its_tree") {
        return;
    }
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&command(&["/bin/sleep", &format!("600.{tag}")]));
    assert_eq!(vm.signal(port.id, SIGKILL, Target::Leader), 0);
    vm.ended(port.id);
    let other = reuse(port.os_pid, &tag);
    let keeper = leaderless(&mut vm, &support::tag());
    vm.die();
    assert_unharmed(other);
    drop(keeper);
}
