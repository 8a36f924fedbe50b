//! How long it takes to start `/bin/true` and learn that it has ended: through the guardian, with pipes as a port has
//! them, and by `posix_spawn(3)` and `waitpid(2)` in a loop. Both in turn, in one run.
//!
//! `cargo build --release -p safe_port_guardian && cargo run --release -p safe_port_guardian --example spawn_rate`

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use safe_port_os::poll::{poll, PollFd};
use safe_port_os::tally::Tally;
use safe_port_os::{dir, pipe, socket, spawn};
use safe_port_wire::{Ending, Event, Frames, Orphans, PortId, Request, Spawn};

const ROUNDS: usize = 20;
const PER_ROUND: usize = 100;

struct Vm {
    socket: OwnedFd,
    frames: Frames,
    next: u64,
}

impl Vm {
    fn start() -> io::Result<Vm> {
        let folder = env::current_exe()?.ancestors().nth(2).map(|folder| folder.join("safe_port_guardian"));
        let program = CString::new(folder.unwrap_or_default().as_os_str().as_bytes())?;
        let argv = [program.clone(), CString::new("00000000000000aa")?, CString::new("1")?];
        let (ours, theirs) = socket::pair()?;
        spawn::daemon(&program, &argv, &[(theirs.as_fd(), 3), (Tally::new()?.as_fd(), 4)])?;
        Ok(Vm { socket: ours, frames: Frames::default(), next: 1 })
    }

    /// Starts `count` programs at once and waits until all have ended.
    fn run(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.open()?;
        }
        let mut ended = 0;
        while ended < count {
            let mut fds = [PollFd::new(self.socket.as_fd(), true, false)];
            poll(&mut fds, None)?;
            let mut buffer = [0; 4096];
            let received = socket::recv(self.socket.as_fd(), &mut buffer, &mut Vec::new())?;
            self.frames.push(&buffer[..received.bytes]);
            while let Some(frame) = self.frames.next_frame().map_err(io::Error::other)? {
                match Event::decode(frame).map_err(io::Error::other)? {
                    Event::Ended { .. } => ended += 1,
                    Event::Refused { errno, .. } => return Err(io::Error::from_raw_os_error(errno)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let (stdin, _ours) = pipe::pipe()?;
        let (_ours, stdout) = pipe::pipe()?;
        let (here, stderr) = (dir::current()?, dir::null()?);
        let request = Request::Spawn(Box::new(Spawn {
            id: PortId(self.next),
            file: b"/bin/true".to_vec(),
            args: vec![b"true".to_vec()],
            env: env::vars_os()
                .flat_map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat())
                .collect(),
            dir: None,
            fds: vec![0, 1, 2],
            ending: Ending { eof_timeout_ms: Some(1000), kill_timeout_ms: 5000, orphans: Orphans::Kill },
            cgroup: None,
        }));
        self.next += 1;
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let fds: [BorrowedFd<'_>; 4] = [here.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let sent = socket::send_with_fds(self.socket.as_fd(), &bytes, &fds)?;
        assert_eq!(sent, bytes.len(), "the socket is never full here");
        Ok(())
    }
}

fn plain() -> io::Result<()> {
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop)
}

fn time(repeat: usize, mut run: impl FnMut() -> io::Result<()>) -> io::Result<Vec<Duration>> {
    (0..repeat)
        .map(|_| {
            let begun = Instant::now();
            run().map(|()| begun.elapsed())
        })
        .collect()
}

fn report(name: &str, times: &mut [Duration], programs: u32) {
    times.sort_unstable();
    let (median, p95) = (times[times.len() / 2] / programs, times[times.len() * 95 / 100] / programs);
    let total: Duration = times.iter().sum();
    let mean = total / times.len() as u32 / programs;
    println!("{name:<28} median {median:>10.1?}   p95 {p95:>10.1?}   {:>7.0}/s", 1.0 / mean.as_secs_f64());
}

fn main() -> io::Result<()> {
    let mut vm = Vm::start()?;
    let (mut single, mut many, mut loops) = (Vec::new(), Vec::new(), Vec::new());
    time(PER_ROUND, || vm.run(1))?;
    for _ in 0..ROUNDS {
        loops.extend(time(PER_ROUND, plain)?);
        single.extend(time(PER_ROUND, || vm.run(1))?);
        many.extend(time(PER_ROUND / 25, || vm.run(32))?);
    }
    report("posix_spawn and wait", &mut loops, 1);
    report("guardian, one at a time", &mut single, 1);
    report("guardian, 32 at a time", &mut many, 32);
    Ok(())
}
