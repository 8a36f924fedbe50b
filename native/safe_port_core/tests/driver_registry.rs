//! Loading and unloading drivers.

mod driver_support;

use std::path::{Path, PathBuf};

use driver_support::{open, probe::global_calls, runner, Script, Seen, LONG, OWNER};
use safe_port_core::driver::{
    Bytes, CommandMode, Config, Library, LoadError, LoadRefusal, Loaded, OpenError, Options, Reason, Runner,
    UnloadMode, UnloadRefusal,
};
use safe_port_driver::{Driver, PortHandle, StartError};

probe!(Counted, "counted");

/// A library that cargo has built for these tests.
fn library(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.with_file_name(format!("libsafe_port_{name}_driver.so"))
}

/// A directory of this test's own, gone at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("safe_port_{name}_{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(runner: &Runner, path: &Path) -> Result<Loaded, LoadRefusal> {
    runner.load(path.to_owned()).wait().unwrap()
}

fn unload(runner: &Runner, name: &str) -> Result<usize, UnloadRefusal> {
    runner.unload(name, UnloadMode::Wait).wait().unwrap()
}

fn owner() -> (std::sync::Arc<driver_support::Owner>, crossbeam_channel::Receiver<Seen>) {
    let (sender, seen) = crossbeam_channel::unbounded();
    (std::sync::Arc::new(driver_support::Owner::new(sender)), seen)
}

fn loaded(name: &str, loads: usize) -> Loaded {
    Loaded { name: name.to_owned(), loads }
}

#[test]
fn a_driver_is_loaded_from_its_library_and_works() {
    let runner = runner(&[]);
    assert_eq!(load(&runner, &library("echo")).unwrap(), loaded("echo", 1));
    let (events, seen) = owner();
    let opening = runner.open(b"echo", Options::default(), OWNER, events).unwrap();
    opening.started.wait().unwrap().unwrap();
    opening.port.command(vec![Bytes::from(&b"hello"[..])], OWNER, CommandMode::Refuse).unwrap();
    assert_eq!(seen.recv_timeout(LONG), Ok(Seen::Data(b"hello".to_vec())));
    let reply = opening.port.control(1, Bytes::from(&b"bytes"[..]), OWNER).wait().unwrap();
    assert_eq!(&reply.bytes[..], b"bytes");
    let list = runner.list();
    assert_eq!((list[0].name.as_str(), list[0].ports, list[0].loads), ("echo", 1, 1));
    assert_eq!(list[0].path.as_deref(), Some(&*library("echo")));
}

#[test]
fn it_has_to_be_unloaded_as_often_as_it_was_loaded() {
    let runner = runner(&[]);
    let path = library("echo");
    assert_eq!(load(&runner, &path).unwrap(), loaded("echo", 1));
    assert_eq!(load(&runner, &path).unwrap(), loaded("echo", 2));
    assert_eq!(unload(&runner, "echo"), Ok(1));
    assert!(runner.has_driver(b"echo"));
    assert_eq!(unload(&runner, "echo"), Ok(0));
    assert!(!runner.has_driver(b"echo"));
    assert_eq!(unload(&runner, "echo"), Err(UnloadRefusal::NotLoaded));
}

#[test]
fn unloading_waits_for_the_last_port_and_takes_no_new_ones() {
    let runner = runner(&[]);
    load(&runner, &library("echo")).unwrap();
    let (events, _seen) = owner();
    let opening = runner.open(b"echo", Options::default(), OWNER, events).unwrap();
    opening.started.wait().unwrap().unwrap();
    let unloading = runner.unload("echo", UnloadMode::Wait);
    assert!(runner.list()[0].unloading);
    let (events, _seen) = owner();
    let refused = runner.open(b"echo", Options::default(), OWNER, events);
    assert!(matches!(refused, Err(OpenError::NoDriver)));
    assert_eq!(unloading.take(), None);
    opening.port.close(safe_port_core::driver::CloseMode::Flush);
    assert_eq!(unloading.wait().unwrap(), Ok(0));
    assert!(runner.list().is_empty());
}

