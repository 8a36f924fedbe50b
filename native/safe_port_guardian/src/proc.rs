//! What `/proc` says about processes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use safe_port_os::process::own_pid;

/// One process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// `R`, `S`, `D`, `T`, `Z` and so on.
    pub state: u8,
    /// When it was started, in clock ticks since boot. A number that is used again has another one.
    pub start: u64,
}

impl Process {
    /// Reads the line that is `/proc/<pid>/stat`.
    fn parse(line: &[u8]) -> Option<Process> {
        // The second field is a name in parentheses, which may itself hold parentheses, blanks and newlines.
        let pid = line.split(|byte| *byte == b' ').next().and_then(number)?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let mut fields = line.get(close + 2..)?.split(|byte| *byte == b' ');
        let state = *fields.next()?.first()?;
        let mut next = |skip: usize| fields.nth(skip);
        let parent = next(0).and_then(number)?;
        let group = next(0).and_then(number)?;
        let session = next(0).and_then(number)?;
        // Between the session, field 6, and the start, field 22.
        let start = next(15).and_then(number)?;
        Some(Process { pid, parent, group, session, state, start })
    }

    /// The process that has this number now.
    pub fn read(pid: i32) -> Option<Process> {
        let mut buffer = [0; 1024];
        let length =
            File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut buffer)).ok()?;
        Process::parse(&buffer[..length])
    }

    /// Whether it has ended and only waits to be reaped.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.trim_end().parse().ok()
}

/// Every process there is.
pub fn scan() -> io::Result<Vec<Process>> {
    let entries = fs::read_dir("/proc")?;
    let pids = entries.filter_map(|entry| number(entry.ok()?.file_name().as_encoded_bytes()));
    Ok(pids.filter_map(Process::read).collect())
}

/// How long to wait for a process that is between its old program and its new one.
const EXEC_PATIENCE: Duration = Duration::from_millis(5);
/// Readings that are tried at least, however long a busy machine makes them take.
const EXEC_READINGS: usize = 8;

/// The environment a process was started with; an error for one of another user.
///
/// For a moment in `execve(2)` a process has no environment, and a reading that was begun before breaks off: that moment
/// is waited for to pass.
pub fn environ(pid: i32) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + EXEC_PATIENCE;
    let mut readings = 0;
    loop {
        let before = Image::read(pid);
        let environ = fs::read(format!("/proc/{pid}/environ"))?;
        let is_whole = before == Image::read(pid) && !before.is_incomplete(pid);
        readings += 1;
        if is_whole || (readings >= EXEC_READINGS && Instant::now() > deadline) {
            return Ok(environ);
        }
        std::thread::yield_now();
    }
}

/// Where the kernel has put a program: its arguments and environment are elsewhere with each one that is executed.
#[derive(PartialEq, Eq)]
struct Image {
    /// `startcode` of proc(5), and `arg_start` to `env_end`.
    addresses: Vec<u8>,
}

impl Image {
    /// Fields 26 and 48 to 51 of the line, the name being 2.
    fn read(pid: i32) -> Image {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.iter().rposition(|byte| *byte == b')').map_or(&stat[..0], |end| &stat[end..]);
        let fields: Vec<&[u8]> = fields.split(|byte| *byte == b' ').collect();
        let addresses = [26, 48, 49, 50, 51].map(|field| *fields.get(field - 2).unwrap_or(&&b""[..]));
        Image { addresses: addresses.join(&b' ') }
    }

    /// Whether the process is in the middle of `execve(2)`: it has a file, as the dead and the kernel's have not, and its
    /// code no start yet, which is set after the environment.
    fn is_incomplete(&self, pid: i32) -> bool {
        self.addresses.starts_with(b"0 ") && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
    }
}

/// The pipes that a process has open, by inode; none for one of another user.
pub fn pipes(pid: i32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode =
        |link: std::path::PathBuf| link.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(inode).collect()
}

/// The children of this process's main thread: `/proc/self/task/<pid>/children`.
///
/// A subreaper's orphans become children of its main thread. Only the children's parent can remove them from the list,
/// by reaping them, so that a reading by the thread that reaps misses none.
#[derive(Debug)]
pub struct Children {
    file: File,
    buffer: Vec<u8>,
}

impl Children {
    /// An error if the kernel does not have it (`CONFIG_PROC_CHILDREN`).
    pub fn open() -> io::Result<Children> {
        let pid = own_pid();
        Ok(Children { file: File::open(format!("/proc/{pid}/task/{pid}/children"))?, buffer: vec![0; 4096] })
    }

    /// Their numbers, those that have ended but are not reaped included.
    pub fn read(&mut self) -> io::Result<Vec<i32>> {
        let mut filled = 0;
        loop {
            match self.file.read_at(&mut self.buffer[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
        }
        Ok(self.buffer[..filled].split(|byte| *byte == b' ').filter_map(number).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_fake_the_fields_behind_it() {
        let stat = b"42 (a) S 1 (x y) R 7 42 43 34816 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 9 9\n";
        let expected = Process { pid: 42, parent: 7, group: 42, session: 43, state: b'R', start: 777 };
        assert_eq!(Process::parse(stat), Some(expected));
    }

    #[test]
    fn what_is_no_stat_line_is_nothing() {
        for stat in [&b""[..], b"42", b"42 (name", b"42 (name)", b"42 (name) S", b"x (name) S 1 2 3"] {
            assert_eq!(Process::parse(stat), None, "{stat:?}");
        }
    }

    #[test]
    fn the_environment_is_known_while_a_program_is_being_executed() {
        for _ in 0..100 {
            let mut shell = std::process::Command::new("/bin/sh");
            // Each of its programs is executed while it is looked at.
            shell.args(["-c", "read line; exec sh -c 'read line; exec sh -c \"read line; exec cat\"'"]);
            shell.env("MARK", "here").stdin(std::process::Stdio::piped());
            let mut shell = shell.spawn().expect("started");
            let mut stdin = shell.stdin.take().expect("piped");
            for _ in 0..3 {
                io::Write::write_all(&mut stdin, b"\n").expect("it reads");
                for _ in 0..30 {
                    let environ = environ(shell.id() as i32).expect("ours");
                    assert!(environ.windows(9).any(|part| part == b"MARK=here"), "{environ:?}");
                }
            }
            drop(stdin);
            shell.wait().expect("ours");
        }
    }

    #[test]
    fn the_pipes_of_a_process_are_known_by_number() {
        let (reader, _writer) = safe_port_os::pipe::pipe().expect("a pipe");
        let inode = safe_port_os::pipe::inode(std::os::fd::AsFd::as_fd(&reader)).expect("open");
        assert!(pipes(own_pid()).contains(&inode.expect("a pipe")));
        assert_eq!(pipes(-1), []);
    }

    #[test]
    fn this_process_is_found_by_number_and_by_scan() {
        let ours = Process::read(own_pid()).expect("we run");
        assert_eq!(ours.pid, own_pid());
        assert!(!ours.is_dead());
        assert!(scan()
            .expect("/proc")
            .iter()
            .any(|process| process.pid == ours.pid && process.start == ours.start));
        assert_eq!(Process::read(-1), None);
    }
}
