//! `safe_port_guardian <vm> <generation>`: the guardian of one VM, which is at the other end of descriptor 3, and which reads
//! from descriptor 4, even when the guardian is gone, how many programs it was asked for.
//!
//! Started by SafePort, not by hand.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use safe_port_guardian::cookie::Realm;
use safe_port_guardian::{Guardian, Outcome};
use safe_port_os::tally::Tally;
use safe_port_os::{process, signal};

/// Where the guardian finds its socket.
const SOCKET: i32 = 3;
/// Where it finds its tally.
const TALLY: i32 = 4;

fn main() -> ExitCode {
    // First of all: while SIGCHLD is ignored, as it is in the VM, the status of a child is lost, and a signal that a
    // terminal sends to everyone would end the guardian before its work is done.
    signal::block_all();
    signal::default_all();
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        #[cfg(all(target_os = "linux", not(feature = "posix")))]
        [safe_port_guardian::sentinel::NAME, guardian, vm, generation] => sentinel(guardian, vm, generation),
        [_, vm, generation] => match realm(vm, generation) {
            Some(realm) => guardian(realm),
            None => {
                Err(usage(&format!("expected 16 hexadecimal digits and a number, got {vm} {generation}")))
            }
        },
        _ => Err(usage("expected two arguments: the VM's number and the guardian's")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("safe_port_guardian: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn realm(vm: &str, generation: &str) -> Option<Realm> {
    let vm = u64::from_str_radix(vm, 16).ok()?;
    Some(Realm { vm, generation: generation.parse().ok()? })
}

/// Becomes the guardian, below a sentinel. Whether its work was done in the end.
fn guardian(realm: Realm) -> io::Result<bool> {
    let [socket, tally] = process::take_inherited([SOCKET, TALLY])?;
    // Fails if it leads a session already, which is as good.
    let _ = process::new_session();
    #[cfg(all(target_os = "linux", not(feature = "posix")))]
    {
        // Refused in some sandboxes. What loses its parent is then lost too (see docs/guarantees.md).
        let _ = process::become_subreaper();
        if let Some(child) = process::fork()? {
            // The VM must not see an open socket when the guardian is gone.
            drop(socket);
            return become_sentinel(child, realm);
        }
        // The child, which is the guardian.
        let _ = process::new_session();
        let _ = process::become_subreaper();
        sweep(realm);
    }
    Ok(Guardian::new(realm, socket, Tally::from(tally))?.run()? == Outcome::Done)
}

#[cfg(all(target_os = "linux", not(feature = "posix")))]
use linux::{become_sentinel, sentinel, sweep};

#[cfg(all(target_os = "linux", not(feature = "posix")))]
mod linux {
    use std::ffi::CString;
    use std::io;

    use safe_port_guardian::cookie::Realm;
    use safe_port_guardian::sentinel::{self, NAME};
    use safe_port_os::process::{self, Pid};

    pub use safe_port_guardian::sweep;

    /// Turns this process into the sentinel of `guardian`, under a name of its own, so that whoever ends processes by
    /// name has to name both.
    pub fn become_sentinel(guardian: Pid, realm: Realm) -> io::Result<bool> {
        let words = [
            NAME.to_owned(),
            guardian.get().to_string(),
            format!("{:016x}", realm.vm),
            realm.generation.to_string(),
        ];
        let argv: Result<Vec<CString>, _> = words.into_iter().map(CString::new).collect();
        if let Ok(argv) = argv {
            // Returns only if it failed, without /proc for example.
            let _ = process::exec(c"/proc/self/exe", &argv);
        }
        watch(guardian, realm)
    }

    /// What the process does that was turned into the sentinel.
    pub fn sentinel(guardian: &str, vm: &str, generation: &str) -> io::Result<bool> {
        let guardian = guardian.parse().ok().and_then(Pid::new);
        match (guardian, super::realm(vm, generation)) {
            (Some(guardian), Some(realm)) => watch(guardian, realm),
            _ => Err(super::usage("the sentinel is started by the guardian only")),
        }
    }

    fn watch(guardian: Pid, realm: Realm) -> io::Result<bool> {
        process::set_name(c"safe_port_sentinel");
        sentinel::watch(guardian, realm).map(|()| true)
    }
}
