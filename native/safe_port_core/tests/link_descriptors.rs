//! No descriptor and no zombie is left, whatever happens. One test, as all tests of a file share their process.
#![cfg(target_os = "linux")]

mod link_support;

use std::path::PathBuf;

use link_support::{guardian, open_descriptors, output, program, sleeper, Port, Process, PATIENCE};
use safe_port_core::link::{Link, LinkConfig, LinkEvent};
use safe_port_os::signal::SIGKILL;
use safe_port_wire::Spawn;

/// Everything that can happen to a spawn.
fn all_cases(link: &Link) {
    for _ in 0..50 {
        let large = program(&["/bin/true", &"x".repeat(100_000), &"y".repeat(100_000)]);
        let cases = [
            program(&["/bin/true"]),
            program(&["/nowhere"]),
            large,
            program(&["/bin/true", &"x".repeat(9_000_000)]),
            Spawn { dir: Some(b"/nowhere".to_vec()), ..program(&["/bin/true"]) },
        ];
        let ports = cases.map(|spawn| Port::open(link, spawn));
        for port in &ports {
            port.rest();
        }
    }
    let many = Spawn { fds: (0..40).collect(), ..sleeper() };
    Port::open(link, many).rest();
    for _ in 0..3 {
        let ports: Vec<Port> = (0..10).map(|_| Port::open(link, sleeper())).collect();
        ports[9].spawned();
        Process::guardian(link).signal(SIGKILL);
        for port in ports {
            assert_eq!(port.rest().last(), Some(&LinkEvent::GuardianDown));
        }
    }
    let (reader, writer) = output();
    let port = Port::open_with(link, Spawn { fds: vec![1], ..sleeper() }, vec![writer]);
    port.spawned();
    link.close(port.id);
    assert_eq!(link_support::read_to_end(reader), "");
    port.rest();
}

/// Children of this process, zombies included.
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc").filter_map(Result::ok);
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn nothing_is_left_open_or_unreaped() {
    let link = guardian();
    all_cases(&link);
    let before = open_descriptors();
    for _ in 0..3 {
        all_cases(&link);
    }
    // The processes of former guardians keep a descriptor until they have ended.
    let deadline = std::time::Instant::now() + PATIENCE;
    while children().len() > 1 {
        assert!(std::time::Instant::now() < deadline, "{:?} are not reaped", children());
        std::thread::yield_now();
    }
    let now = open_descriptors();
    assert_eq!(now.len(), before.len(), "{before:#?} {now:#?}");
    drop(link);
    for path in ["/nowhere", "/bin/true"] {
        let link = Link::new(LinkConfig { guardian: PathBuf::from(path) });
        for _ in 0..20 {
            Port::open(&link, sleeper()).rest();
        }
    }
    while !children().is_empty() {
        assert!(std::time::Instant::now() < deadline + PATIENCE, "{:?} are not reaped", children());
        std::thread::yield_now();
    }
}
