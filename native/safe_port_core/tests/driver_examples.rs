//! The example drivers.

mod driver_support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{unbounded, Receiver};
use driver_support::{runner, Owner, Seen, LONG, OWNER};
use safe_port_core::driver::{
    Bytes, CallError, CloseMode, CommandMode, Library, Options, Port, Runner, StartRefusal,
};
use safe_port_digest_driver as digest;
use safe_port_driver::Term;
use safe_port_watch_driver as watch;

fn all() -> Runner {
    runner(&[
        Library::builtin::<safe_port_echo_driver::Echo>(),
        Library::builtin::<digest::Digest>(),
        Library::builtin::<watch::Watch>(),
    ])
}

fn open(runner: &Runner, command: &[u8]) -> (Arc<Port>, Receiver<Seen>) {
    let (seen, events) = unbounded();
    let opening = runner.open(command, Options::default(), OWNER, Arc::new(Owner::new(seen))).unwrap();
    opening.started.wait().unwrap().unwrap();
    (opening.port, events)
}

fn refusal(runner: &Runner, command: &[u8]) -> StartRefusal {
    let owner = Arc::new(Owner::new(unbounded().0));
    runner.open(command, Options::default(), OWNER, owner).unwrap().started.wait().unwrap().unwrap_err()
}

fn send(port: &Arc<Port>, data: &[u8]) {
    port.command(vec![Bytes::from(data)], OWNER, CommandMode::Refuse).unwrap();
}

fn control(port: &Arc<Port>, op: u32, data: &[u8]) -> Result<Vec<u8>, CallError> {
    port.control(op, Bytes::from(data), OWNER).wait().map(|reply| reply.bytes.to_vec())
}

fn call(port: &Arc<Port>, op: u32, term: &Term) -> Result<Term, CallError> {
    let reply = port.call(op, Bytes::from(term.encode().unwrap()), OWNER).wait()?;
    Ok(Term::decode(&reply).unwrap())
}

fn next(events: &Receiver<Seen>) -> Seen {
    events.recv_timeout(LONG).unwrap()
}

#[test]
fn echo_sends_back_bytes_control_data_and_terms() {
    let runner = all();
    let (port, events) = open(&runner, b"echo with arguments");
    send(&port, b"hello");
    assert_eq!(next(&events), Seen::Data(b"hello".to_vec()));
    assert_eq!(control(&port, 7, b"bytes").unwrap(), b"bytes");
    let term = Term::map([(Term::atom("any"), Term::list([Term::from(-1)]))]);
    assert_eq!(call(&port, 7, &term).unwrap(), term);
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn digest_sends_the_hash_of_all_data_up_to_each_finish() {
    let runner = all();
    let (port, events) = open(&runner, b"digest");
    control(&port, digest::FINISH, b"").unwrap();
    for part in [b"a", b"b", b"c"] {
        send(&port, part);
    }
    control(&port, digest::FINISH, b"").unwrap();
    control(&port, digest::FINISH, b"").unwrap();
    send(&port, b"abc");
    control(&port, digest::FINISH, b"").unwrap();
    for expected in [OF_NOTHING, OF_ABC, OF_NOTHING, OF_ABC] {
        let Seen::Data(sum) = next(&events) else { panic!("no digest") };
        assert_eq!(hex(&sum), expected);
    }
    assert_eq!(control(&port, digest::COUNT, b"").unwrap(), 6_u64.to_be_bytes());
    assert_eq!(hex(&control(&port, digest::HASH, b"abc").unwrap()), OF_ABC);
    assert_eq!(control(&port, 99, b""), Err(CallError::BadArg));
    assert!(port.control(digest::COUNT, Bytes::from(&b""[..]), OWNER).wait().unwrap().binary);
}

#[test]
fn digest_is_busy_when_much_is_queued_and_hashes_all_before_it_closes() {
    let runner = all();
    let options = Options { busy_limits: safe_port_core::driver::BusyLimits::Disabled, ..Options::default() };
    let (seen, events) = unbounded();
    let opening = runner.open(b"digest", options, OWNER, Arc::new(Owner::new(seen))).unwrap();
    opening.started.wait().unwrap().unwrap();
    send(&opening.port, &vec![0; 16 * 1024 * 1024]);
    assert_eq!(next(&events), Seen::Busy(true));
    opening.port.close(CloseMode::Flush);
    let rest: Vec<Seen> = std::iter::from_fn(|| events.recv_timeout(LONG).ok()).take(2).collect();
    assert_eq!(rest.last(), Some(&Seen::Closed));
    assert_eq!(opening.port.info().queue_size, 0);
}

/// A directory of this test's own, gone at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("safe_port_{name}_{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn path(path: &std::path::Path) -> Term {
    Term::from(path.to_str().unwrap())
}