#[test]
fn unloading_can_close_the_ports() {
    let runner = runner(&[]);
    load(&runner, &library("echo")).unwrap();
    let (events, seen) = owner();
    let opening = runner.open(b"echo", Options::default(), OWNER, events).unwrap();
    opening.started.wait().unwrap().unwrap();
    assert_eq!(runner.unload("echo", UnloadMode::Kill).wait().unwrap(), Ok(0));
    assert_eq!(seen.recv_timeout(LONG), Ok(Seen::Failed(Reason::Unloaded)));
    assert_eq!(seen.recv_timeout(LONG), Ok(Seen::Closed));
}

#[test]
fn loading_again_takes_a_pending_unload_back() {
    let runner = runner(&[]);
    load(&runner, &library("echo")).unwrap();
    let (events, _seen) = owner();
    let opening = runner.open(b"echo", Options::default(), OWNER, events).unwrap();
    opening.started.wait().unwrap().unwrap();
    let unloading = runner.unload("echo", UnloadMode::Wait);
    assert_eq!(load(&runner, &library("echo")).unwrap(), loaded("echo", 1));
    assert_eq!(unloading.wait().unwrap(), Err(UnloadRefusal::LoadedAgain));
    assert!(opening.port.is_open());
    assert!(runner.has_driver(b"echo"));
}

#[test]
fn finish_comes_after_the_last_stop_and_init_again_before_the_next_start() {
    let runner = Runner::new(Config::default(), &[]).unwrap();
    runner.add(Library::builtin::<Counted>()).wait().unwrap().unwrap();
    let ports = [open(&runner, "counted", Script::new()), open(&runner, "counted", Script::new())];
    let unloading = runner.unload("counted", UnloadMode::Kill);
    assert_eq!(unloading.wait().unwrap(), Ok(0));
    for port in &ports {
        port.called(&["stop"]);
    }
    assert_eq!(global_calls("counted"), ["counted init", "counted finish"]);
    runner.add(Library::builtin::<Counted>()).wait().unwrap().unwrap();
    drop(open(&runner, "counted", Script::new()));
    assert_eq!(global_calls("counted"), ["counted init", "counted finish", "counted init"]);
}

struct Refusing;

impl Driver for Refusing {
    const NAME: &'static str = "refusing";

    fn init() -> Result<(), String> {
        Err("not today".to_owned())
    }

    fn start(_port: &PortHandle, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Refusing)
    }
}

struct Panicking;

impl Driver for Panicking {
    const NAME: &'static str = "panicking";

    fn init() -> Result<(), String> {
        panic!("oh no")
    }

    fn start(_port: &PortHandle, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Panicking)
    }
}

#[test]
fn an_init_that_refuses_or_panics_is_not_loaded() {
    let runner = runner(&[Library::builtin::<Refusing>(), Library::builtin::<Panicking>()]);
    assert!(runner.list().is_empty());
    let refusal = runner.add(Library::builtin::<Refusing>()).wait().unwrap().unwrap_err();
    assert_eq!(refusal.to_string(), "driver refusing refuses to be loaded: not today");
    let refusal = runner.add(Library::builtin::<Panicking>()).wait().unwrap().unwrap_err();
    assert_eq!(refusal.to_string(), "driver panicking refuses to be loaded: its init panicked: oh no");
}

#[test]
fn another_driver_of_the_same_name_is_refused() {
    let runner = runner(&[Library::builtin::<safe_port_echo_driver::Echo>()]);
    let refusal = load(&runner, &library("echo")).unwrap_err();
    assert!(matches!(refusal, LoadRefusal::NameTaken(name) if name == "echo"));
    assert_eq!(unload(&runner, "echo"), Err(UnloadRefusal::BuiltIn));
}

