//! Data from the program, for the port process or for an owner who reads itself.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustler::env::SavedTerm;
use rustler::{Atom, Binary, Encoder, Env, LocalPid, NewBinary, OwnedEnv, ResourceArc, Term};
use safe_port_core::codec::{Kind, Piece};
use safe_port_core::reader::{Limit, Next, Outcome, ReadError, Scratch, Source};
use safe_port_os::pipe;

use crate::handle::{lock, Input, PortHandle};
use crate::select::Ready;
use crate::timing::{self, Timer};
use crate::{atoms, batch, errno, registry};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Pieces up to this size are copied to the reader's own heap (the VM's limit for binaries that live there).
const OWN_BYTES: usize = 64;

/// So many packets at once are for the port process to send: few enough to be in the processor's cache when they are
/// received.
const BATCH: usize = 128;

/// A process that waits for the port to become readable: one `{:select, _, reference, :ready_input}` message will come to
/// it, from the VM or from [`release`], unless it cancels.
pub struct Waiter {
    pid: LocalPid,
    env: OwnedEnv,
    reference: SavedTerm,
}

/// `Native.read/3`: reads once at most, for the port process. Never blocks.
///
/// Returns `{:more | :wait | :eof, packets}` or `{:error, reason}`. After `:wait` one `{:select, _, tag, :ready_input}` message will come.
#[rustler::nif]
fn read<'a>(env: Env<'a>, handle: ResourceArc<PortHandle>, limit: usize, tag: Term<'a>) -> Term<'a> {
    let _timer = Timer::start();
    read_for_server(env, &handle, limit, tag)
}

/// `Native.read_awake/3`: as `read/3`, after a command whose reply may come within microseconds: until then the port
/// process stays awake instead of asking for readiness.
#[rustler::nif]
fn read_awake<'a>(env: Env<'a>, handle: ResourceArc<PortHandle>, limit: usize, tag: Term<'a>) -> Term<'a> {
    let _timer = Timer::start();
    // Or the poll thread would wake as well, and take the processor that the program needs.
    suspend_input(env, &handle, tag);
    await_input(&handle);
    read_for_server(env, &handle, limit, tag)
}

fn read_for_server<'a>(env: Env<'a>, handle: &PortHandle, limit: usize, tag: Term<'a>) -> Term<'a> {
    let mut input = lock(&handle.input);
    let Cut { next, list, .. } = match cut(env, handle, &mut input, Limit::about(BATCH, limit)) {
        Ok(cut) => cut,
        Err(reason) => return env.error_tuple(reason),
    };
    let next = match next {
        Next::Eof => atoms::eof(),
        Next::Wait if input.pipe.as_ref().is_some_and(|pipe| pipe.arm(env, Ready::Input, None, tag)) => {
            atoms::wait()
        }
        // What cannot be polled, a regular file for instance, is always ready.
        Next::More | Next::Wait => atoms::more(),
    };
    (next, list).encode(env)
}

/// `Native.recv/3`: reads once at most, in the owner's own context. Never blocks.
///
/// Returns `{:ok, packets}` (`{:lists, packets}` if the port delivers lists), `:wait` (a `{:select, _, reference, :ready_input}` message will come), `:closed` after the
/// last data, or `{:error, reason}`.
#[rustler::nif]
fn recv<'a>(env: Env<'a>, port: LocalPid, limit: usize, reference: Term<'a>) -> Term<'a> {
    let _timer = Timer::start();
    let Some(handle) = registry::find(port) else { return atoms::closed().encode(env) };
    let reader = env.pid();
    if let Some(reason) = refusal(env, &handle, reader) {
        return env.error_tuple(reason);
    }
    let limit = Limit::most(limit);
    let event = {
        let mut input = lock(&handle.input);
        input.waiter = None;
        if input.pipe.is_none() {
            return atoms::closed().encode(env);
        }
        let mut read = cut(env, &handle, &mut input, limit);
        if matches!(&read, Ok(Cut { next: Next::Wait, count: 0, .. })) {
            drop(input);
            let is_ready = await_input(&handle);
            input = lock(&handle.input);
            // The program may have ended meanwhile, and then nobody would wake us.
            if is_ready || input.reader.is_ending() {
                read = cut(env, &handle, &mut input, limit);
            }
        }
        match read {
            Ok(Cut { count: 1.., list, .. }) => {
                let kind = if handle.binary { atoms::ok() } else { atoms::lists() };
                return (kind, list).encode(env);
            }
            Ok(Cut { next: Next::More, .. }) => return atoms::more().encode(env),
            Ok(Cut { next: Next::Wait, .. }) => {
                // As it is now that nobody can change it without releasing us.
                if let Some(reason) = refusal(env, &handle, reader) {
                    return env.error_tuple(reason);
                }
                let Some(pipe) = &input.pipe else { return atoms::closed().encode(env) };
                if !pipe.arm(env, Ready::Input, None, reference) {
                    // What cannot be polled is always ready.
                    return atoms::more().encode(env);
                }
                let waiter = OwnedEnv::new();
                let saved = waiter.save(reference);
                input.waiter = Some(Waiter { pid: reader, env: waiter, reference: saved });
                return atoms::wait().encode(env);
            }
            Ok(Cut { next: Next::Eof, .. }) => Ok(atoms::eof()),
            Err(reason) => Err(reason),
        }
    };
    match event {
        Ok(eof) => {
            let _ = env.send(&handle.port, (&handle, eof));
            atoms::closed().encode(env)
        }
        Err(reason) => {
            let _ = env.send(&handle.port, (&handle, (atoms::read_failed(), reason)));
            env.error_tuple(reason)
        }
    }
}

