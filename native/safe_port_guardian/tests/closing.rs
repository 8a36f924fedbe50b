//! Whatever a program has left behind, and however it tries to stay, is gone when its port has ended.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use std::time::Instant;

use safe_port_os::signal::{SIGKILL, SIGTERM};
use safe_port_wire::{Ending, Event, Orphans, Target};
use support::{children, command, open_family, shell, survivors, tag, wait_for_sleeps, Vm, FAMILY, QUICK};

#[test]
fn a_close_ends_every_kind_of_descendant() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, QUICK);
    let id = port.id;
    vm.close(port);
    assert_eq!(vm.exited(id).0, 7 << 8, "it ended by itself at the end of its input");
    vm.ended(id);
    assert_eq!(survivors(&tag), [""; 0]);
    assert_eq!(children(vm.guardian), [0; 0], "not even a zombie");
    vm.die();
}

#[test]
fn a_program_that_ends_by_itself_takes_its_descendants_with_it() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, QUICK);
    assert_eq!(vm.signal(port.id, SIGKILL, Target::Leader), 0);
    assert_eq!(vm.exited(port.id).0, SIGKILL);
    vm.ended(port.id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
}

#[test]
fn a_program_that_ends_at_the_end_of_its_input_is_not_signalled() {
    let (mut vm, mut ports) = (Vm::start(), Vec::new());
    for _ in 0..3 {
        let mut port = vm.open(&shell("trap 'echo TERM; exit 1' TERM; read line; echo done"));
        drop(std::mem::replace(&mut port.stdin, safe_port_os::dir::null().expect("null")));
        ports.push(port);
    }
    for mut port in ports {
        vm.close_id(port.id);
        assert_eq!(vm.exited(port.id).0, 0);
        assert_eq!(port.rest(), "done\n");
        vm.ended(port.id);
    }
    vm.die();
}

#[test]
fn a_program_that_does_not_read_gets_term_after_eof_timeout() {
    let mut vm = Vm::start();
    let begun = Instant::now();
    let port = vm.open(&command(&["/bin/sleep", "600"]));
    let id = port.id;
    vm.close(port);
    assert_eq!(vm.exited(id).0, SIGTERM);
    assert!(begun.elapsed().as_millis() >= 50, "not before");
    vm.ended(id);
    vm.die();
}

#[test]
fn a_program_that_ignores_term_is_killed_after_kill_timeout() {
    let mut vm = Vm::start();
    let begun = Instant::now();
    let mut port = vm.open(&shell("trap '' TERM; echo ready; while :; do sleep 600; done"));
    assert_eq!(port.line(), "ready");
    let id = port.id;
    vm.close(port);
    assert_eq!(vm.exited(id).0, SIGKILL);
    assert!(begun.elapsed().as_millis() >= 350, "not before");
    vm.ended(id);
    vm.die();
}

#[test]
fn a_stopped_program_receives_its_term() {
    let mut vm = Vm::start();
    let mut port = vm.open(&shell("trap 'echo got it; exit 3' TERM; echo ready; kill -STOP $$; sleep 600"));
    assert_eq!(port.line(), "ready");
    vm.close_id(port.id);
    // Its shell waits for the sleep, which gets the signal as well.
    assert_eq!(vm.exited(port.id).0, 3 << 8);
    assert_eq!(port.line(), "got it");
    vm.ended(port.id);
    vm.die();
}

#[test]
fn without_eof_timeout_a_close_signals_nobody() {
    let (mut vm, tag) = (Vm::start(), tag());
    let ending = Ending { eof_timeout_ms: None, ..QUICK };
    let port = vm.open(&command(&["/bin/sleep", &format!("600.{tag}")]).ending(ending));
    vm.close(port);
    // Another one that is closed later ends first.
    let other = vm.open(&command(&["/bin/sleep", "600"]));
    let other_id = other.id;
    vm.close(other);
    vm.ended(other_id);
    assert_eq!(survivors(&tag).len(), 1);
    vm.die();
    assert_eq!(survivors(&tag), [""; 0], "but it ends with the VM");
}

#[test]
fn descendants_that_may_stay_stay() {
    let (mut vm, tag) = (Vm::start(), tag());
    let ending = Ending { orphans: Orphans::Leave, ..QUICK };
    let script =
        format!("sleep 600.{tag} & setsid sh -c 'sleep 600.{tag} & exit' & env -i sleep 600.{tag} & exit 4");
    let port = vm.open(&shell(&script).ending(ending));
    assert_eq!(vm.exited(port.id).0, 4 << 8);
    vm.ended(port.id);
    wait_for_sleeps(&tag, 3);
    vm.die();
    let left = survivors(&tag);
    assert_eq!(left.len(), 3, "also when the VM is gone: {left:?}");
    for process in left {
        support::kill(process.split(' ').next().expect("a number").parse().expect("a number"));
    }
}

#[test]
fn descendants_that_may_stay_go_with_a_program_that_has_to_be_ended() {
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, Ending { orphans: Orphans::Leave, ..QUICK });
    let id = port.id;
    vm.close_id(id);
    vm.ended(id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
}

#[test]
fn one_tree_that_takes_long_does_not_delay_another() {
    let (mut vm, slow_tag) = (Vm::start(), tag());
    let slow = open_family(&mut vm, &slow_tag, Ending { kill_timeout_ms: 3_600_000, ..QUICK });
    let slow_id = slow.id;
    vm.close_id(slow_id);
    for _ in 0..5 {
        let quick_tag = tag();
        let quick = open_family(&mut vm, &quick_tag, QUICK);
        let id = quick.id;
        vm.close(quick);
        vm.ended(id);
        assert_eq!(survivors(&quick_tag), [""; 0]);
    }
    assert!(!survivors(&slow_tag).is_empty());
    assert!(vm.pending().iter().all(|event| *event != Event::Ended { id: slow_id }));
    vm.die();
    assert_eq!(survivors(&slow_tag), [""; 0]);
}

#[test]
fn a_neighbour_is_never_hit() {
    let (mut vm, ours, theirs) = (Vm::start(), tag(), tag());
    let neighbour = open_family(&mut vm, &theirs, QUICK);
    for _ in 0..3 {
        let port = open_family(&mut vm, &ours, QUICK);
        let id = port.id;
        vm.close(port);
        vm.ended(id);
    }
    assert_eq!(survivors(&theirs).len(), FAMILY);
    assert_eq!(vm.signal(neighbour.id, 0, Target::Leader), 0);
    let id = neighbour.id;
    vm.close(neighbour);
    vm.ended(id);
    vm.die();
}

#[test]
fn a_tree_that_goes_on_forking_is_ended() {
    let (mut vm, tag) = (Vm::start(), tag());
    // A chain: each forks the next one and ends, in a session of its own now and then. 5,000 at the most.
    let script = format!(
        "trap '' TERM; export S=': {tag}; i=$((i+1)); trap \"\" TERM; [ $i -gt 5000 ] && exit
         case $i in *7) setsid sh -c \"$S\" & ;; *) sh -c \"$S\" & ;; esac'
         i=0; export i; sh -c \"$S\"; echo going; read line"
    );
    let mut port = vm.open(&shell(&script));
    assert_eq!(port.line(), "going");
    let id = port.id;
    vm.close(port);
    vm.ended(id);
    assert_eq!(survivors(&tag), [""; 0]);
    vm.die();
}
