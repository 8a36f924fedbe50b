//! Ends what earlier guardians of the same VM have left behind, should their sentinels have been killed as well.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use safe_port_os::pidfd::PidFd;
use safe_port_os::process::Pid;
use safe_port_os::signal::SIGKILL;
use safe_port_wire::Orphans;

use crate::cookie::{cookies, Realm};
use crate::proc;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Kills, in a thread of its own, all processes that carry the cookie of an earlier generation of `realm`, until there is
/// none. What may outlive its program is spared.
pub fn start(realm: Realm) {
    if realm.generation > 1 {
        // Without a thread the sentinels are what there is.
        let _ = thread::Builder::new().name("sweep".into()).spawn(move || sweep(realm));
    }
}

fn sweep(realm: Realm) {
    let mut pause = FIRST_PAUSE;
    while kill_all(realm) {
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether there was anything to kill.
fn kill_all(realm: Realm) -> bool {
    let mut stale = HashMap::new();
    for process in proc::scan().unwrap_or_default() {
        if let Some(pid) = Pid::new(process.pid).filter(|pid| is_stale(*pid, realm)) {
            stale.insert(pid, PidFd::open(pid));
        }
    }
    for (pid, pidfd) in &stale {
        // Asked again now that the descriptor is open: it means the process that has this environment.
        if let (Ok(pidfd), true) = (pidfd, is_stale(*pid, realm)) {
            let _ = pidfd.send(SIGKILL);
        }
    }
    !stale.is_empty()
}

fn is_stale(pid: Pid, realm: Realm) -> bool {
    let environ = proc::environ(pid.get()).unwrap_or_default();
    let mut cookies = cookies(&environ)
        .filter(|cookie| cookie.realm.vm == realm.vm && cookie.realm.generation < realm.generation);
    cookies.next().is_some_and(|cookie| cookie.orphans == Orphans::Kill)
}
