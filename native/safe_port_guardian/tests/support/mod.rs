//! A VM as the guardian sees it, and what is needed to count what is left of its programs.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use safe_port_os::pidfd::PidFd;
use safe_port_os::poll::{poll, PollFd};
use safe_port_os::process::Pid;
use safe_port_os::tally::Tally;
use safe_port_os::{dir, pipe, signal, socket, spawn, wait};
use safe_port_wire::{Ending, Event, Frames, Orphans, PortId, Request, Spawn, Stage, Target};

/// How long a test waits for what must happen at once, on the slowest of machines.
const PATIENCE: Duration = Duration::from_mins(1);

/// An ending that is over quickly.
pub const QUICK: Ending = Ending { eof_timeout_ms: Some(50), kill_timeout_ms: 300, orphans: Orphans::Kill };

/// A number that no other process on this machine has in its command line.
pub fn tag() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("9{:07}{:05}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The living processes whose command line contains `tag`, as `<pid> <command line>`.
pub fn survivors(tag: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let path = entry.path();
        // Empty for zombies.
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(tag) {
            found.push(format!("{} {command}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// The children of `pid`, zombies included.
pub fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").filter_map(Result::ok);
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().expect("a number")).collect::<Vec<_>>()
        })
        .collect()
}

/// Waits until the guardian `pid` has reaped every child: one that could not be started is told of before it is reaped.
pub fn wait_until_childless(pid: i32) {
    let deadline = Instant::now() + PATIENCE;
    while !children(pid).is_empty() {
        assert!(Instant::now() < deadline, "{:?} are not reaped", children(pid));
        std::thread::yield_now();
    }
}

/// Waits until the process `pid` has ended.
pub fn wait_for_end(pid: i32) {
    let Some(pid) = Pid::new(pid) else { return };
    if let Ok(pidfd) = PidFd::open(pid) {
        let mut fds = [PollFd::new(pidfd.as_fd(), true, false)];
        let ready = poll(&mut fds, Some(PATIENCE)).expect("polled");
        assert_eq!(ready, 1, "process {} has not ended", pid.get());
    }
}

/// A program to open.
pub struct Command {
    pub file: String,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub dir: Option<String>,
    pub ending: Ending,
    pub cgroup: Option<String>,
}

pub fn command(words: &[&str]) -> Command {
    Command {
        file: words[0].to_owned(),
        args: words.iter().map(|word| (*word).to_owned()).collect(),
        env: vec!["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()],
        dir: None,
        ending: QUICK,
        cgroup: None,
    }
}

pub fn shell(script: &str) -> Command {
    command(&["/bin/sh", "-c", script])
}

impl Command {
    pub fn ending(self, ending: Ending) -> Command {
        Command { ending, ..self }
    }
}

/// A program that was opened.
pub struct Port {
    pub id: PortId,
    pub os_pid: i32,
    /// Its standard input; dropped, it is closed.
    pub stdin: OwnedFd,
    pub stdout: File,
}

impl Port {
    /// Reads one line of its output.
    pub fn line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte[0] != b'\n' {
            assert_eq!(self.stdout.read(&mut byte).expect("readable"), 1, "the output ends within a line");
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text").trim_end().to_owned()
    }

    /// Reads the rest of its output.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        rest
    }
}

/// A VM with its guardian.
pub struct Vm {
    pub number: u64,
    socket: Option<OwnedFd>,
    pub sentinel: i32,
    pub guardian: i32,
    frames: Frames,
    events: VecDeque<Event>,
    next: u64,
}

impl Vm {
    /// A VM that nobody else is.
    pub fn start() -> Vm {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = 0xfa << 56 | u64::from(std::process::id()) << 24 | NEXT.fetch_add(1, Ordering::Relaxed);
        Vm::start_again(number, 1)
    }

    /// The VM of this number, with another guardian.
    pub fn start_again(number: u64, generation: u64) -> Vm {
        Vm::start_with(&[env!("CARGO_BIN_EXE_safe_port_guardian")], number, generation)
    }

    /// With a guardian that `words` start.
    pub fn start_with(words: &[&str], number: u64, generation: u64) -> Vm {
        let (ours, theirs) = socket::pair().expect("a socket pair");
        let numbers = [format!("{number:016x}"), generation.to_string()];
        let argv: Vec<CString> = words
            .iter()
            .copied()
            .chain(numbers.iter().map(String::as_str))
            .map(|word| CString::new(word).expect("no NUL"))
            .collect();
        let tally = Tally::new().expect("a tally");
        let fds = [(theirs.as_fd(), 3), (tally.as_fd(), 4)];
        let sentinel = spawn::daemon(&argv[0], &argv, &fds).expect("the guardian starts");
        drop(theirs);
        let mut vm = Vm {
            number,
            socket: Some(ours),
            sentinel: sentinel as i32,
            guardian: 0,
            frames: Frames::default(),
            events: VecDeque::new(),
            next: 1,
        };
        vm.guardian = vm.expect("the guardian to be ready", |event| match event {
            Event::Ready { os_pid } => Some(*os_pid as i32),
            _ => None,
        });
        vm
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("the VM is there").as_fd()
    }

    fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let (mut sent, mut fds) = (0, fds);
        while sent < bytes.len() {
            match socket::send_with_fds(self.socket(), &bytes[sent..], fds) {
                Ok(count) => {
                    sent += count;
                    fds = &[];
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    let mut fds = [PollFd::new(self.socket(), false, true)];
                    assert_eq!(poll(&mut fds, Some(PATIENCE)).expect("polled"), 1, "the guardian reads");
                }
            }
        }
    }

    /// Asks for a program that has `fds` under the numbers beside them.
    pub fn spawn(
        &mut self,
        command: &Command,
        working_dir: BorrowedFd<'_>,
        fds: &[(BorrowedFd<'_>, i32)],
    ) -> PortId {
        let id = PortId(self.next);
        self.next += 1;
        let mut spawn = request(id, command);
        spawn.fds = fds.iter().map(|(_, number)| *number).collect();
        let passed: Vec<_> = [working_dir].into_iter().chain(fds.iter().map(|(fd, _)| *fd)).collect();
        self.send(&Request::Spawn(Box::new(spawn)), &passed);
        id
    }

    /// Asks for a program with descriptors for its first `numbers` numbers, but passes none of them.
    pub fn spawn_with_lost_fds(
        &mut self,
        command: &Command,
        working_dir: BorrowedFd<'_>,
        numbers: i32,
    ) -> PortId {
        let id = PortId(self.next);
        self.next += 1;
        let mut spawn = request(id, command);
        spawn.fds = (0..numbers).collect();
        self.send(&Request::Spawn(Box::new(spawn)), &[working_dir]);
        id
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        assert_eq!(socket::send(self.socket(), bytes).expect("sent"), bytes.len());
    }

    /// Opens a program with pipes as its standard input and output.
    pub fn open(&mut self, command: &Command) -> Port {
        let (stdin_theirs, stdin) = pipe::pipe().expect("a pipe");
        let (stdout, stdout_theirs) = pipe::pipe().expect("a pipe");
        let here = dir::current().expect("the working directory");
        let fds =
            [(stdin_theirs.as_fd(), 0), (stdout_theirs.as_fd(), 1), (dir::null().expect("null").as_fd(), 2)]
                .map(|(fd, number)| (fd.try_clone_to_owned().expect("a copy"), number));
        let borrowed: Vec<_> = fds.iter().map(|(fd, number)| (fd.as_fd(), *number)).collect();
        let id = self.spawn(command, here.as_fd(), &borrowed);
        let os_pid =
            self.spawned(id).unwrap_or_else(|refused| panic!("{:?} was refused: {refused:?}", command.args));
        Port { id, os_pid, stdin, stdout: stdout.into() }
    }

    /// Opens a program without any descriptor; why not, if not.
    pub fn try_open(&mut self, command: &Command) -> Result<(PortId, i32), (Stage, i32)> {
        let here = dir::current().expect("the working directory");
        let id = self.spawn(command, here.as_fd(), &[]);
        self.spawned(id).map(|os_pid| (id, os_pid))
    }

    /// Waits for the answer to a spawn.
    pub fn spawned(&mut self, id: PortId) -> Result<i32, (Stage, i32)> {
        self.expect("the answer to a spawn", |event| match event {
            Event::Spawned { id: other, os_pid } if *other == id => Some(Ok(*os_pid as i32)),
            Event::Refused { id: other, stage, errno } if *other == id => Some(Err((*stage, *errno))),
            _ => None,
        })
    }

    /// Closes standard input, and the port.
    pub fn close(&mut self, port: Port) {
        drop(port.stdin);
        self.send(&Request::Close { id: port.id }, &[]);
    }

    pub fn close_id(&mut self, id: PortId) {
        self.send(&Request::Close { id }, &[]);
    }

    /// Sends a signal and waits for the answer.
    pub fn signal(&mut self, id: PortId, signal: i32, target: Target) -> i32 {
        let ticket = self.next;
        self.next += 1;
        self.send(&Request::Signal { id, ticket, signal, target }, &[]);
        self.expect("the answer to a signal", |event| match event {
            Event::Signalled { ticket: other, errno, .. } if *other == ticket => Some(*errno),
            _ => None,
        })
    }

    /// Waits for the end of the program: its wait status and what it used.
    pub fn exited(&mut self, id: PortId) -> (i32, safe_port_wire::Usage) {
        self.expect("the end of a program", |event| match event {
            Event::Exited { id: other, status, usage } if *other == id => Some((*status, *usage)),
            _ => None,
        })
    }

    /// Waits until nothing of the port is left.
    pub fn ended(&mut self, id: PortId) {
        self.expect("the end of a tree", |event| (*event == Event::Ended { id }).then_some(()));
    }

    /// The events that have arrived and were not expected yet.
    pub fn pending(&mut self) -> Vec<Event> {
        while self.receive(Duration::ZERO) {}
        self.events.drain(..).collect()
    }

    /// Waits for an event; others stay for later.
    fn expect<T>(&mut self, what: &str, matches: impl Fn(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.events.iter().enumerate().find_map(|(at, event)| Some((at, matches(event)?)));
            if let Some((at, value)) = found {
                self.events.remove(at);
                return value;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.receive(left), "waited for {what}, got only {:?}", self.events);
        }
    }

    /// Receives events; `false` if none came in time, or the guardian is gone.
    fn receive(&mut self, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(self.socket(), true, false)];
        if poll(&mut fds, Some(timeout)).expect("polled") == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        let Ok(received) = socket::recv(self.socket(), &mut buffer, &mut Vec::new()) else { return false };
        self.frames.push(&buffer[..received.bytes]);
        while let Some(frame) = self.frames.next_frame().expect("a good stream") {
            self.events.push_back(Event::decode(frame).expect("a good event"));
        }
        received.bytes > 0
    }

    /// Whether the guardian has closed its end, once everything it sent is received.
    pub fn sees_guardian_gone(&mut self) -> bool {
        while self.receive(PATIENCE) {}
        let mut byte = [0];
        socket::recv(self.socket(), &mut byte, &mut Vec::new()).is_ok_and(|received| received.bytes == 0)
    }

    /// The VM dies; waits until guardian and sentinel have followed it.
    pub fn die(mut self) {
        self.socket = None;
        self.wait_for_sentinel();
    }

    /// Waits until the sentinel has ended, and reaps it: it is a child of this process. Returns its wait status.
    pub fn wait_for_sentinel(&self) -> i32 {
        wait_for_end(self.sentinel);
        let ended = Pid::new(self.sentinel).and_then(|pid| wait::reap(pid).expect("our child"));
        ended.map_or(0, |ended| ended.status)
    }
}

/// The request for a program without descriptors.
fn request(id: PortId, command: &Command) -> Spawn {
    let bytes = |list: &[String]| list.iter().map(|item| item.clone().into_bytes()).collect();
    Spawn {
        id,
        file: command.file.clone().into_bytes(),
        args: bytes(&command.args),
        env: command.env.iter().flat_map(|entry| [entry.as_bytes(), b"\0"].concat()).collect(),
        dir: command.dir.clone().map(String::into_bytes),
        fds: Vec::new(),
        ending: command.ending,
        cgroup: command.cgroup.clone().map(String::into_bytes),
    }
}

/// So that a failed test leaves nothing behind.
impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.socket = None;
        }
    }
}

