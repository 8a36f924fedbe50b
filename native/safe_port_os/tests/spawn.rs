//! A program starts with what it was given and nothing else, and what keeps it from starting is told.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use safe_port_os::process::Pid;
use safe_port_os::spawn::{Block, Failure, Passed, Program, Slot, Spawner, Stage};
use safe_port_os::{dir, errno, pipe, signal, wait};

fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

fn program(words: &[&str]) -> Program {
    Program {
        file: c(words[0]),
        args: words.iter().map(|word| c(word)).collect(),
        env: Block::new(b"GREETING=hello".to_vec()),
        dir: None,
    }
}

/// Starts it with the given descriptors, from the root directory.
fn start(program: &Program, fds: Vec<(BorrowedFd<'_>, RawFd)>) -> Result<Pid, Failure> {
    signal::default_all();
    signal::block_all();
    let root = File::open("/").expect("the root directory");
    let passed = Passed { working_dir: root.as_fd(), fds, cgroup: None };
    Spawner::new(None).spawn(program, &passed, &Slot::default())
}

/// Waits for it, without a timeout: the test runner has one.
fn status_of(pid: Pid) -> i32 {
    loop {
        if let Some(ended) = wait::reap(pid).expect("our child") {
            return ended.status;
        }
        std::thread::yield_now();
    }
}

fn output_of(program: &Program) -> String {
    let (reader, writer) = pipe::pipe().expect("a pipe");
    let null = dir::null().expect("/dev/null");
    let fds = vec![(null.as_fd(), 0), (writer.as_fd(), 1), (null.as_fd(), 2)];
    let pid = start(program, fds).expect("started");
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output).expect("text");
    assert_eq!(status_of(pid), 0);
    output
}

#[test]
fn a_program_gets_its_arguments_environment_and_directory() {
    let mut shell = program(&["/bin/sh", "-c", "echo $0 $1 $GREETING; pwd; env | wc -l", "zero", "one"]);
    shell.dir = Some(c("usr"));
    let output = output_of(&shell);
    // The shell adds PWD and sometimes more of its own.
    assert!(output.starts_with("zero one hello\n/usr\n"), "{output}");
}

#[test]
fn a_program_leads_a_session_of_its_own() {
    let pid = output_of(&program(&[
        "/bin/sh",
        "-c",
        "set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 = $6 ] && echo $1",
    ]));
    assert!(pid.trim().parse::<i32>().is_ok(), "{pid}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_has_default_signals_and_an_empty_mask() {
    let status = output_of(&program(&["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
    assert_eq!(status.matches("0000000000000000").count(), 2, "{status}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_has_the_descriptors_it_was_passed_and_no_other() {
    // One that exec would not close by itself.
    let leak = std::os::fd::IntoRawFd::into_raw_fd(File::open("/dev/null").expect("/dev/null"));
    let list = output_of(&program(&["/bin/ls", "-l", "/proc/self/fd"]));
    let open: Vec<&str> =
        list.lines().filter_map(|line| line.split_once(':')?.1.split_once(' ')).map(|(_, fd)| fd).collect();
    assert_eq!((open[0], open[2]), ("0 -> /dev/null", "2 -> /dev/null"), "{list} with {leak} open");
    // The fourth is what the listing itself reads.
    assert!(open[1].starts_with("1 -> pipe:") && open[3].contains("/proc/"), "{list}");
    assert_eq!(open.len(), 4, "{list}");
}

#[test]
fn numbers_that_collide_arrive_in_their_places() {
    let (reader_a, writer_a) = pipe::pipe().expect("a pipe");
    let (reader_b, writer_b) = pipe::pipe().expect("a pipe");
    let (a, b) = (writer_a.as_raw_fd(), writer_b.as_raw_fd());
    let null = dir::null().expect("/dev/null");
    let shell = format!("printf 'to a' >/proc/self/fd/{a}; printf 'to b' >/proc/self/fd/{b}");
    // Each has the number that the other is to get; a third keeps its own.
    let fds = vec![
        (writer_a.as_fd(), b),
        (writer_b.as_fd(), a),
        (null.as_fd(), null.as_raw_fd()),
        (null.as_fd(), 0),
        (null.as_fd(), 1),
        (null.as_fd(), 2),
    ];
    let pid = start(&program(&["/bin/sh", "-c", &shell]), fds).expect("started");
    drop((writer_a, writer_b));
    let (mut from_a, mut from_b) = (String::new(), String::new());
    File::from(reader_a).read_to_string(&mut from_a).expect("text");
    File::from(reader_b).read_to_string(&mut from_b).expect("text");
    assert_eq!((from_a.as_str(), from_b.as_str(), status_of(pid)), ("to b", "to a", 0));
}

#[test]
fn what_keeps_a_program_from_starting_is_told() {
    let text = std::env::temp_dir().join(format!("safe_port_spawn_{}", std::process::id()));
    let text = text.to_str().expect("text").to_owned();
    std::fs::write(&text, "no program\n").expect("written");
    let mut permissions = std::fs::metadata(&text).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&text, permissions).expect("set");
    let in_dir = |dir: &str| Program { dir: Some(c(dir)), ..program(&["/bin/true"]) };
    let huge = "x".repeat(130_000);
    let huge = [vec!["/bin/true"], vec![huge.as_str(); 100]].concat();
    for (program, stage, errno) in [
        (program(&["/nonexistent"]), Stage::Exec, errno::ENOENT),
        (program(&["/"]), Stage::Exec, errno::EACCES),
        (program(&[&text]), Stage::Exec, errno::ENOEXEC),
        (program(&huge), Stage::Exec, errno::E2BIG),
        (in_dir("/nonexistent"), Stage::Chdir, errno::ENOENT),
        (in_dir("/bin/true"), Stage::Chdir, errno::ENOTDIR),
    ] {
        let failure = start(&program, Vec::new()).expect_err("refused");
        assert_eq!(failure, Failure { stage, errno }, "{:?} in {:?}", program.file, program.dir);
    }
    std::fs::remove_file(text).expect("removed");
}

#[test]
#[cfg(all(target_os = "linux", not(feature = "posix")))]
fn a_child_is_in_its_slot_and_dies_with_the_thread_that_started_it() {
    let started = std::thread::spawn(|| {
        signal::block_all();
        let (root, slot) = (File::open("/").expect("the root directory"), Slot::default());
        let passed = Passed { working_dir: root.as_fd(), fds: Vec::new(), cgroup: None };
        let pid =
            Spawner::new(None).spawn(&program(&["/bin/sleep", "600"]), &passed, &slot).expect("started");
        assert_eq!((slot.pid(), slot.failure()), (Some(pid), None));
        pid
    });
    assert_eq!(status_of(started.join().expect("no panic")), signal::SIGKILL);
}
