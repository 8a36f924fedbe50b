//! Many programs, one after the other and at once, leave the guardian as it was.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use std::fs;
use std::os::fd::AsFd;

use safe_port_os::dir;
use safe_port_wire::{Event, Stage};
use support::{children, command, shell, survivors, tag, Vm};

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_thousand_programs_one_after_the_other_leave_nothing_in_the_guardian() {
    let mut vm = Vm::start();
    let round = |vm: &mut Vm, count: usize| {
        for index in 0..count {
            if index % 4 == 0 {
                let refused = vm.try_open(&command(&["/nonexistent"]));
                assert_eq!(refused.map_err(|(stage, _)| stage), Err(Stage::Exec));
            } else {
                // Every other one leaves an orphan with a session of its own.
                let port = vm.open(&shell(if index % 2 == 0 { "exit 0" } else { "setsid true & exit 0" }));
                vm.ended(port.id);
            }
        }
    };
    round(&mut vm, 200);
    let (fds, memory) = (descriptors(vm.guardian), resident_kib(vm.guardian));
    round(&mut vm, 1000);
    assert_eq!(descriptors(vm.guardian), fds);
    let grown = resident_kib(vm.guardian).saturating_sub(memory);
    assert!(grown < 256, "{grown} KiB more than {memory}");
    support::wait_until_childless(vm.guardian);
    println!("guardian: {fds} descriptors, {memory} KiB, {grown} KiB more after 1,000 programs");
    vm.die();
}

#[test]
fn two_thousand_programs_at_once_end_with_the_vm() {
    let (mut vm, tag) = (Vm::start(), tag());
    let (here, null) = (dir::current().expect("here"), dir::null().expect("null"));
    let sleep = command(&["/bin/sleep", &format!("600.{tag}")]);
    let before = descriptors(vm.guardian);
    let (mut started, mut asked) = (0, 0);
    while started < 2000 {
        while asked < 2000 && asked < started + 100 {
            vm.spawn(&sleep, here.as_fd(), &[(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2)]);
            asked += 1;
        }
        for event in vm.pending() {
            assert!(matches!(event, Event::Spawned { .. }), "{event:?}");
            started += 1;
        }
    }
    assert_eq!(survivors(&tag).len(), 2000);
    assert_eq!(descriptors(vm.guardian), before);
    println!("guardian with 2,000 programs: {} KiB", resident_kib(vm.guardian));
    let begun = std::time::Instant::now();
    vm.die();
    println!("2,000 programs gone after {:?}", begun.elapsed());
    assert_eq!(survivors(&tag), [""; 0]);
}

#[test]
fn two_thousand_ports_closed_at_once_all_end() {
    let (mut vm, tag) = (Vm::start(), tag());
    let (here, null) = (dir::current().expect("here"), dir::null().expect("null"));
    let sleep = command(&["/bin/sleep", &format!("600.{tag}")]);
    let mut ids = Vec::new();
    for _ in 0..2000 {
        let id = vm.spawn(&sleep, here.as_fd(), &[(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2)]);
        vm.spawned(id).expect("started");
        ids.push(id);
    }
    for id in &ids {
        vm.close_id(*id);
    }
    let mut ended = 0;
    while ended < ids.len() {
        ended += vm.pending().iter().filter(|event| matches!(event, Event::Ended { .. })).count();
    }
    assert_eq!(survivors(&tag), [""; 0]);
    assert_eq!(children(vm.guardian), [0; 0]);
    vm.die();
}

#[test]
fn what_cannot_be_ended_costs_next_to_nothing() {
    let (mut vm, tag) = (Vm::start(), tag());
    let ending = safe_port_wire::Ending { kill_timeout_ms: 3_600_000, ..support::QUICK };
    let mut port = vm.open(&shell(&format!("trap '' TERM; echo ready; sleep 600.{tag}")).ending(ending));
    assert_eq!(port.line(), "ready");
    let id = port.id;
    vm.close(port);
    let ticks = |pid: i32| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
    };
    // The time between one program's start and the end of the fortieth is more than its eof_timeout.
    let before = ticks(vm.guardian);
    for _ in 0..40 {
        let port = vm.open(&shell("sleep 0.01"));
        vm.ended(port.id);
    }
    let spent = ticks(vm.guardian) - before;
    assert!(spent < 30, "{spent} ticks of processor time");
    assert!(vm.pending().iter().all(|event| *event != Event::Ended { id }));
    vm.die();
}
