//! Whatever the cuts, what the reader yields is what was sent: in order, whole, once.

use std::io::IoSlice;
use std::os::fd::AsFd;

use safe_port_core::codec::{Endian, Framing, Kind, Prefix};
use safe_port_core::reader::{Limit, Next, ReadError, Reader, Scratch, Source};
use safe_port_os::pipe;

/// A small generator with a fixed seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

/// Sends `input` in pieces of random size through a pipe and collects what the reader yields, `limit` at a time.
fn collect(framing: Framing, input: &[u8], random: &mut Random, limit: usize) -> Vec<(Kind, Vec<u8>)> {
    let (ours, theirs) = pipe::pipe().expect("a pipe");
    pipe::set_nonblocking(ours.as_fd(), true).expect("non-blocking");
    let mut reader: Reader<Vec<u8>> = Reader::new(framing);
    let mut scratch = Scratch::default();
    let mut found = Vec::new();
    let mut sent = 0;
    let mut theirs = Some(theirs);
    loop {
        if sent < input.len() {
            let end = input.len().min(sent + 1 + random.below(40_000));
            let fd = theirs.as_ref().expect("still open").as_fd();
            sent += pipe::writev(fd, &[IoSlice::new(&input[sent..end])]).expect("room in the pipe");
        } else {
            theirs = None;
        }
        loop {
            let outcome = reader.read(ours.as_fd(), &mut scratch, Limit::most(limit)).expect("readable");
            let bytes: &[u8] = match &outcome.source {
                Source::Scratch => scratch.bytes(),
                Source::Carry => reader.carry(),
                Source::Chunk(chunk) => chunk,
            };
            assert!(scratch.pieces.len() <= limit);
            found
                .extend(scratch.pieces.iter().map(|piece| (piece.kind, bytes[piece.range.clone()].to_vec())));
            match outcome.next {
                Next::More => {}
                Next::Wait => break,
                Next::Eof => return found,
            }
        }
    }
}

#[test]
fn packets_arrive_as_they_were_sent_whatever_the_cuts_and_limits() {
    let mut random = Random(0x5afe_9041);
    for round in 0..60 {
        let prefix = [Prefix::One, Prefix::Two, Prefix::Four][round % 3];
        let endian = if round % 2 == 0 { Endian::Big } else { Endian::Little };
        let framing = Framing::Packet { prefix, endian, max: prefix.max_packet() };
        let longest = [255, 60_000, 300_000][round % 3];
        let packets: Vec<Vec<u8>> = (0..20)
            .map(|_| {
                let length = random.below(longest + 1);
                random.bytes(length)
            })
            .collect();
        let mut input = Vec::new();
        for packet in &packets {
            input.extend_from_slice(framing.header(packet.len()).expect("it fits").as_slice());
            input.extend_from_slice(packet);
        }
        let limit = [1, 3, usize::MAX][random.below(3)];
        let found = collect(framing, &input, &mut random, limit);
        assert!(found.iter().all(|(kind, _)| *kind == Kind::Whole));
        assert_eq!(found.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), packets, "round {round}");
    }
}

#[test]
fn a_stream_arrives_byte_for_byte() {
    let mut random = Random(7);
    let input = random.bytes(3_000_000);
    let found = collect(Framing::Stream, &input, &mut random, usize::MAX);
    assert!(found.iter().all(|(_, bytes)| !bytes.is_empty()));
    assert_eq!(found.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>(), input);
}

/// Contract I4 to I6 in the plainest words: one byte at a time, the whole input at hand.
fn reference_lines(input: &[u8], max: usize) -> Vec<(Kind, Vec<u8>)> {
    let mut found = Vec::new();
    let mut line = Vec::new();
    let mut index = 0;
    while index < input.len() {
        let newline =
            if input[index..].starts_with(b"\r\n") { 2 } else { usize::from(input[index] == b'\n') };
        if newline > 0 {
            found.push((Kind::Eol, std::mem::take(&mut line)));
            index += newline;
            continue;
        }
        if line.len() == max {
            found.push((Kind::Noeol, std::mem::take(&mut line)));
        }
        line.push(input[index]);
        index += 1;
    }
    if !line.is_empty() {
        found.push((Kind::Noeol, line));
    }
    found
}

