//! Pipes read, write and tell as the system does.

use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use safe_port_os::poll::{poll, Notify, PollFd};
use safe_port_os::{dir, pipe};

#[test]
fn bytes_pass_in_order_and_are_counted_on_the_way() {
    let (reader, writer) = pipe::pipe().expect("a pipe");
    let parts = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
    assert_eq!(pipe::writev(writer.as_fd(), &parts).expect("written"), 7);
    assert_eq!(pipe::readable_bytes(reader.as_fd()).expect("a pipe"), 7);
    let mut buffer = [0; 64];
    assert_eq!(pipe::read(reader.as_fd(), &mut buffer).expect("read"), 7);
    assert_eq!(&buffer[..7], b"one two");
}

#[test]
fn a_nonblocking_pipe_says_that_it_would_block() {
    let (reader, writer) = pipe::pipe().expect("a pipe");
    pipe::set_nonblocking(reader.as_fd(), true).expect("set");
    pipe::set_nonblocking(writer.as_fd(), true).expect("set");
    let mut buffer = [0; 4096];
    let empty = pipe::read(reader.as_fd(), &mut buffer).expect_err("empty");
    assert_eq!(empty.kind(), ErrorKind::WouldBlock);
    while pipe::write(writer.as_fd(), &buffer).is_ok() {}
    let full = pipe::write(writer.as_fd(), &buffer).expect_err("full");
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    drop(reader);
    let broken = pipe::write(writer.as_fd(), &buffer).expect_err("nobody reads");
    assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
}

#[test]
#[cfg(target_os = "linux")]
fn a_pipe_is_enlarged_and_says_so() {
    let (reader, _writer) = pipe::pipe().expect("a pipe");
    let before = pipe::size(reader.as_fd()).expect("a pipe");
    let after = pipe::set_size(reader.as_fd(), before * 2).expect("enlarged");
    assert_eq!((after, pipe::size(reader.as_fd()).expect("a pipe")), (before * 2, before * 2));
    let nul = dir::null().expect("/dev/null");
    assert!(pipe::set_size(nul.as_fd(), 4096).is_err());
}

#[test]
fn a_duplicate_has_a_number_of_its_own() {
    let (reader, _writer) = pipe::pipe().expect("a pipe");
    let copy = pipe::duplicate(reader.as_fd(), 100).expect("a copy");
    assert!(copy.as_raw_fd() >= 100);
    assert!(pipe::duplicate_number(2).expect("standard error").as_raw_fd() > 2);
    assert!(pipe::duplicate_number(9_999).is_err());
}

#[test]
fn poll_returns_what_is_ready_and_after_its_time_nothing() {
    let (reader, writer) = pipe::pipe().expect("a pipe");
    let mut fds = [PollFd::new(reader.as_fd(), true, false), PollFd::new(writer.as_fd(), false, true)];
    assert_eq!(poll(&mut fds, None).expect("polled"), 1);
    assert!(!fds[0].readable() && fds[1].writable());
    let mut fds = [PollFd::new(reader.as_fd(), true, false)];
    assert_eq!(poll(&mut fds, Some(Duration::from_micros(100))).expect("polled"), 0);
    drop(writer);
    assert_eq!(poll(&mut fds, None).expect("polled"), 1);
    assert!(fds[0].readable() && fds[0].hung_up());
}

#[test]
fn a_notification_stays_until_it_is_drained() {
    let notify = Notify::new().expect("a notification");
    let ready = || {
        let mut fds = [PollFd::new(notify.as_fd(), true, false)];
        poll(&mut fds, Some(Duration::ZERO)).expect("polled") == 1
    };
    assert!(!ready());
    notify.notify();
    notify.notify();
    assert!(ready() && ready());
    notify.drain();
    assert!(!ready());
}

#[test]
fn the_working_directory_can_be_opened() {
    dir::current().expect("the working directory");
}

#[test]
fn the_ends_of_a_pipe_have_a_number_in_common_that_no_other_has() {
    let (reader, writer) = pipe::pipe().expect("a pipe");
    let (other, _writer) = pipe::pipe().expect("a pipe");
    let number = |fd: &std::os::fd::OwnedFd| pipe::inode(fd.as_fd()).expect("open");
    assert!(number(&reader).is_some());
    assert_eq!(number(&reader), number(&writer));
    assert_ne!(number(&reader), number(&other));
    assert_eq!(number(&dir::null().expect("/dev/null")), None);
}
