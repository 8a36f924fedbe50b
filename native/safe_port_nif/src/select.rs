//! The one room of this crate with unsafe code: a descriptor in the VM's own poll set.
//!
//! `enif_select` needs a resource type with a `stop` callback, which rustler's resources do not have, so this module
//! opens that one type through `rustler::sys`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use rustler::sys::{self, ErlNifEnv, ErlNifEvent, ErlNifPid, ErlNifResourceType, ErlNifSelectFlags};
use rustler::{Env, LocalPid, Term};
use safe_port_os::pipe;

/// `ERL_NIF_SELECT_CANCEL`, which `rustler::sys` does not name.
const CANCEL: ErlNifSelectFlags = 1 << 3;

static TYPE: AtomicPtr<ErlNifResourceType> = AtomicPtr::new(ptr::null_mut());

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `{:select, _, reference, :ready_input}`
    Input,
    /// `{:select, _, reference, :ready_output}`
    Output,
}

/// The resource object: the descriptor until the VM says that nothing uses it any more.
struct Object {
    fd: Option<OwnedFd>,
    /// Whether the file behind it is others' too, who expect it to block when we are done with it.
    shared: bool,
}

/// A descriptor that the VM can poll. It is closed by [`Pipe::close`], or when it is dropped.
pub struct Pipe {
    object: NonNull<Object>,
    fd: RawFd,
}

// SAFETY: the object holds nothing but a descriptor, which any thread may use; its reference count is atomic.
unsafe impl Send for Pipe {}
// SAFETY: as above; `&Pipe` only reads the descriptor's number.
unsafe impl Sync for Pipe {}

/// Opens the resource type; to be called once, while the library is loaded.
pub fn register(env: Env) -> bool {
    let mut init = sys::ErlNifResourceTypeInit {
        dtor: drop_object as *const _,
        stop: stop as *const _,
        down: ptr::null(),
    };
    let mut tried = sys::ErlNifResourceFlags::ERL_NIF_RT_CREATE;
    // SAFETY: called from the library's load callback with its environment; the callbacks have the types that the VM
    // calls them with, and the name is a static C string.
    let opened = unsafe {
        sys::enif_open_resource_type_x(
            env.as_c_arg(),
            c"safe_port_pipe".as_ptr().cast(),
            &raw mut init,
            sys::ErlNifResourceFlags::ERL_NIF_RT_CREATE,
            &raw mut tried,
        )
    };
    TYPE.store(opened.cast_mut(), Ordering::Release);
    !opened.is_null()
}

/// Called when no scheduler and no poll thread can touch the descriptor any more: only here is it closed.
unsafe extern "C" fn stop(_env: *mut ErlNifEnv, object: *mut c_void, _event: ErlNifEvent, _direct: c_int) {
    // SAFETY: the VM passes the object that was given to `enif_select`, still alive, and calls this once.
    let object = unsafe { &mut *object.cast::<Object>() };
    if let Some(fd) = object.fd.take() {
        if object.shared {
            let _ = pipe::set_nonblocking(fd.as_fd(), false);
        }
    }
}

/// Called when the last reference is gone.
unsafe extern "C" fn drop_object(_env: *mut ErlNifEnv, object: *mut c_void) {
    // SAFETY: the VM calls this once, with an object that `Pipe::new` has initialised.
    unsafe { ptr::drop_in_place(object.cast::<Object>()) };
}

impl Pipe {
    /// Takes `fd`, which must be non-blocking. A `shared` one is made blocking again before it is closed.
    pub fn new(fd: OwnedFd, shared: bool) -> Pipe {
        let kind = TYPE.load(Ordering::Acquire);
        let number = fd.as_raw_fd();
        // SAFETY: `register` has opened the type, or the library would not have loaded; the VM aborts when it is out
        // of memory, so the object is there, and it is written before anything can see it.
        let object = unsafe {
            let object = sys::enif_alloc_resource(kind, size_of::<Object>()).cast::<Object>();
            object.write(Object { fd: Some(fd), shared });
            NonNull::new_unchecked(object)
        };
        Pipe { object, fd: number }
    }

    fn select(&self, env: Env, flags: ErlNifSelectFlags, pid: Option<&LocalPid>, reference: Term) -> c_int {
        let pid: *const ErlNifPid = pid.map_or(ptr::null(), |pid| ptr::from_ref(pid.as_c_arg()));
        // SAFETY: the object is alive, as `self` holds a reference, and so is its descriptor: it is closed only by
        // `stop`, which follows `Pipe::close` or the last reference.
        unsafe {
            sys::enif_select(
                env.as_c_arg(),
                self.fd as ErlNifEvent,
                flags,
                self.object.as_ptr().cast(),
                pid,
                reference.as_c_arg(),
            )
        }
    }

    /// Asks for one message to `pid`, or to the calling process, when the descriptor is `ready`.
    ///
    /// `reference` is a reference or `:undefined` and comes back in the message.
    pub fn arm(&self, env: Env, ready: Ready, pid: Option<&LocalPid>, reference: Term) -> bool {
        self.select(env, flag(ready), pid, reference) >= 0
    }

    /// Takes back what [`Pipe::arm`] asked for. `false` means that the message has been sent, or never was asked for.
    pub fn cancel(&self, env: Env, ready: Ready, reference: Term) -> bool {
        let cancelled = match ready {
            Ready::Input => sys::ERL_NIF_SELECT_READ_CANCELLED,
            Ready::Output => sys::ERL_NIF_SELECT_WRITE_CANCELLED,
        };
        let result = self.select(env, CANCEL | flag(ready), None, reference);
        result >= 0 && result & cancelled != 0
    }

    /// Takes the descriptor out of the poll set and closes it as soon as nothing uses it.
    pub fn close(self, env: Env) {
        let undefined = rustler::types::atom::undefined().to_term(env);
        self.select(env, sys::ERL_NIF_SELECT_STOP, None, undefined);
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the object lives as long as `self`, and its descriptor is closed only after `Pipe::close`, which
        // consumes the one `Pipe` there is, or with the last reference, of which `self` holds one.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // SAFETY: gives back the one reference that `Pipe::new` got; the poll set holds its own.
        unsafe { sys::enif_release_resource(self.object.as_ptr().cast_const().cast()) };
    }
}

fn flag(ready: Ready) -> ErlNifSelectFlags {
    match ready {
        Ready::Input => sys::ERL_NIF_SELECT_READ,
        Ready::Output => sys::ERL_NIF_SELECT_WRITE,
    }
}