/// `Native.readable/1`: whether the calling process may read: `:ok`, `:closed` or `{:error, reason}`.
#[rustler::nif]
fn readable(env: Env, port: LocalPid) -> Term {
    let Some(handle) = registry::find(port) else { return atoms::closed().encode(env) };
    match refusal(env, &handle, env.pid()) {
        None => atoms::ok().encode(env),
        Some(reason) => env.error_tuple(reason),
    }
}

/// Why `reader` must not read for itself, if so.
fn refusal(env: Env, handle: &PortHandle, reader: LocalPid) -> Option<Atom> {
    if lock(&handle.roles).owner != reader {
        Some(atoms::not_owner())
    } else if handle.passive.load(Ordering::Acquire) {
        None
    } else {
        Some(errno::atom(env, safe_port_os::errno::EINVAL))
    }
}

/// `Native.cancel/2`: stops waiting, after `:wait`. `false` if the message has been sent, or is about to be.
#[rustler::nif]
fn cancel(env: Env, port: LocalPid, reference: Term) -> bool {
    // Who closed the port has released us.
    let Some(handle) = registry::find(port) else { return false };
    let reader = env.pid();
    let mut input = lock(&handle.input);
    input.waiter.take_if(|waiter| waiter.pid == reader).is_some()
        && input.pipe.as_ref().is_some_and(|pipe| pipe.cancel(env, Ready::Input, reference))
}

/// `Native.suspend/2`: the port process stops waiting for input.
#[rustler::nif]
fn suspend(env: Env, handle: ResourceArc<PortHandle>, tag: Term) -> Atom {
    suspend_input(env, &handle, tag);
    atoms::ok()
}

fn suspend_input(env: Env, handle: &PortHandle, tag: Term) {
    if let Some(pipe) = &lock(&handle.input).pipe {
        pipe.cancel(env, Ready::Input, tag);
    }
}

/// `Native.end_input/1`: the program ended; only what is in its pipe now is still its own (contract E5).
///
/// An owner that waits in a passive read is woken, as its wait may be over without anything becoming readable.
#[rustler::nif]
fn end_input(env: Env, handle: ResourceArc<PortHandle>) -> Atom {
    let mut input = lock(&handle.input);
    let left = input.pipe.as_ref().and_then(|pipe| pipe::readable_bytes(pipe.as_fd()).ok()).unwrap_or(0);
    input.reader.end_after(left);
    release(env, &handle, &mut input);
    atoms::ok()
}

/// Has a waiting reader look again: sends it the one message that it waits for, unless the VM has.
pub fn release(env: Env, handle: &PortHandle, input: &mut Input) {
    let Some(waiter) = input.waiter.take() else { return };
    waiter.env.run(|saved| {
        let reference = waiter.reference.load(saved).in_env(env);
        if input.pipe.as_ref().is_some_and(|pipe| pipe.cancel(env, Ready::Input, reference)) {
            let _ = env.send(&waiter.pid, (atoms::select(), handle.port, reference, atoms::ready_input()));
        }
    });
}

/// Waits awake for input, if a reply may come soon; whether there is something to read.
fn await_input(handle: &PortHandle) -> bool {
    let is_ready = || {
        let input = lock(&handle.input);
        let bytes = input.pipe.as_ref().map_or(1, |pipe| pipe::readable_bytes(pipe.as_fd()).unwrap_or(1));
        (bytes > 0).then_some(())
    };
    handle.turns.awake(is_ready).is_some()
}

