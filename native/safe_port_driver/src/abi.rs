//! The interface between a driver's library and the runner, in types that every Rust compiler lays out alike.
//!
//! A trait object, a `Vec` or a panic must not cross from one library into another: their layout is the compiler's own
//! business and each library brings a standard library, an allocator and a panic runtime of its own. So only
//! `#[repr(C)]` types, integers and `extern "C"` functions cross. Each side frees what it allocated, and catches its
//! own panics before they reach the line. Two libraries built by different compilers therefore work together; the
//! [`Header`] tells them apart if they were made for different versions of this interface.
//!
//! * [`guest`] is the driver's side: it turns `Callback`s into calls of [`Driver`](crate::Driver).
//! * `host` is the runner's side: it turns `Request`s into calls of its trait `Host`.
//! * `load` brings in a library, after `elf` has looked at its file.

// Each side makes what the other reads: without the runner's side half of the interface looks unused.
#![cfg_attr(not(feature = "host"), allow(dead_code))]

#[cfg(all(feature = "host", target_os = "linux", target_pointer_width = "64"))]
mod elf;
pub mod guest;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
mod link;
#[cfg(feature = "host")]
mod load;

use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::NonNull;

use crate::bytes::Bytes;

/// Version of this interface. It changes with every change of a type in this module.
pub const ABI_VERSION: u32 = 1;
/// The first bytes of every [`Header`].
pub const MAGIC: [u8; 16] = *b"SafePort driver\0";
/// What the symbol of an [`Entry`] begins with; the name of its crate follows.
///
/// The name is part of it so that several drivers can be linked into one library.
pub const SYMBOL_PREFIX: &str = "safe_port_driver_entry_";

/// The longest name of a driver, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// Flag: all instances of the driver exclude each other.
pub const FLAG_DRIVER_LOCKING: u32 = 1;
/// Flag: a busy port still takes commands that are forced.
pub const FLAG_SOFT_BUSY: u32 = 2;
/// Flag: waiting commands do not make the port busy.
pub const FLAG_NO_BUSY_MSGQ: u32 = 4;
/// Flag: opening waits for `PortHandle::ack_start`.
pub const FLAG_INIT_ACK: u32 = 8;

/// The callback was done.
pub const STATUS_OK: u32 = 0;
/// The callback panicked; the message is in the answer.
pub const STATUS_PANIC: u32 = 1;
/// The caller's arguments are wrong: `BadArg`, `StartError::BadArg`.
pub const STATUS_BAD_ARG: u32 = 2;
/// `StartError::General`.
pub const STATUS_GENERAL: u32 = 3;
/// `StartError::Errno`; the number is in the answer.
pub const STATUS_ERRNO: u32 = 4;
/// `init` refused; its reason is in the answer.
pub const STATUS_REFUSED: u32 = 5;

/// What every version of this interface begins with. Plain bytes, so that it can be read in the file itself.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 16],
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// The size of the whole [`Entry`] in bytes.
    pub entry_bytes: u32,
    /// Version of this crate, as text that ends with a zero byte.
    pub sdk_version: [u8; 32],
    /// Name of the driver, as text that ends with a zero byte.
    pub name: [u8; MAX_NAME_BYTES + 1],
    /// Sum of `FLAG_*`.
    pub flags: u32,
}

/// What a driver's library exports.
#[repr(C)]
pub struct Entry {
    pub(crate) header: Header,
    pub(crate) calls: Calls,
}

