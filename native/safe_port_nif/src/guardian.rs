//! The link to the guardian, and what it reports, as messages to the port process.

use std::sync::OnceLock;

use rustler::{Atom, Encoder, Env, LocalPid, OwnedEnv, ResourceArc, Term};
use safe_port_core::link::{Link, LinkConfig, LinkEvent, Listener};
use safe_port_wire::{Stage, Target};

use crate::handle::PortHandle;
use crate::{atoms, errno};

static LINK: OnceLock<Link> = OnceLock::new();

/// Remembers where the guardian's executable is; it is started at the first open.
pub fn configure(executable: &str) {
    LINK.get_or_init(|| Link::new(LinkConfig { guardian: executable.into() }));
}

/// The link of this VM.
///
/// # Panics
/// If the library was loaded without [`configure`], which its load callback rules out.
pub fn link() -> &'static Link {
    LINK.get().expect("configured while the library is loaded")
}

/// Passes a port's events on to its port process as `{handle, event}`.
pub struct Reporter(pub ResourceArc<PortHandle>);

impl Listener for Reporter {
    fn event(&self, event: LinkEvent) {
        let handle = &self.0;
        // An error means that the port process is gone, and with it whoever wanted to know.
        let _ = OwnedEnv::new().send_and_clear(&handle.port, |env| (handle, term(env, &event)).encode(env));
    }
}

fn term<'a>(env: Env<'a>, event: &LinkEvent) -> Term<'a> {
    match event {
        LinkEvent::Spawned { os_pid } => (atoms::spawned(), *os_pid).encode(env),
        LinkEvent::Refused { stage, errno } => {
            let stage = match stage {
                Stage::Fork => atoms::fork(),
                Stage::Chdir => atoms::chdir(),
                Stage::Exec => atoms::exec(),
            };
            (atoms::refused(), stage, errno::atom(env, *errno)).encode(env)
        }
        LinkEvent::Exited { exit, usage } => {
            let usage = (usage.user_us, usage.system_us, usage.max_rss_kib);
            (atoms::exited(), exit.status(), exit.signal(), exit.core_dumped(), usage).encode(env)
        }
        LinkEvent::Ended => atoms::ended().encode(env),
        LinkEvent::Signalled { ticket, errno: 0 } => (atoms::signalled(), *ticket, atoms::ok()).encode(env),
        LinkEvent::Signalled { ticket, errno } => {
            (atoms::signalled(), *ticket, errno::atom(env, *errno)).encode(env)
        }
        LinkEvent::GuardianDown => atoms::guardian_down().encode(env),
        LinkEvent::Lost => atoms::lost().encode(env),
    }
}

/// `Native.signal/4`: has the guardian send the signal `number`; a `{handle, {:signalled, ticket, result}}` message answers.
#[rustler::nif]
fn signal(handle: ResourceArc<PortHandle>, ticket: u64, number: i32, target: Atom) -> Atom {
    let target = if target == atoms::leader() {
        Target::Leader
    } else if target == atoms::group() {
        Target::Group
    } else {
        Target::Tree
    };
    match handle.id.get() {
        Some(id) => {
            link().signal(*id, ticket, number, target);
            atoms::ok()
        }
        None => atoms::closed(),
    }
}

/// `Native.guardian_pid/0`: the guardian's os_pid, `nil` while there is none.
#[rustler::nif]
fn guardian_pid() -> Option<u32> {
    link().guardian_pid()
}

/// `Native.ports/0`: the pids of all ports.
#[rustler::nif]
fn ports() -> Vec<LocalPid> {
    let mut ports = crate::registry::list();
    ports.extend(crate::driver::list());
    ports.sort_unstable();
    ports
}

/// `Native.port?/1`: whether this is the pid of a port.
#[rustler::nif(name = "port?")]
fn is_port(pid: LocalPid) -> bool {
    crate::registry::find(pid).is_some() || crate::driver::is_port(pid)
}
