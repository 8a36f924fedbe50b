//! The NIF line of SafePort: terms in, one call of the core, terms out.
//!
//! Every function runs on a normal scheduler and returns within about 100 us; none waits.
#![deny(unsafe_code)]

mod atoms;
mod batch;
mod chunk;
mod command;
mod driver;
mod errno;
mod guardian;
mod handle;
mod open;
mod receive;
mod registry;
mod select;
mod timing;

use rustler::{Env, Term};

/// Called with the guardian's path when `SafePort.Core.Native` is loaded.
fn load(env: Env, info: Term) -> bool {
    let Ok(guardian) = info.decode::<String>() else { return false };
    guardian::configure(&guardian);
    select::register(env)
}

rustler::init!("Elixir.SafePort.Core.Native", load = load);