/// Reads events until `event` is among those of `file`.
fn wait_for(events: &Receiver<Seen>, file: &std::path::Path, event: &str) {
    loop {
        let Seen::Term(term) = next(events) else { panic!("no term") };
        let [tag, name, list] = term.as_tuple().unwrap() else { panic!("{term:?}") };
        assert_eq!(tag.as_atom(), Some("watch"));
        if *name == path(file) && list.as_list().unwrap().contains(&Term::atom(event)) {
            return;
        }
    }
}

#[test]
fn watch_tells_what_happens_in_a_directory() {
    let runner = all();
    let scratch = Scratch::new("watch");
    let (port, events) = open(&runner, format!("watch {}", scratch.0.display()).as_bytes());
    let file = scratch.0.join("file");
    fs::write(&file, "text").unwrap();
    wait_for(&events, &file, "created");
    wait_for(&events, &file, "written");
    let other = scratch.0.join("other");
    fs::rename(&file, &other).unwrap();
    wait_for(&events, &file, "moved_from");
    wait_for(&events, &other, "moved_to");
    fs::remove_file(&other).unwrap();
    wait_for(&events, &other, "deleted");
    port.close(CloseMode::Flush);
    assert_eq!(next(&events), Seen::Closed);
}

#[test]
fn watch_follows_a_tree_that_grows_and_shrinks() {
    let runner = all();
    let scratch = Scratch::new("tree");
    let old = scratch.0.join("old");
    fs::create_dir(&old).unwrap();
    let (port, events) = open(&runner, b"watch");
    assert_eq!(call(&port, watch::ADD_TREE, &path(&scratch.0)).unwrap(), Term::atom("ok"));
    fs::write(old.join("a"), "").unwrap();
    wait_for(&events, &old.join("a"), "written");
    // Whatever is made before the new directories are watched is found.
    let deep = scratch.0.join("new/deep");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("b"), "").unwrap();
    wait_for(&events, &deep.join("b"), "created");
    assert_eq!(call(&port, watch::LIST, &Term::atom("nil")).unwrap().as_list().map(<[Term]>::len), Some(4));
    let outside = Scratch::new("outside");
    fs::rename(scratch.0.join("new"), outside.0.join("new")).unwrap();
    wait_for(&events, &scratch.0.join("new"), "moved_from");
    assert_eq!(call(&port, watch::LIST, &Term::atom("nil")).unwrap().as_list().map(<[Term]>::len), Some(2));
    assert_eq!(call(&port, watch::REMOVE, &path(&scratch.0)).unwrap(), Term::atom("ok"));
    assert_eq!(call(&port, watch::LIST, &Term::atom("nil")).unwrap(), Term::list([]));
}

#[test]
fn watch_refuses_what_it_cannot_watch() {
    let runner = all();
    assert_eq!(refusal(&runner, b"watch /nowhere/at/all"), StartRefusal::Errno(2));
    let (port, _events) = open(&runner, b"watch");
    let error = |name| Term::tuple([Term::atom("error"), Term::atom(name)]);
    assert_eq!(call(&port, watch::ADD, &Term::from("/nowhere")).unwrap(), error("enoent"));
    assert_eq!(call(&port, watch::ADD_TREE, &Term::from("/proc/self/status")).unwrap(), error("enotdir"));
    assert_eq!(call(&port, watch::REMOVE, &Term::from("/nowhere")).unwrap(), error("enoent"));
    assert_eq!(call(&port, watch::ADD, &Term::from(1)), Err(CallError::BadArg));
    assert_eq!(call(&port, 99, &Term::from("/tmp")), Err(CallError::BadArg));
}
