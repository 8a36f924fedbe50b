//! The real guardian, and processes.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use safe_port_core::link::{Link, LinkConfig};
use safe_port_os::pidfd::PidFd;
use safe_port_os::poll::{poll, PollFd};
use safe_port_os::process::Pid;

use super::PATIENCE;

/// A link to the guardian of this workspace, built as this test was.
///
/// Cargo gives a test the path of an executable only if both are of one package. So it is built here, which is a look at
/// the time stamps if it is there already, into the folder that this test comes from.
pub fn guardian() -> Link {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Link::new(LinkConfig { guardian: PATH.get_or_init(build).clone() })
}

fn build() -> PathBuf {
    // <target>/<profile>/deps/link_...
    let own = std::env::current_exe().expect("the path of this test");
    let profile = own.parent().and_then(Path::parent).expect("the profile's folder");
    let target = profile.parent().expect("the target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "safe_port_guardian", "--bin", "safe_port_guardian"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(target);
    // The folder of the `dev` and `test` profiles is called `debug`; all others are called as they are.
    let name = profile.file_name().expect("a profile").to_string_lossy();
    if name != "debug" {
        build.args(["--profile", &name]);
    }
    let status = build.status().expect("cargo can be run");
    assert!(status.success(), "the guardian cannot be built: {build:?} ends with {status}");
    profile.join("safe_port_guardian")
}

/// A process that is not reaped by this one.
pub struct Process(PidFd);

impl Process {
    pub fn of(os_pid: i32) -> Process {
        Process(PidFd::open(Pid::new(os_pid).expect("a process id")).expect("it has not been reaped"))
    }

    /// The guardian of `link`, which has one.
    pub fn guardian(link: &Link) -> Process {
        let os_pid = link.guardian_pid().expect("there is a guardian");
        Process::of(i32::try_from(os_pid).expect("a process id"))
    }

    pub fn signal(&self, number: i32) {
        self.0.send(number).expect("it can be signalled");
    }

    pub fn wait_for_end(&self) {
        let mut fds = [PollFd::new(self.0.as_fd(), true, false)];
        assert_eq!(poll(&mut fds, Some(PATIENCE)).expect("polled"), 1, "it has not ended");
    }
}