/// What one read brought.
struct Cut<'a> {
    next: Next,
    /// How many terms are in the list.
    count: usize,
    list: Term<'a>,
}

/// Reads once at most and makes a term of each piece.
fn cut<'a>(env: Env<'a>, handle: &PortHandle, input: &mut Input, limit: Limit) -> Result<Cut<'a>, Atom> {
    let Some(pipe) = &input.pipe else {
        return Ok(Cut { next: Next::Eof, count: 0, list: Term::list_new_empty(env) });
    };
    SCRATCH.with_borrow_mut(|scratch| {
        let outcome = match input.reader.read(pipe.as_fd(), scratch, limit) {
            Ok(outcome) => outcome,
            Err(error) => return Err(reason(env, &error)),
        };
        let Outcome { source, next } = outcome;
        let pieces = std::mem::take(&mut scratch.pieces);
        let terms = Terms { env, share: input.share };
        let list = match source {
            Source::Scratch => terms.of_borrowed(scratch.bytes(), &pieces),
            Source::Carry => terms.of_borrowed(input.reader.carry(), &pieces),
            Source::Chunk(chunk) => terms.of_chunk(&chunk.0.release(env), &pieces),
        };
        scratch.pieces = pieces;
        if let (Some(first), Some(last)) = (scratch.pieces.first(), scratch.pieces.last()) {
            handle.turns.answered();
            // Or a port that always finds more would hold its scheduler for milliseconds.
            timing::moved(env, last.range.end - first.range.start);
        }
        Ok(Cut { next, count: scratch.pieces.len(), list })
    })
}

fn reason(env: Env, error: &ReadError) -> Atom {
    match error {
        ReadError::Os(error) => errno::of(env, error),
        ReadError::TooLong(_) => errno::atom(env, safe_port_os::errno::EMSGSIZE),
        ReadError::NoMemory(_) => errno::atom(env, safe_port_os::errno::ENOMEM),
    }
}

/// Makes terms of pieces.
struct Terms<'a> {
    env: Env<'a>,
    share: bool,
}

impl<'a> Terms<'a> {
    /// Pieces of memory that is used again: copied, all at once where they may share the copy.
    fn of_borrowed(&self, bytes: &[u8], pieces: &[Piece]) -> Term<'a> {
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            return Term::list_new_empty(self.env);
        };
        let span = first.range.start..last.range.end;
        if self.share && pieces.len() > 1 && span.len() > pieces.len() * OWN_BYTES * 2 {
            let start = span.start;
            let mut copy = NewBinary::new(self.env, span.len());
            copy.as_mut_slice().copy_from_slice(&bytes[span]);
            let copy: Binary<'a> = copy.into();
            return self.list(pieces, |piece| self.shared(&copy, start, piece));
        }
        batch::list(self.env, bytes, pieces).unwrap_or_else(|| {
            self.list(pieces, |piece| self.kind(piece.kind, self.own(&bytes[piece.range.clone()])))
        })
    }

    /// Pieces of a chunk, which large ones share.
    fn of_chunk(&self, chunk: &Binary<'a>, pieces: &[Piece]) -> Term<'a> {
        self.list(pieces, |piece| self.shared(chunk, 0, piece))
    }

    fn list(&self, pieces: &[Piece], term: impl Fn(&Piece) -> Term<'a>) -> Term<'a> {
        pieces.iter().map(term).collect::<Vec<_>>().encode(self.env)
    }

    /// A piece of `chunk`, whose first byte has the offset `base`.
    fn shared(&self, chunk: &Binary<'a>, base: usize, piece: &Piece) -> Term<'a> {
        let range = piece.range.start - base..piece.range.end - base;
        let whole = range.len() == chunk.len();
        let term = if whole {
            chunk.to_term(self.env)
        } else if range.len() > OWN_BYTES && self.share {
            // The range lies within the chunk, so this does not fail.
            chunk
                .make_subbinary(range.start, range.len())
                .map_or_else(|_| self.own(&chunk[range]), |binary| binary.to_term(self.env))
        } else {
            self.own(&chunk[range])
        };
        self.kind(piece.kind, term)
    }

    fn own(&self, bytes: &[u8]) -> Term<'a> {
        let mut binary = NewBinary::new(self.env, bytes.len());
        binary.as_mut_slice().copy_from_slice(bytes);
        binary.into()
    }

    fn kind(&self, kind: Kind, term: Term<'a>) -> Term<'a> {
        match kind {
            Kind::Eol => (atoms::eol(), term).encode(self.env),
            Kind::Noeol => (atoms::noeol(), term).encode(self.env),
            Kind::Whole => term,
        }
    }
}
