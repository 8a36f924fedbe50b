//! What is encoded is decoded, whatever the cuts; what is no frame is refused.

use safe_port_wire::{
    Ending, Event, Frames, Orphans, PortId, Request, Spawn, Stage, Target, Usage, MAX_FRAME_BYTES,
};

fn requests() -> Vec<Request> {
    let spawn = Spawn {
        id: PortId(7),
        file: b"/bin/cat".to_vec(),
        args: vec![b"cat".to_vec(), Vec::new(), b"\xff\xfe".to_vec()],
        env: vec![b"A=b".to_vec()],
        dir: Some(b"/tmp".to_vec()),
        fds: vec![0, 1, 2],
        ending: Ending { eof_timeout_ms: Some(1000), kill_timeout_ms: 5000, orphans: Orphans::Kill },
        cgroup: Some(b"/sys/fs/cgroup/x".to_vec()),
    };
    let bare = Spawn {
        args: Vec::new(),
        dir: None,
        cgroup: None,
        ending: Ending { eof_timeout_ms: None, kill_timeout_ms: 0, orphans: Orphans::Leave },
        ..spawn.clone()
    };
    let signal = |target| Request::Signal { id: PortId(u64::MAX), ticket: 3, signal: 15, target };
    vec![
        Request::Spawn(Box::new(spawn)),
        Request::Spawn(Box::new(bare)),
        Request::Close { id: PortId(1) },
        signal(Target::Leader),
        signal(Target::Group),
        signal(Target::Tree),
    ]
}

fn events() -> Vec<Event> {
    let id = PortId(9);
    vec![
        Event::Spawned { id, os_pid: 4242 },
        Event::Refused { id, stage: Stage::Fork, errno: 11 },
        Event::Refused { id, stage: Stage::Chdir, errno: 2 },
        Event::Refused { id, stage: Stage::Exec, errno: 8 },
        Event::Exited { id, status: -1, usage: Usage { user_us: 1, system_us: 2, max_rss_kib: u64::MAX } },
        Event::Ended { id },
        Event::Signalled { id, ticket: 1, errno: 3 },
    ]
}

fn bodies(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
    let mut frames = Frames::default();
    let mut found = Vec::new();
    for chunk in bytes.chunks(step) {
        frames.push(chunk);
        while let Some(body) = frames.next_body().expect("a frame") {
            found.push(body.to_vec());
        }
    }
    assert!(frames.is_empty());
    found
}

#[test]
fn requests_and_events_come_back_as_they_were_whatever_the_cuts() {
    let mut bytes = Vec::new();
    for request in requests() {
        request.encode(&mut bytes);
    }
    for step in 1..bytes.len() {
        let decoded: Vec<_> = bodies(&bytes, step).iter().map(|body| Request::decode(body)).collect();
        assert_eq!(decoded, requests().into_iter().map(Ok).collect::<Vec<_>>());
    }
    bytes.clear();
    for event in events() {
        event.encode(&mut bytes);
    }
    for step in 1..bytes.len() {
        let decoded: Vec<_> = bodies(&bytes, step).iter().map(|body| Event::decode(body)).collect();
        assert_eq!(decoded, events().into_iter().map(Ok).collect::<Vec<_>>());
    }
}

#[test]
fn a_body_that_is_cut_short_or_goes_on_is_refused() {
    for request in requests() {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        for end in 4..bytes.len() {
            assert!(Request::decode(&bytes[4..end]).is_err());
        }
        bytes.push(0);
        assert!(Request::decode(&bytes[4..]).is_err());
    }
    for event in events() {
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        for end in 4..bytes.len() {
            assert!(Event::decode(&bytes[4..end]).is_err());
        }
    }
}

#[test]
fn a_frame_longer_than_any_of_ours_is_refused_before_it_is_received() {
    let mut frames = Frames::default();
    frames.push(&(MAX_FRAME_BYTES as u32 + 1).to_ne_bytes());
    assert!(frames.next_body().is_err());
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let mut seed = 0x5afe_u64;
    for _ in 0..20_000 {
        let garbage: Vec<u8> = (0..seed % 60)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8 % 8
            })
            .collect();
        let _ = Request::decode(&garbage);
        let _ = Event::decode(&garbage);
        seed = seed.wrapping_add(1);
    }
}
