//! A daemon starts clean, and what keeps it from starting is told.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use safe_port_os::spawn::daemon;
use safe_port_os::{errno, pipe};

fn argv(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).expect("no NUL")).collect()
}

fn output_of(script: &str, number: i32) -> io::Result<String> {
    let (reader, writer) = pipe::pipe()?;
    daemon(c"/bin/sh", &argv(&["sh", "-c", script]), &[(writer.as_fd(), number)])?;
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output)?;
    Ok(output)
}

#[test]
fn a_daemon_has_its_descriptors_and_null_and_nothing_else() {
    // It reads until its standard input ends, which is when this test does.
    let (reader, mut writer) =
        pipe::pipe().map(|(reader, writer)| (reader, File::from(writer))).expect("a pipe");
    let fds = [(reader.as_fd(), 3), (reader.as_fd(), 0)];
    let os_pid = daemon(c"/bin/cat", &argv(&["cat"]), &fds).expect("started");
    // Once it reads, it has closed what it was loaded from.
    writer.write_all(b"x").expect("written");
    while pipe::readable_bytes(reader.as_fd()).expect("a pipe") > 0 {
        std::thread::yield_now();
    }
    let file = |process: &str, fd: i32| std::fs::read_link(format!("/proc/{process}/fd/{fd}")).ok();
    let pipe = file("self", reader.as_raw_fd());
    let null = Some("/dev/null".into());
    let found: Vec<_> = (0..4).map(|fd| file(&os_pid.to_string(), fd)).collect();
    assert_eq!(found, [pipe.clone(), null.clone(), null, pipe]);
    assert_eq!(std::fs::read_dir(format!("/proc/{os_pid}/fd")).expect("it runs").count(), 4);
}

#[test]
fn a_daemon_may_get_a_standard_descriptor() {
    assert_eq!(output_of("echo hello", 1).expect("started"), "hello\n");
}

#[test]
fn descriptors_that_trade_places_arrive_in_the_right_ones() {
    let (reader, writer) = pipe::pipe().expect("a pipe");
    let (other_reader, other_writer) = pipe::pipe().expect("a pipe");
    let fds = [(writer.as_fd(), other_writer.as_raw_fd()), (other_writer.as_fd(), writer.as_raw_fd())];
    let script = format!("echo first >&{}; echo second >&{}", other_writer.as_raw_fd(), writer.as_raw_fd());
    daemon(c"/bin/bash", &argv(&["bash", "-c", &script]), &fds)
        .or_else(|_| daemon(c"/bin/sh", &argv(&["sh", "-c", &script]), &fds))
        .expect("started");
    drop((writer, other_writer));
    let mut outputs = [String::new(), String::new()];
    File::from(reader).read_to_string(&mut outputs[0]).expect("read");
    File::from(other_reader).read_to_string(&mut outputs[1]).expect("read");
    assert_eq!(outputs, ["first\n", "second\n"]);
}

#[test]
fn a_program_that_cannot_be_started_is_an_error() {
    let missing = daemon(c"/nonexistent", &argv(&["x"]), &[]).expect_err("missing");
    assert_eq!(missing.raw_os_error(), Some(errno::ENOENT));
    let directory = daemon(c"/", &argv(&["x"]), &[]).expect_err("a directory");
    assert_eq!(directory.raw_os_error(), Some(errno::EACCES));
}
