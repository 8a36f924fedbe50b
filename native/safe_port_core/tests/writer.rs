//! What is written is what was given, in order, whole, once; and whoever waits awake for room does not wait for ever.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use safe_port_core::patience::Patience;
use safe_port_core::writer::{write_parts, write_parts_awake};
use safe_port_os::pipe;

/// A non-blocking end to write to, and a reader.
fn pipe() -> (OwnedFd, File) {
    let (reader, writer) = pipe::pipe().expect("a pipe");
    pipe::set_nonblocking(writer.as_fd(), true).expect("non-blocking");
    (writer, reader.into())
}

fn parts(data: &[u8]) -> Vec<&[u8]> {
    let (first, rest) = data.split_at(data.len().min(3));
    vec![&[], first, &[], rest, &[]]
}

#[test]
fn a_write_takes_what_fits_the_pipe() {
    let (writer, mut reader) = pipe();
    let data: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let written = write_parts(writer.as_fd(), &parts(&data)).expect("room");
    assert!(written > 0 && written < data.len());
    assert_eq!(write_parts(writer.as_fd(), &parts(&data)).expect("no error"), 0);
    drop(writer);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).expect("readable");
    assert!(read == data[..written]);
}

#[test]
fn a_writer_that_waits_awake_writes_on_while_the_program_reads() {
    let (writer, mut reader) = pipe();
    let data: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251) as u8).collect();
    let read = thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("readable");
        read
    });
    let patience = Patience::default();
    let mut sent = 0;
    while sent < data.len() {
        sent += write_parts_awake(writer.as_fd(), &parts(&data[sent..]), &patience).expect("a reader");
        thread::yield_now();
    }
    drop(writer);
    assert!(read.join().expect("the reader") == data);
}

#[test]
fn a_program_that_does_not_read_is_given_up_soon_and_waited_for_less_often() {
    let (writer, mut reader) = pipe();
    let data = vec![7; 100_000];
    let patience = Patience::default();
    let written = write_parts_awake(writer.as_fd(), &parts(&data), &patience).expect("room");
    assert!(written > 0 && written < data.len());
    assert!(!patience.tries(), "the next wait is left out");
    assert_eq!(write_parts_awake(writer.as_fd(), &parts(&data), &patience).expect("no error"), 0);
    drop(writer);
    let mut read = Vec::new();
    assert_eq!(reader.read_to_end(&mut read).expect("readable"), written);
}

#[test]
fn a_program_that_is_gone_is_an_error() {
    let (writer, reader) = pipe();
    drop(reader);
    let error = write_parts_awake(writer.as_fd(), &[b"x"], &Patience::default()).expect_err("nobody reads");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
