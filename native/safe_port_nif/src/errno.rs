//! Errors of the system as the atoms that Erlang has for them.

use std::io;

use rustler::{Atom, Env};
use safe_port_os::errno;

/// The atom of an errno, such as `:enoent`; `:unknown` if it has no name.
pub fn atom(env: Env, number: i32) -> Atom {
    Atom::from_str(env, errno::name(number).unwrap_or("unknown")).unwrap_or_else(|_| crate::atoms::unknown())
}

/// The atom of an I/O error.
pub fn of(env: Env, error: &io::Error) -> Atom {
    atom(env, error.raw_os_error().unwrap_or(errno::EIO))
}