/// The functions of a driver. None of them unwinds.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    /// `Driver::init`.
    pub init: extern "C" fn(answer: &mut Buffer) -> u32,
    /// `Driver::finish`.
    pub finish: extern "C" fn(answer: &mut Buffer) -> u32,
    /// `Driver::start`; takes over one reference to `port`.
    pub start: unsafe extern "C" fn(port: PortRef, command: Slice<'_>, started: &mut Started) -> u32,
    /// Every callback of an instance; [`Callback::Stop`] frees it.
    pub dispatch:
        unsafe extern "C" fn(instance: *mut c_void, callback: &mut Callback<'_>, answer: &mut Buffer) -> u32,
    /// Runs a job of `PortHandle::run`.
    pub run_job: unsafe extern "C" fn(job: *mut c_void, answer: &mut Buffer) -> u32,
    /// Frees a job, run or not.
    pub free_job: unsafe extern "C" fn(job: *mut c_void, answer: &mut Buffer) -> u32,
    /// `Driver::stop_select`; frees `source`.
    pub stop_select: unsafe extern "C" fn(source: *mut c_void, answer: &mut Buffer) -> u32,
}

/// What `Driver::start` gave.
#[repr(C)]
pub(crate) struct Started {
    /// The instance, if it started.
    pub instance: *mut c_void,
    /// The error number of [`STATUS_ERRNO`].
    pub errno: i32,
    /// The message of [`STATUS_PANIC`].
    pub message: Buffer,
}

/// A call of a driver's instance.
#[repr(C, u32)]
pub(crate) enum Callback<'a> {
    /// The receiver takes the buffers over.
    Outputv(Given<'a>),
    ReadyInput(i32),
    ReadyOutput(i32),
    /// The answer is the reply.
    Control(u32, Slice<'a>),
    /// The answer is the reply, in external term format.
    Call(u32, Slice<'a>),
    Timeout,
    Flush,
    /// The receiver takes the job over, which was run.
    ReadyAsync(*mut c_void),
    /// The monitor and the process.
    ProcessExit(u64, u64),
    /// Frees the instance.
    Stop,
}

/// A call of the runner by a driver. What the number that it returns means is said with each method of `Host`.
#[repr(C, u32)]
pub(crate) enum Request<'a> {
    Output {
        header: Slice<'a>,
        parts: Parts<'a>,
    },
    OutputTerm {
        term: Slice<'a>,
    },
    SendTerm {
        to: u64,
        term: Slice<'a>,
    },
    FailEof,
    FailCode {
        code: i32,
    },
    FailAtom {
        atom: Slice<'a>,
    },
    FailErrno {
        errno: i32,
    },
    Exit {
        errno: i32,
    },
    SetTimer {
        ms: u64,
    },
    CancelTimer,
    ReadTimer,
    /// `source` stays the caller's unless this returns 1.
    Select {
        fd: i32,
        ready: u32,
        source: *mut c_void,
    },
    Deselect {
        fd: i32,
        ready: u32,
    },
    Release {
        fd: i32,
    },
    /// The runner takes `job` over.
    Run {
        keyed: u32,
        key: u64,
        job: *mut c_void,
    },
    Monitor {
        pid: u64,
    },
    Demonitor {
        monitor: u64,
    },
    QueueSize {
        bytes: u64,
    },
    Busy {
        on: bool,
    },
    BusyLimits {
        low: u64,
        high: u64,
    },
    Caller,
    Connected,
    ControlBinary {
        on: bool,
    },
    OsPid {
        os_pid: u32,
    },
    Log {
        text: Slice<'a>,
    },
    AckStart {
        status: u32,
        errno: i32,
    },
    PidToTerm {
        pid: u64,
        term: &'a mut Buffer,
    },
    PidFromTerm {
        term: Slice<'a>,
    },
    CreatePort {
        owner: u64,
        name: Slice<'a>,
        port: &'a mut PortRef,
    },
    /// Gives a port of `CreatePort` its instance, which the runner takes over.
    Adopt {
        instance: *mut c_void,
    },
}

/// A counted reference to a port of the runner.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PortRef {
    pub context: *const c_void,
    pub calls: *const PortCalls,
}

/// The functions of the runner. None of them unwinds; all may be called from any thread.
#[repr(C)]
pub(crate) struct PortCalls {
    pub release: unsafe extern "C" fn(context: *const c_void),
    pub request: unsafe extern "C" fn(context: *const c_void, request: &mut Request<'_>) -> i64,
}

/// Bytes lent for `'a`: a `&[u8]` of known layout.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Slice<'a> {
    ptr: *const u8,
    bytes: usize,
    lent: PhantomData<&'a [u8]>,
}

impl<'a> Slice<'a> {
    pub fn new(bytes: &'a [u8]) -> Slice<'a> {
        Slice { ptr: bytes.as_ptr(), bytes: bytes.len(), lent: PhantomData }
    }

    pub fn get(self) -> &'a [u8] {
        // SAFETY: `new`, the only maker, took both from a slice that is borrowed for `'a`.
        unsafe { std::slice::from_raw_parts(self.ptr, self.bytes) }
    }
}

/// Slices lent for `'a`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    ptr: *const Slice<'a>,
    count: usize,
    lent: PhantomData<&'a [Slice<'a>]>,
}

