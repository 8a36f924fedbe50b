//! Programs start as they were asked for, and their end is told as it was.
#![cfg(all(target_os = "linux", not(feature = "posix")))]

mod support;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use safe_port_os::{dir, errno, pipe};
use safe_port_wire::{Event, Stage};
use support::{command, shell, tag, Vm};

#[test]
fn the_end_of_a_program_is_told_with_its_status_and_what_it_used() {
    let mut vm = Vm::start();
    let port = vm.open(&shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 3"));
    let (status, usage) = vm.exited(port.id);
    assert_eq!(status, 3 << 8);
    assert!(usage.user_us > 1000 && usage.max_rss_kib > 100, "{usage:?}");
    vm.ended(port.id);
    for (signal, status) in [("KILL", 9), ("TERM", 15), ("USR1", 10)] {
        let port = vm.open(&shell(&format!("kill -{signal} $$")));
        assert_eq!(vm.exited(port.id).0, status);
    }
    let port = vm.open(&shell("ulimit -c 0; kill -SEGV $$"));
    assert_eq!(vm.exited(port.id).0 & 0x7f, 11);
    vm.die();
}

#[test]
fn events_of_a_port_come_in_order_however_short_its_life() {
    let mut vm = Vm::start();
    let (here, null) = (dir::current().expect("here"), dir::null().expect("null"));
    let ids: Vec<_> = (0..300)
        .map(|_| vm.spawn(&command(&["/bin/true"]), here.as_fd(), &[(null.as_fd(), 0), (null.as_fd(), 1)]))
        .collect();
    let (mut started, mut exited, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    while ended.len() < ids.len() {
        for event in vm.pending() {
            match event {
                Event::Spawned { id, .. } => started.push(id),
                Event::Exited { id, status, .. } => {
                    assert!(started.contains(&id) && status == 0);
                    exited.push(id);
                }
                Event::Ended { id } => {
                    assert!(exited.contains(&id));
                    ended.push(id);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((started.len(), exited.len()), (ids.len(), ids.len()));
    assert_eq!(support::children(vm.guardian), [0; 0]);
    vm.die();
}

#[test]
fn what_keeps_a_program_from_starting_is_told() {
    let mut vm = Vm::start();
    let folder = std::env::temp_dir().join(format!("safe_port_{}", tag()));
    fs::create_dir(&folder).expect("made");
    let path = |name: &str| folder.join(name).to_str().expect("text").to_owned();
    let write = |name: &str, content: &str, mode: u32| {
        fs::write(path(name), content).expect("written");
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("set");
        path(name)
    };
    let cases = [
        (path("missing"), errno::ENOENT),
        (path(""), errno::EACCES),
        (write("interpreter", "#!/nonexistent/interpreter\n", 0o755), errno::ENOENT),
        (write("text", "no program\n", 0o755), errno::ENOEXEC),
        (write("empty", "", 0o755), errno::ENOEXEC),
        (write("plain", "#!/bin/sh\n", 0o644), errno::EACCES),
        (write("file", "", 0o644) + "/x", errno::ENOTDIR),
    ];
    for (file, errno) in cases {
        assert_eq!(vm.try_open(&command(&[&file])), Err((Stage::Exec, errno)), "{file}");
    }
    for (dir, errno) in [(path("missing"), errno::ENOENT), (path("text"), errno::ENOTDIR)] {
        let bad = support::Command { dir: Some(dir), ..command(&["/bin/true"]) };
        assert_eq!(vm.try_open(&bad), Err((Stage::Chdir, errno)));
    }
    let nul = command(&["/bin/true", "a\0b"]);
    assert_eq!(vm.try_open(&nul), Err((Stage::Exec, errno::EINVAL)));
    fs::remove_dir_all(&folder).expect("removed");
    support::wait_until_childless(vm.guardian);
    vm.die();
}

#[test]
fn arguments_go_through_up_to_the_kernels_limit_and_are_refused_beyond() {
    let mut vm = Vm::start();
    let long = "x".repeat(131_000);
    let mut port =
        vm.open(&command(&[&["/bin/sh", "-c", "echo $# ${#9}"], [long.as_str(); 15].as_slice()].concat()));
    assert_eq!(port.line(), "14 131000");
    let too_long = "x".repeat(131_072);
    assert_eq!(vm.try_open(&command(&["/bin/true", &too_long])), Err((Stage::Exec, errno::E2BIG)));
    let too_many = [&["/bin/true"], [long.as_str(); 50].as_slice()].concat();
    assert_eq!(vm.try_open(&command(&too_many)), Err((Stage::Exec, errno::E2BIG)));
    vm.die();
}

#[test]
fn a_program_has_its_descriptors_and_no_others() {
    let mut vm = Vm::start();
    let list = vm.open(&command(&["/bin/ls", "-l", "/proc/self/fd"])).rest();
    let open: Vec<&str> =
        list.lines().filter_map(|line| line.split_once(':')?.1.split_once(' ')).map(|(_, fd)| fd).collect();
    assert_eq!(open.len(), 4, "{list}");
    assert!(open[0].starts_with("0 -> pipe:") && open[1].starts_with("1 -> pipe:"), "{list}");
    assert!(open[2] == "2 -> /dev/null" && open[3].contains("/proc/"), "{list}");
    vm.die();
}

#[test]
fn a_program_without_standard_descriptors_has_three_and_four() {
    let mut vm = Vm::start();
    let here = dir::current().expect("here");
    let (theirs_in, ours_in) = pipe::pipe().expect("a pipe");
    let (ours_out, theirs_out) = pipe::pipe().expect("a pipe");
    let fds = [(theirs_in.as_fd(), 3), (theirs_out.as_fd(), 4)];
    let id = vm.spawn(&shell("read line <&3; echo got $line >&4"), here.as_fd(), &fds);
    vm.spawned(id).expect("started");
    drop((theirs_in, theirs_out));
    pipe::write(ours_in.as_fd(), b"this\n").expect("written");
    let mut output = String::new();
    std::io::Read::read_to_string(&mut File::from(ours_out), &mut output).expect("text");
    assert_eq!(output, "got this\n");
    vm.die();
}

#[test]
fn a_program_has_default_signals_an_empty_mask_and_a_session_of_its_own() {
    let mut vm = Vm::start();
    let mut port = vm.open(&command(&["/bin/cat", "/proc/self/status", "/proc/self/stat"]));
    let text = port.rest();
    for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains(&format!("PPid:\t{}\n", vm.guardian)), "{text}");
    let stat = text.lines().last().expect("a line");
    let pid = port.os_pid;
    assert!(
        stat.contains(&format!(" {} {pid} {pid} 0 ", vm.guardian)),
        "own group and session, no terminal: {stat}"
    );
    vm.die();
}

#[test]
fn a_program_starts_where_it_is_told_to() {
    let mut vm = Vm::start();
    let (usr, null) = (File::open("/usr").expect("/usr"), dir::null().expect("null"));
    for (working_dir, cd, expected) in [
        (usr.as_fd(), None, "/usr\n".to_owned()),
        (usr.as_fd(), Some("bin"), "/usr/bin\n".to_owned()),
        // What is no directory is passed over (contract S5): the guardian's own is left.
        (null.as_fd(), None, std::env::current_dir().expect("here").display().to_string() + "\n"),
    ] {
        let (reader, writer) = pipe::pipe().expect("a pipe");
        let pwd = support::Command { dir: cd.map(str::to_owned), ..command(&["/bin/pwd", "-P"]) };
        let id = vm.spawn(&pwd, working_dir, &[(writer.as_fd(), 1)]);
        vm.spawned(id).expect("started");
        drop(writer);
        let mut output = String::new();
        std::io::Read::read_to_string(&mut File::from(reader), &mut output).expect("text");
        // /usr/bin may be a link's target.
        assert!(output == expected || cd.is_some() && output.ends_with("bin\n"), "{output}");
    }
    vm.die();
}

#[test]
fn a_program_carries_a_cookie_behind_those_it_was_given() {
    let mut vm = Vm::start();
    let mut inner = shell("echo $SAFE_PORT_COOKIE");
    inner.env.push("SAFE_PORT_COOKIE=00000000000000aa.1.2".to_owned());
    let mut port = vm.open(&inner);
    assert_eq!(port.line(), format!("00000000000000aa.1.2,{:016x}.1.{}", vm.number, port.id.0));
    vm.die();
}

#[test]
fn a_spawn_without_its_descriptors_is_refused() {
    let mut vm = Vm::start();
    let here = dir::current().expect("here");
    let id = vm.spawn_with_lost_fds(&command(&["/bin/true"]), here.as_fd(), 2);
    assert_eq!(vm.spawned(id), Err((Stage::Fork, errno::EBADF)));
    vm.die();
}

#[test]
fn starts_that_hang_hold_up_nothing_else() {
    let mut vm = Vm::start();
    let path = std::env::temp_dir().join(format!("safe_port_{}", tag()));
    fs::copy("/bin/true", &path).expect("copied");
    // Whoever opens a file under a lease waits until the lease is given up, and exec opens it.
    let file = File::open(&path).expect("opened");
    let lease = |kind: i32| {
        // SAFETY: takes integers only; ignoring a signal runs no code.
        unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_SETLEASE, kind)
        }
    };
    if lease(libc::F_WRLCK) == -1 {
        println!("not applicable: {} takes no leases: {}", path.display(), std::io::Error::last_os_error());
        return;
    }
    let here = dir::current().expect("here");
    let hanging = command(&[path.to_str().expect("text")]);
    let ids: Vec<_> = (0..5).map(|_| vm.spawn(&hanging, here.as_fd(), &[])).collect();
    for _ in 0..3 {
        let mut port = vm.open(&shell("exit 5"));
        assert_eq!(vm.exited(port.id).0, 5 << 8);
        // What hangs does not hold this one's pipes.
        assert_eq!(port.rest(), "");
    }
    // Closed while it hangs, it is ended once it runs.
    vm.close_id(ids[0]);
    assert_eq!(vm.pending().len(), 3, "the ends of the three");
    assert_eq!(lease(libc::F_UNLCK), 0);
    for id in ids {
        assert!(vm.spawned(id).is_ok());
        vm.ended(id);
    }
    // Those that still hang when the VM goes are ended with the rest.
    if lease(libc::F_WRLCK) == 0 {
        for _ in 0..3 {
            vm.spawn(&hanging, here.as_fd(), &[]);
        }
        let tag = tag();
        vm.open(&command(&["/bin/sleep", &format!("600.{tag}")]));
        vm.die();
        assert_eq!(support::survivors(&tag), [""; 0]);
    }
    fs::remove_file(path).expect("removed");
}

#[test]
fn many_starts_at_once_need_no_more_descriptors_than_a_program_may_have() {
    let guardian = env!("CARGO_BIN_EXE_safe_port_guardian");
    let limited = ["/bin/sh", "-c", "ulimit -Sn 64; exec \"$0\" \"$@\"", guardian];
    let mut vm = Vm::start_with(&limited, 0xfb << 56 | u64::from(std::process::id()), 1);
    let (here, null) = (dir::current().expect("here"), dir::null().expect("null"));
    let fds = [(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2)];
    let ids: Vec<_> = (0..200).map(|_| vm.spawn(&command(&["/bin/true"]), here.as_fd(), &fds)).collect();
    for id in ids {
        assert!(vm.spawned(id).is_ok());
    }
    let mut port = vm.open(&shell("ulimit -n"));
    assert_eq!(port.line(), "64", "what a program may have is as it was");
    vm.die();
}
