//! With a cgroup of its own, nothing of a tree can be lost sight of.
//!
//! Needs a writable cgroup, version 2. Where there is none the tests say so and do nothing.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use safe_port_os::errno::{ENOENT, ESRCH};
use safe_port_os::signal::SIGKILL;
use safe_port_wire::{Stage, Target};
use support::{kill, open_family, shell, survivors, tag, wait_for_sleeps, Command, Vm, QUICK};

/// A cgroup of the test's own, removed with it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Cgroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let mounted =
            mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let path = Path::new(mounted?).join(format!("safe_port_test_{}", tag()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Cgroup(path)),
            Err(error) => {
                println!("not applicable: {} cannot be made: {error}", path.display());
                None
            }
        }
    }

    fn applied(&self, command: Command) -> Command {
        Command { cgroup: Some(self.0.to_str().expect("text").to_owned()), ..command }
    }

    fn below(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("readable").filter_map(Result::ok);
        let folders = entries.filter(|entry| entry.path().is_dir());
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Leaves behind a daemon that nothing but its cgroup tells the port of.
fn untraceable(tag: &str) -> Command {
    shell(&format!(
        "env -i setsid sh -c 'exec </dev/null >/dev/null 2>&1; (sleep 600.{tag}) & exit' & read line; exit 0"
    ))
}

#[test]
fn a_daemon_without_any_other_trace_is_ended() {
    let Some(cgroup) = Cgroup::new() else { return println!("not applicable: no cgroup of version 2") };
    let (mut vm, tag) = (Vm::start(), tag());
    let neighbour = vm.open(&shell("read line"));
    let port = vm.open(&cgroup.applied(untraceable(&tag)));
    support::wait_for(&tag, |found| {
        found.len() == 2 && found.iter().any(|process| support::is_sleep(process))
    });
    assert_eq!(cgroup.below(), [format!("safe_port.{:016x}.1.{}", vm.number, port.id.0)]);
    let id = port.id;
    vm.close(port);
    vm.ended(id);
    assert_eq!(survivors(&tag), [""; 0]);
    assert_eq!(cgroup.below(), [""; 0], "its cgroup is removed");
    vm.close(neighbour);
    vm.die();
}

#[test]
fn cgroups_below_that_of_a_tree_belong_to_it() {
    let Some(cgroup) = Cgroup::new() else { return println!("not applicable: no cgroup of version 2") };
    let (mut vm, tag) = (Vm::start(), tag());
    let root = cgroup.0.display();
    let script = format!(
        "own=$(ls -d {root}/safe_port.*); mkdir $own/inner; sh -c 'echo 0 > '$own'/inner/cgroup.procs; exec sleep 600.{tag}' &
         exec sleep 600.{tag}"
    );
    let port = vm.open(&cgroup.applied(shell(&script)));
    wait_for_sleeps(&tag, 2);
    let id = port.id;
    assert_eq!(vm.signal(id, SIGKILL, Target::Tree), 0);
    vm.ended(id);
    assert_eq!(cgroup.below(), [""; 0]);
    assert_eq!(vm.signal(id, SIGKILL, Target::Tree), ESRCH);
    vm.die();
}

#[test]
fn every_kind_of_descendant_is_ended_with_a_cgroup_too() {
    let Some(cgroup) = Cgroup::new() else { return println!("not applicable: no cgroup of version 2") };
    let (mut vm, tag) = (Vm::start(), tag());
    let port = open_family(&mut vm, &tag, QUICK);
    vm.close(port);
    let again = vm.open(&cgroup.applied(shell(&format!("setsid sleep 600.{tag} & exec sleep 600.{tag}"))));
    vm.die();
    assert_eq!(survivors(&tag), [""; 0]);
    assert_eq!(cgroup.below(), [""; 0]);
    drop(again);
}

#[test]
fn a_successor_removes_the_cgroups_of_a_killed_guardian() {
    let Some(cgroup) = Cgroup::new() else { return println!("not applicable: no cgroup of version 2") };
    let (mut vm, tag) = (Vm::start(), tag());
    let port = vm.open(&cgroup.applied(untraceable(&tag)));
    support::wait_for(&tag, |found| {
        found.len() == 2 && found.iter().any(|process| support::is_sleep(process))
    });
    kill(vm.guardian);
    vm.wait_for_sentinel();
    assert_eq!(survivors(&tag), [""; 0]);
    assert_eq!(cgroup.below().len(), 1);
    let mut successor = Vm::start_again(vm.number, 2);
    let next = successor.open(&cgroup.applied(shell("read line; exit 0")));
    assert_eq!(cgroup.below(), [format!("safe_port.{:016x}.2.{}", vm.number, next.id.0)]);
    successor.die();
    assert_eq!(cgroup.below(), [""; 0]);
    drop(port);
}

#[test]
fn what_is_no_cgroup_is_refused() {
    let mut vm = Vm::start();
    let folder = std::env::temp_dir().join(format!("safe_port_{}", tag()));
    fs::create_dir(&folder).expect("made");
    for path in [folder.clone(), folder.join("missing")] {
        let command = Command { cgroup: Some(path.to_str().expect("text").to_owned()), ..shell("exit 0") };
        assert_eq!(vm.try_open(&command), Err((Stage::Fork, ENOENT)), "{}", path.display());
    }
    assert_eq!(fs::read_dir(&folder).expect("readable").count(), 0, "nothing is left in it");
    fs::remove_dir(folder).expect("removed");
    vm.die();
}
