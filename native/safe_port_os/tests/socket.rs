//! Descriptors travel with the bytes they were sent beside.

use std::io::{ErrorKind, IoSlice};
use std::os::fd::AsFd;

use safe_port_os::{errno, pipe, socket};

#[test]
fn a_passed_descriptor_is_the_same_open_file() {
    let (ours, theirs) = socket::pair().expect("a socket pair");
    let (reader, writer) = pipe::pipe().expect("a pipe");
    assert_eq!(socket::send_with_fds(ours.as_fd(), b"take", &[writer.as_fd()]).expect("sent"), 4);
    let (mut buffer, mut fds) = ([0; 64], Vec::new());
    let received = socket::recv(theirs.as_fd(), &mut buffer, &mut fds).expect("received");
    assert_eq!((received.bytes, received.lost_fds, fds.len()), (4, false, 1));
    drop(writer);
    pipe::writev(fds[0].as_fd(), &[IoSlice::new(b"through")]).expect("written");
    fds.clear();
    let mut through = [0; 16];
    assert_eq!(pipe::read(reader.as_fd(), &mut through).expect("read"), 7);
    assert_eq!(pipe::read(reader.as_fd(), &mut through).expect("the end"), 0);
}

#[test]
fn a_receive_brings_the_descriptors_of_one_send_only() {
    let (ours, theirs) = socket::pair().expect("a socket pair");
    let (reader, writer) = pipe::pipe().expect("a pipe");
    socket::send(ours.as_fd(), b"plain").expect("sent");
    socket::send_with_fds(ours.as_fd(), b"one", &[reader.as_fd()]).expect("sent");
    socket::send(ours.as_fd(), b"rest").expect("sent");
    socket::send_with_fds(ours.as_fd(), b"two", &[writer.as_fd(), reader.as_fd()]).expect("sent");
    let (mut buffer, mut batches, mut bytes) = ([0; 64], Vec::new(), Vec::new());
    while bytes.len() < 15 {
        let mut fds = Vec::new();
        let received = socket::recv(theirs.as_fd(), &mut buffer, &mut fds).expect("received");
        bytes.extend_from_slice(&buffer[..received.bytes]);
        if !fds.is_empty() {
            batches.push(fds.len());
        }
    }
    assert_eq!((bytes.as_slice(), batches.as_slice()), (&b"plainoneresttwo"[..], &[1, 2][..]));
}

#[test]
fn nothing_blocks_and_a_gone_peer_is_told() {
    let (ours, theirs) = socket::pair().expect("a socket pair");
    let (mut buffer, mut fds) = ([0; 64], Vec::new());
    let empty = socket::recv(ours.as_fd(), &mut buffer, &mut fds).expect_err("nothing there");
    assert_eq!(empty.kind(), ErrorKind::WouldBlock);
    let block = vec![0; 1 << 20];
    let full = loop {
        match socket::send(ours.as_fd(), &block) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    drop(theirs);
    let gone = socket::send(ours.as_fd(), b"?").expect_err("nobody there");
    assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn too_many_descriptors_and_no_byte_to_ride_on_are_refused() {
    let (ours, _theirs) = socket::pair().expect("a socket pair");
    let many = [ours.as_fd(); socket::MAX_FDS + 1];
    for (bytes, fds) in [(&b"x"[..], &many[..]), (b"", &many[..1])] {
        let error = socket::send_with_fds(ours.as_fd(), bytes, fds).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(errno::EINVAL));
    }
}