/// `SIGKILL` to a process of this test.
pub fn kill(pid: i32) {
    signal::send(Pid::new(pid).expect("a process"), signal::SIGKILL).expect("it was there");
}

/// Opens a program with descendants of every kind, all tagged: in its group, in sessions of their own, forked twice, with
/// a cleared environment, ignoring SIGTERM, stopped. Returns when all are there.
pub fn open_family(vm: &mut Vm, tag: &str, ending: Ending) -> Port {
    let script = format!(
        "sleep 600.{tag} &
         setsid sleep 600.{tag} &
         setsid sh -c 'sleep 600.{tag} & exit'
         env -i setsid sleep 600.{tag} &
         env -i setsid sh -c 'sleep 600.{tag} & exit'
         sh -c 'trap \"\" TERM INT HUP; sleep 600.{tag}; sleep 600.{tag}' &
         setsid sh -c 'trap \"\" TERM; while :; do sleep 600.{tag}; done' &
         sleep 600.{tag} & kill -STOP $!
         sh -c 'trap \"\" TERM; kill -STOP $$; : {tag}' &
         read line; exit 7"
    );
    let port = vm.open(&shell(&script).ending(ending));
    wait_for(tag, |found| {
        let sleeps = found.iter().filter(|process| is_sleep(process)).count();
        let stopped = found.iter().filter(|process| state(process) == Some('T')).count();
        // The stopped sleep may have been stopped before it was one.
        (found.len(), stopped) == (FAMILY, 2) && sleeps >= 7
    });
    port
}

/// How many processes a family has.
pub const FAMILY: usize = 12;

fn state(process: &str) -> Option<char> {
    let pid = process.split(' ').next()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Waits until the processes that carry the tag are as many sleeps, and nothing else.
pub fn wait_for_sleeps(tag: &str, count: usize) {
    wait_for(tag, |found| found.len() == count && found.iter().all(|process| is_sleep(process)));
}

/// Waits until the processes that carry the tag are as they should be.
pub fn wait_for(tag: &str, as_expected: impl Fn(&[String]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = survivors(tag);
        if as_expected(&found) {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain, got {found:#?}");
        std::thread::yield_now();
    }
}

/// A tag that contains `tag`.
pub fn tag_below(tag_above: &str) -> String {
    format!("{tag_above}{}", tag())
}

pub fn is_sleep(process: &str) -> bool {
    process.split(' ').nth(1).is_some_and(|file| file.ends_with("sleep"))
}