/// Where the header of the entry is in a driver's library.
fn header(content: &[u8]) -> usize {
    content.windows(16).position(|window| window == b"SafePort driver\0").unwrap()
}

#[test]
fn what_is_no_driver_is_refused_with_the_reason() {
    let runner = runner(&[]);
    let scratch = Scratch::new("refused");
    let echo = std::fs::read(library("echo")).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut content = echo.clone();
        content[header(&echo) + at] = byte;
        content
    };
    let cases = [
        ("missing.so", None, "cannot read"),
        ("text.so", Some(b"no library at all".to_vec()), "it is no shared library"),
        ("empty.so", Some(Vec::new()), "it is no shared library"),
        ("cut.so", Some(echo[..echo.len() / 50].to_vec()), "cut off"),
        ("abi.so", Some(changed(16, 200)), "has version 200 of the driver interface, expected 1"),
        ("sdk.so", Some(changed(24, b'9')), "was built with safe_port_driver 9.1.0, expected 0.1.0"),
        ("magic.so", Some(changed(0, b'X')), "has no driver entry"),
    ];
    for (name, content, reason) in cases {
        let path = match content {
            Some(content) => scratch.file(name, &content),
            None => scratch.0.join(name),
        };
        let refusal = load(&runner, &path).unwrap_err().to_string();
        assert!(refusal.contains(reason), "{name}: {refusal}");
        assert!(refusal.contains(name), "{name}: {refusal}");
    }
    let refusal = load(&runner, &scratch.0).unwrap_err();
    assert!(matches!(refusal, LoadRefusal::File(LoadError::NotALibrary(..))), "{refusal}");
    // A library, but not one of a driver: nothing of it is run.
    let standard = ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/libc.so.6", "/lib64/libc.so.6"];
    if let Some(path) = standard.iter().map(Path::new).find(|path| path.exists()) {
        assert!(matches!(load(&runner, path), Err(LoadRefusal::File(LoadError::NoEntry(_)))));
    }
    assert!(runner.list().is_empty());
}

#[test]
fn a_library_that_is_overwritten_while_it_is_loaded_goes_on_working() {
    let runner = runner(&[]);
    let scratch = Scratch::new("overwritten");
    let echo = std::fs::read(library("digest")).unwrap();
    let path = scratch.file("driver.so", &echo);
    load(&runner, &path).unwrap();
    scratch.file("driver.so", &vec![0; echo.len()]);
    let (events, _seen) = owner();
    let opening = runner.open(b"digest", Options::default(), OWNER, events).unwrap();
    opening.started.wait().unwrap().unwrap();
    let reply = opening.port.control(2, Bytes::from(&b"abc"[..]), OWNER).wait().unwrap();
    assert_eq!(reply.bytes[..4], [0xba, 0x78, 0x16, 0xbf]);
    assert!(load(&runner, &path).is_err());
}

/// Memory and descriptors of this process.
fn footprint() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (kib, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

#[test]
fn loading_and_unloading_a_thousand_times_takes_nothing() {
    let runner = runner(&[]);
    let path = library("echo");
    let round = || {
        load(&runner, &path).unwrap();
        let (events, _seen) = owner();
        let opening = runner.open(b"echo", Options::default(), OWNER, events).unwrap();
        opening.started.wait().unwrap().unwrap();
        assert_eq!(runner.unload("echo", UnloadMode::Kill).wait().unwrap(), Ok(0));
    };
    (0..50).for_each(|_| round());
    let (kib, descriptors) = footprint();
    (0..1000).for_each(|_| round());
    let (later_kib, later_descriptors) = footprint();
    // Other tests of this process come and go: what a leak of a library would take is far more.
    assert!(later_kib < kib + 32 * 1024, "from {kib} KiB to {later_kib} KiB");
    assert!(later_descriptors < descriptors + 100, "from {descriptors} to {later_descriptors} descriptors");
}