#[test]
fn lines_are_cut_as_the_contract_says_whatever_the_cuts_and_limits() {
    let mut random = Random(0x11fe);
    for round in 0..400 {
        let max = [1, 2, 5, 80, 70_000, 1 << 40][round % 6];
        let length = if max > 1000 { random.below(400_000) } else { random.below(300) };
        let rare = if max > 1000 { 30_000 } else { 4 };
        let input: Vec<u8> = (0..length)
            .map(|_| match random.below(rare) {
                0 => b'\n',
                1 => b'\r',
                _ => b'x',
            })
            .collect();
        let limit = [1, usize::MAX][random.below(2)];
        assert_eq!(
            collect(Framing::Line { max }, &input, &mut random, limit),
            reference_lines(&input, max),
            "round {round}, max {max}"
        );
    }
}

type Case = (&'static [u8], &'static [(Kind, &'static [u8])]);

#[test]
fn the_corners_of_carriage_return_are_those_of_the_contract() {
    let mut random = Random(3);
    let cases: [Case; 8] = [
        (b"abcde\r\n", &[(Kind::Eol, b"abcde")]),
        (b"ab\rcd\n", &[(Kind::Eol, b"ab\rcd")]),
        (b"\r\r\n", &[(Kind::Eol, b"\r")]),
        (b"abcde\rx\n", &[(Kind::Noeol, b"abcde"), (Kind::Eol, b"\rx")]),
        (b"abcd\r\r\n", &[(Kind::Eol, b"abcd\r")]),
        (b"abcde\r\r\n", &[(Kind::Noeol, b"abcde"), (Kind::Eol, b"\r")]),
        (b"ab\r", &[(Kind::Noeol, b"ab\r")]),
        (b"abcde\r", &[(Kind::Noeol, b"abcde"), (Kind::Noeol, b"\r")]),
    ];
    for (input, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(kind, bytes)| (*kind, bytes.to_vec())).collect();
        assert_eq!(collect(Framing::Line { max: 5 }, input, &mut random, usize::MAX), expected, "{input:?}");
    }
}

#[test]
fn an_unfinished_packet_is_dropped_at_the_end() {
    let framing = Framing::Packet { prefix: Prefix::Four, endian: Endian::Big, max: 1 << 24 };
    let mut random = Random(9);
    for input in [&b"\0\0\0\x02ok\0\0"[..], b"\0\0\0\x02ok\0\0\0\x09half", b"\0\0\0\x02ok\0\x01\0\0half"] {
        assert_eq!(collect(framing, input, &mut random, 8), vec![(Kind::Whole, b"ok".to_vec())]);
    }
}

#[test]
fn a_packet_that_is_too_long_is_refused_before_it_is_read_and_after_those_in_front_of_it() {
    let framing = Framing::Packet { prefix: Prefix::Four, endian: Endian::Big, max: 1000 };
    for length in [1001_u32, 0x7fff_ffff, 0xffff_ffff] {
        let (ours, theirs) = pipe::pipe().expect("a pipe");
        pipe::set_nonblocking(ours.as_fd(), true).expect("non-blocking");
        let mut input = b"\0\0\0\x02ok".to_vec();
        input.extend_from_slice(&length.to_be_bytes());
        pipe::writev(theirs.as_fd(), &[IoSlice::new(&input)]).expect("room");
        let mut reader: Reader<Vec<u8>> = Reader::new(framing);
        let mut scratch = Scratch::default();
        reader.read(ours.as_fd(), &mut scratch, Limit::most(usize::MAX)).expect("the first packet");
        assert_eq!(scratch.pieces.len(), 1);
        match reader.read(ours.as_fd(), &mut scratch, Limit::most(usize::MAX)) {
            Err(ReadError::TooLong(too_long)) => assert_eq!(too_long.bytes, length as usize),
            _ => panic!("expected TooLong for {length}"),
        }
    }
}

#[test]
fn after_the_end_of_the_program_only_what_was_in_the_pipe_is_read() {
    let (ours, theirs) = pipe::pipe().expect("a pipe");
    pipe::set_nonblocking(ours.as_fd(), true).expect("non-blocking");
    let send = |bytes| pipe::writev(theirs.as_fd(), &[IoSlice::new(bytes)]).expect("room");
    send(b"its own");
    let mut reader: Reader<Vec<u8>> = Reader::new(Framing::Stream);
    reader.end_after(pipe::readable_bytes(ours.as_fd()).expect("a pipe"));
    send(b"a descendant's");
    let mut scratch = Scratch::default();
    let outcome = reader.read(ours.as_fd(), &mut scratch, Limit::most(usize::MAX)).expect("readable");
    assert_eq!(
        (outcome.next, &scratch.bytes()[scratch.pieces[0].range.clone()]),
        (Next::More, &b"its own"[..])
    );
    let outcome = reader.read(ours.as_fd(), &mut scratch, Limit::most(usize::MAX)).expect("readable");
    assert_eq!((outcome.next, scratch.pieces.len()), (Next::Eof, 0));
}
