//! A cgroup (version 2) of a tree's own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use safe_port_os::pidfd::PidFd;
use safe_port_os::process::Pid;
use safe_port_os::{errno, signal};

use crate::cookie::{Cookie, Realm};

const PREFIX: &str = "safe_port.";

/// The cgroup of one port.
#[derive(Clone, Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The one that the port of `cookie` gets below `parent`. Not made yet.
    pub fn below(parent: &Path, cookie: Cookie) -> Cgroup {
        Cgroup(parent.join(format!("{PREFIX}{}", cookie.text())))
    }

    /// Makes it. A process that writes `0` to the file enters it.
    pub fn create(&self) -> io::Result<File> {
        fs::create_dir(&self.0)?;
        // Fails in a folder that is no cgroup.
        let procs = OpenOptions::new().write(true).open(self.0.join("cgroup.procs"));
        if procs.is_err() {
            self.remove();
        }
        procs
    }

    /// Whether a living process is in it or below it.
    pub fn is_populated(&self) -> bool {
        match fs::read_to_string(self.0.join("cgroup.events")) {
            Ok(events) => events.lines().any(|line| line == "populated 1"),
            // It does not exist, or not yet.
            Err(_) => false,
        }
    }

    /// Ends all that is in it at once, what is being forked included, where the kernel can (Linux 5.14).
    pub fn kill(&self) {
        // If not, its members are struck one by one.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
    }

    /// Sends `signals` to each process in it or below it. `ESRCH` if there is none.
    pub fn strike(&self, signals: &[i32]) -> io::Result<()> {
        let mut result = Err(io::Error::from_raw_os_error(errno::ESRCH));
        for folder in self.folders() {
            let pids = members(&folder);
            let pidfds: Vec<_> = pids.iter().map(|pid| (*pid, PidFd::open(*pid))).collect();
            // Who is still listed was listed when its descriptor was opened, or has come since with the same number: in
            // both cases it is a member.
            let members = members(&folder);
            for (pid, pidfd) in pidfds.into_iter().filter(|(pid, _)| members.contains(pid)) {
                let sent = match pidfd {
                    Ok(pidfd) => signals.iter().try_for_each(|number| pidfd.send(*number)),
                    Err(error) if matches!(error.raw_os_error(), Some(errno::ENOSYS | errno::EPERM)) => {
                        signals.iter().try_for_each(|number| signal::send(pid, *number))
                    }
                    Err(error) => Err(error),
                };
                if result.is_err() {
                    result = sent;
                }
            }
        }
        result
    }

    /// Removes it and what is below it, if nobody is in there.
    pub fn remove(&self) {
        for folder in self.folders().iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }

    /// It and all below it, parents first.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.0.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next) {
            let below = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            let below: Vec<PathBuf> = below
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            folders.extend(below);
            next += 1;
        }
        folders
    }

    /// Ends and removes the cgroups that earlier guardians of this VM have left below `parent`.
    pub fn sweep(parent: &Path, realm: Realm) {
        let entries = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
        for entry in entries {
            let name = entry.file_name();
            let cookie = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX))
                .and_then(|name| Cookie::parse(name.as_bytes()));
            let stale =
                |cookie: Cookie| cookie.realm.vm == realm.vm && cookie.realm.generation < realm.generation;
            if cookie.is_some_and(stale) {
                let cgroup = Cgroup(entry.path());
                cgroup.kill();
                cgroup.remove();
            }
        }
    }
}

fn members(folder: &Path) -> Vec<Pid> {
    let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    procs.lines().filter_map(|line| line.parse().ok().and_then(Pid::new)).collect()
}
