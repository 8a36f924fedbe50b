//! The parent of the guardian: waits for its end, and ends what it has left behind.
//!
//! It is a subreaper like the guardian: all that was below the guardian, whatever its session, group and environment,
//! is below the sentinel once the guardian is gone.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use safe_port_os::poll::{poll, PollFd};
use safe_port_os::process::{own_pid, Pid};
use safe_port_os::signal::{ChildNews, SIGKILL};
use safe_port_os::wait;
use safe_port_wire::Orphans;

use crate::cookie::{cookies, Realm};
use crate::proc::{self, Process};
use crate::tree::{below, strike};

/// The name by which the sentinel is started, `argv[0]`.
pub const NAME: &str = "safe_port_sentinel";

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Waits for the end of `guardian`, a child. If its work was not done then, kills everything that is left below this
/// process, again and again until nothing is.
///
/// Must be called by the only thread, with all signals blocked and none ignored.
pub fn watch(guardian: Pid, realm: Realm) -> io::Result<()> {
    let news = ChildNews::new()?;
    loop {
        if let Some(ended) = wait::reap(guardian)? {
            return if ended.status == 0 { Ok(()) } else { clear(&news, realm) };
        }
        sleep(&news, None)?;
    }
}

fn clear(news: &ChildNews, realm: Realm) -> io::Result<()> {
    let mut pause = FIRST_PAUSE;
    while kill_all(realm)? {
        // A death wakes it, so that what that death has made ours is looked at.
        sleep(news, Some(pause))?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Kills everything below this process. Whether there was anything.
fn kill_all(realm: Realm) -> io::Result<bool> {
    while let Some(ended) = wait::peek()? {
        wait::reap(ended.pid)?;
    }
    let processes = proc::scan()?;
    let mut any = false;
    for (_, process) in below(own_pid(), &processes) {
        if !process.is_dead() && !may_stay(process, realm) {
            any = true;
            // One that cannot be killed, because it is gone or is not ours to kill, is met again if it is still there.
            let _ = strike(own_pid(), process, &[SIGKILL]);
        }
    }
    Ok(any)
}

/// Whether it was started by a program whose descendants may outlive it. The program itself cannot: the system has
/// killed it together with the guardian.
fn may_stay(process: &Process, realm: Realm) -> bool {
    let environ = proc::environ(process.pid).unwrap_or_default();
    let leave = cookies(&environ).any(|cookie| cookie.realm == realm && cookie.orphans == Orphans::Leave);
    leave
}

fn sleep(news: &ChildNews, timeout: Option<Duration>) -> io::Result<()> {
    let mut fds = [PollFd::new(news.as_fd(), true, false)];
    if poll(&mut fds, timeout)? > 0 {
        news.drain();
    }
    Ok(())
}
