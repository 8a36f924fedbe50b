//! The host as the VM uses it: frames on descriptors 3 and 4.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

struct Host {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Host {
    /// A host that is to open `command` of the driver in `path`.
    fn open(path: &str, command: &str) -> Host {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" 3<&0 4>&1 </dev/null >/dev/null", env!("CARGO_BIN_EXE_safe_port_host")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut host = Host { child, input, output };
        let numbers = [0_u64, 0, 0, 80].map(u64::to_be_bytes).concat();
        let node = b"nonode@nohost";
        let (node_bytes, path_bytes) = ((node.len() as u16).to_be_bytes(), (path.len() as u32).to_be_bytes());
        host.send(&[
            b"o\x04",
            &numbers,
            &[0; 4],
            &node_bytes,
            node,
            &path_bytes,
            path.as_bytes(),
            command.as_bytes(),
        ]);
        host
    }

    fn send(&mut self, parts: &[&[u8]]) {
        let frame = parts.concat();
        let input = self.input.as_mut().unwrap();
        input.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        input.write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.output.read_exact(&mut frame).unwrap();
        Some(frame)
    }

    fn next(&mut self) -> String {
        String::from_utf8_lossy(&self.receive().unwrap()).into_owned()
    }

    fn ends(mut self) -> ExitStatus {
        assert_eq!(self.receive(), None);
        self.child.wait().unwrap()
    }
}

fn trouble() -> String {
    let path: PathBuf = std::env::current_exe().unwrap().with_file_name("libsafe_port_trouble_driver.so");
    path.to_str().unwrap().to_owned()
}

const CALLER: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 80];
const TICKET: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 9];

#[test]
fn a_driver_runs_in_the_host() {
    let mut host = Host::open("", "echo");
    assert_eq!(host.next(), "s\0");
    host.send(&[b"d", CALLER, b"\0", b"hello"]);
    assert_eq!(host.receive().unwrap(), b"d\0\0\0\0\0hello");
    host.send(&[b"c", TICKET, &[0, 0, 0, 1], CALLER, b"bytes"]);
    assert_eq!(host.receive().unwrap(), [b"y", TICKET, b"l", b"bytes"].concat());
    host.send(&[b"t", TICKET, &[0, 0, 0, 1], CALLER, &[131, 106]]);
    assert_eq!(host.receive().unwrap(), [b"y", TICKET, b"t", &[131, 106]].concat());
    host.send(&[b"t", TICKET, &[0, 0, 0, 1], CALLER, b"no term"]);
    assert_eq!(host.receive().unwrap(), [b"y", TICKET, b"a"].concat());
    host.send(&[b"i", TICKET]);
    let numbers = [5_u64, 5, 0].map(u64::to_be_bytes).concat();
    assert_eq!(host.receive().unwrap(), [b"i", TICKET, &numbers, &[0; 5]].concat());
    host.send(&[b"x\0"]);
    assert_eq!(host.next(), "z");
    assert!(host.ends().success());
}

#[test]
fn a_library_is_loaded_in_the_host() {
    let mut host = Host::open(&trouble(), "trouble");
    assert_eq!(host.next(), "s\u{1}");
    host.send(&[b"t", TICKET, &[0, 0, 0, 1], CALLER, &[131, 106]]);
    let pid = [&[131, 88, 119, 13], &b"nonode@nohost"[..], &[0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(host.receive().unwrap(), [b"y", TICKET, b"t", &pid].concat());
    // A process that the driver monitors, and its death.
    host.send(&[b"t", TICKET, &[0, 0, 0, 5], CALLER, &pid]);
    assert_eq!(host.receive().unwrap(), [b"+", &1_u64.to_be_bytes()[..], CALLER].concat());
    host.receive().unwrap();
    host.send(&[b"e", &1_u64.to_be_bytes()]);
    assert!(host.next().starts_with("m\u{fffd}h"));
    host.send(&[b"d", CALLER, b"\0", b"fail 42"]);
    assert_eq!(host.receive().unwrap(), b"fc\0\0\0\x2a");
    assert_eq!(host.next(), "z");
    assert!(host.ends().success());
}

#[test]
fn what_cannot_be_opened_is_refused() {
    let cases = [
        ("/nowhere/driver.so", "trouble", "rlcannot read /nowhere/driver.so"),
        ("", "nobody", "rlits driver has another name"),
        (&trouble(), "trouble general", "rg"),
        (&trouble(), "trouble badarg", "rb"),
        (&trouble(), "trouble enospc", "reenospc"),
        (&trouble(), "trouble panic", "rptrouble was asked for"),
    ];
    for (path, command, refusal) in cases {
        let mut host = Host::open(path, command);
        let next = host.next();
        assert!(next.starts_with(refusal), "{command}: {next}");
        assert!(host.ends().success());
    }
}

#[test]
fn a_panic_ends_the_port_with_its_message() {
    let mut host = Host::open(&trouble(), "trouble");
    assert_eq!(host.next(), "s\u{1}");
    host.send(&[b"c", TICKET, &[0, 0, 0, 1], CALLER, b"panic"]);
    assert_eq!(host.receive().unwrap(), [b"y", TICKET, b"p", b"trouble was asked for"].concat());
    assert_eq!(host.next(), "fptrouble was asked for");
    assert_eq!(host.next(), "z");
    assert!(host.ends().success());
}

#[test]
fn what_takes_a_process_down_takes_the_host_down() {
    for (word, signal) in [(&b"abort"[..], Some(6)), (b"segfault", Some(11)), (b"exit", None)] {
        let mut host = Host::open(&trouble(), "trouble");
        assert_eq!(host.next(), "s\u{1}");
        host.send(&[b"d", CALLER, b"\0", word]);
        let status = host.ends();
        assert_eq!(status.signal(), signal);
        assert_eq!(status.code(), if signal.is_none() { Some(3) } else { None });
    }
}

#[test]
fn the_host_ends_when_the_vm_lets_go() {
    for word in ["", " block"] {
        let mut host = Host::open(&trouble(), "trouble");
        assert_eq!(host.next(), "s\u{1}");
        if !word.is_empty() {
            host.send(&[b"d", CALLER, b"\0", b"block"]);
        }
        host.input = None;
        let _ = host.receive();
        host.child.wait().unwrap();
    }
}

#[test]
fn a_frame_that_is_no_command_ends_the_host() {
    let mut host = Host::open("", "echo");
    assert_eq!(host.next(), "s\0");
    host.send(&[b"?"]);
    assert_eq!(host.next(), "z");
    assert!(host.ends().success());
}
