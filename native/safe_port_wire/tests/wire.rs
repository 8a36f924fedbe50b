//! What is encoded is decoded as it was, whatever the cuts; what is no message is an error, never a panic.

use safe_port_wire::{
    DecodeError, Ending, Event, Frames, Orphans, PortId, Request, Spawn, Stage, Target, Usage,
    MAX_FRAME_BYTES,
};

fn spawn() -> Spawn {
    Spawn {
        id: PortId(u64::MAX),
        file: b"/bin/sh".to_vec(),
        args: vec![b"sh".to_vec(), Vec::new(), vec![0xff; 300]],
        env: b"HOME=/root\0".to_vec(),
        dir: Some(b"/tmp".to_vec()),
        fds: vec![0, 1, 2, 400],
        ending: Ending { eof_timeout_ms: Some(1000), kill_timeout_ms: 5000, orphans: Orphans::Kill },
        cgroup: None,
    }
}

fn requests() -> Vec<Request> {
    let bare = Spawn {
        args: Vec::new(),
        env: Vec::new(),
        dir: None,
        fds: Vec::new(),
        ending: Ending { eof_timeout_ms: None, kill_timeout_ms: 0, orphans: Orphans::Leave },
        cgroup: Some(b"/sys/fs/cgroup/app".to_vec()),
        ..spawn()
    };
    let mut requests = vec![
        Request::Spawn(Box::new(spawn())),
        Request::Spawn(Box::new(bare)),
        Request::Close { id: PortId(7) },
    ];
    for target in [Target::Leader, Target::Group, Target::Tree] {
        requests.push(Request::Signal { id: PortId(1), ticket: 1 << 40, signal: 15, target });
    }
    requests
}

fn events() -> Vec<Event> {
    let id = PortId(0x0102_0304_0506_0708);
    let usage = Usage { user_us: 1, system_us: u64::MAX, max_rss_kib: 3 };
    let mut events = vec![
        Event::Ready { os_pid: 4_000_000 },
        Event::Spawned { id, os_pid: u32::MAX },
        Event::Exited { id, status: 0x8b, usage },
        Event::Ended { id },
        Event::Signalled { id, ticket: 9, errno: 3 },
    ];
    for stage in [Stage::Fork, Stage::Chdir, Stage::Exec] {
        events.push(Event::Refused { id, stage, errno: 7 });
    }
    events
}

/// Feeds `stream` to a splitter in pieces of `cut` bytes and decodes what comes out.
fn reassemble<T>(stream: &[u8], cut: usize, decode: fn(&[u8]) -> Result<T, DecodeError>) -> Vec<T> {
    let mut frames = Frames::default();
    let mut found = Vec::new();
    for piece in stream.chunks(cut) {
        frames.push(piece);
        while let Some(frame) = frames.next_frame().expect("a good stream") {
            found.push(decode(frame).expect("a good frame"));
        }
    }
    found
}

#[test]
fn requests_arrive_as_they_were_sent_whatever_the_cuts() {
    let mut stream = Vec::new();
    for request in requests() {
        request.encode(&mut stream);
    }
    for cut in 1..=stream.len() {
        assert_eq!(reassemble(&stream, cut, Request::decode), requests(), "cut every {cut} bytes");
    }
}

#[test]
fn events_arrive_as_they_were_sent_whatever_the_cuts() {
    let mut stream = Vec::new();
    for event in events() {
        event.encode(&mut stream);
    }
    for cut in 1..=stream.len() {
        assert_eq!(reassemble(&stream, cut, Event::decode), events(), "cut every {cut} bytes");
    }
}

#[test]
fn arguments_of_the_kernels_full_size_fit_a_frame() {
    let big = Spawn { args: vec![vec![b'x'; 131_071]; 15], env: vec![b'y'; 131_072 * 15], ..spawn() };
    let mut stream = Vec::new();
    let request = Request::Spawn(Box::new(big));
    request.encode(&mut stream);
    assert_eq!(reassemble(&stream, 65_536, Request::decode), [request]);
}

#[test]
fn a_truncated_message_is_an_error_at_every_length() {
    let mut stream = Vec::new();
    for request in requests() {
        stream.clear();
        request.encode(&mut stream);
        for end in 4..stream.len() {
            assert!(
                matches!(Request::decode(&stream[4..end]), Err(DecodeError::Short { .. })),
                "{request:?} cut at {end}"
            );
        }
    }
    for event in events() {
        stream.clear();
        event.encode(&mut stream);
        for end in 4..stream.len() {
            assert!(
                matches!(Event::decode(&stream[4..end]), Err(DecodeError::Short { .. })),
                "{event:?} cut at {end}"
            );
        }
    }
}

#[test]
fn bytes_behind_a_message_are_an_error() {
    let mut stream = Vec::new();
    Request::Close { id: PortId(1) }.encode(&mut stream);
    stream.extend_from_slice(b"??");
    assert_eq!(Request::decode(&stream[4..]), Err(DecodeError::Trailing(2)));
}

#[test]
fn an_unknown_tag_is_named() {
    let error = Request::decode(&[99]).expect_err("no such request");
    assert_eq!(error, DecodeError::Unknown { what: "request", value: 99 });
    assert_eq!(error.to_string(), "there is no request 99");
    assert_eq!(Event::decode(&[0]), Err(DecodeError::Unknown { what: "event", value: 0 }));
}

#[test]
fn a_frame_longer_than_the_limit_is_refused_before_it_is_read() {
    let mut frames = Frames::default();
    frames.push(&u32::MAX.to_le_bytes());
    assert_eq!(frames.next_frame(), Err(DecodeError::TooLong(u32::MAX as usize)));
    let mut frames = Frames::default();
    frames.push(&(MAX_FRAME_BYTES as u32).to_le_bytes());
    assert_eq!(frames.next_frame(), Ok(None));
}

#[test]
fn garbage_never_panics_and_never_takes_more_memory_than_it_has_bytes() {
    let mut seed = 0x5afe_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut whole = Vec::new();
    Request::Spawn(Box::new(spawn())).encode(&mut whole);
    for _ in 0..20_000 {
        let mut garbage = whole[4..].to_vec();
        for _ in 0..=random() % 4 {
            let at = random() as usize % garbage.len();
            garbage[at] = random() as u8;
        }
        let _ = Request::decode(&garbage);
        let noise: Vec<u8> = (0..random() % 64).map(|_| random() as u8).collect();
        let _ = Request::decode(&noise);
        let _ = Event::decode(&noise);
    }
    // A list that announces four thousand million entries has none.
    let mut list = vec![1];
    list.extend_from_slice(&[0; 12]);
    list.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(Request::decode(&list), Err(DecodeError::Short { .. })));
}