impl<'a> Parts<'a> {
    pub fn new(parts: &'a [Slice<'a>]) -> Parts<'a> {
        Parts { ptr: parts.as_ptr(), count: parts.len(), lent: PhantomData }
    }

    pub fn get(self) -> &'a [Slice<'a>] {
        // SAFETY: `new`, the only maker, took both from a slice that is borrowed for `'a`.
        unsafe { std::slice::from_raw_parts(self.ptr, self.count) }
    }
}

/// Buffers lent for `'a` to be emptied.
#[repr(C)]
pub(crate) struct Given<'a> {
    ptr: *mut Buffer,
    count: usize,
    lent: PhantomData<&'a mut [Buffer]>,
}

impl<'a> Given<'a> {
    pub fn new(buffers: &'a mut [Buffer]) -> Given<'a> {
        Given { ptr: buffers.as_mut_ptr(), count: buffers.len(), lent: PhantomData }
    }

    /// Takes the buffers; a second time they are all empty.
    pub fn take(&mut self) -> Vec<Bytes> {
        // SAFETY: `new`, the only maker, took both from a slice that is mutably borrowed for `'a`.
        let buffers = unsafe { std::slice::from_raw_parts_mut(self.ptr, self.count) };
        buffers.iter_mut().map(|buffer| std::mem::take(buffer).into_bytes()).collect()
    }
}

/// Bytes given away: whoever holds the buffer frees it, through the function of the side that made it.
#[repr(C)]
pub(crate) struct Buffer {
    ptr: *const u8,
    bytes: usize,
    owner: *mut c_void,
    release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
}

// SAFETY: a buffer is made from `Bytes`, which are `Send` and `Sync`; it is only read through shared references and
// freed once, by whichever thread drops it.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// The bytes, still in the memory of the side that made them.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Default for Buffer {
    /// No bytes.
    fn default() -> Buffer {
        Buffer { ptr: NonNull::dangling().as_ptr(), bytes: 0, owner: std::ptr::null_mut(), release: None }
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Buffer {
        if bytes.is_empty() {
            return Buffer::default();
        }
        let owner = Box::new(bytes);
        let (ptr, bytes) = (owner.as_ptr(), owner.len());
        Buffer { ptr, bytes, owner: Box::into_raw(owner).cast(), release: Some(release_bytes) }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        Buffer::from(Bytes::from(bytes))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `ptr` and `bytes` describe either nothing or the bytes that `owner` keeps until it is released.
        unsafe { std::slice::from_raw_parts(self.ptr, self.bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: `release` came with `owner` from the side that made the buffer; a drop happens once.
            unsafe { release(self.owner) }
        }
    }
}

/// # Safety
///
/// `owner` comes from `Buffer::from(Bytes)` of this library and is not used again.
unsafe extern "C" fn release_bytes(owner: *mut c_void) {
    // SAFETY: the caller gives back what `From<Bytes>` made.
    let owner = unsafe { Box::from_raw(owner.cast::<Bytes>()) };
    // The bytes may belong to a type of the driver's whose drop panics; there is nobody to tell.
    let _ = caught(|| drop(owner));
}

/// Runs `action` and keeps a panic from going further: its message instead.
pub(crate) fn caught<R>(action: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(action)).map_err(|payload| {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "the panic carries no text".to_owned(),
        };
        // A payload whose own drop panics is left alone.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            std::mem::forget(payload);
        }
        message
    })
}
