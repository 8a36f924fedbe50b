//! The driver's side of the interface: an [`Entry`] for a type that implements [`Driver`], and the way back to the
//! runner.

use std::any::Any;
use std::ffi::c_void;

use super::{
    caught, Buffer, Callback, Calls, Entry, Header, PortRef, Request, Slice, Started, ABI_VERSION,
    FLAG_DRIVER_LOCKING, FLAG_INIT_ACK, FLAG_NO_BUSY_MSGQ, FLAG_SOFT_BUSY, MAGIC, MAX_NAME_BYTES,
    STATUS_BAD_ARG, STATUS_ERRNO, STATUS_GENERAL, STATUS_OK, STATUS_PANIC, STATUS_REFUSED,
};
use crate::driver::{BadArg, Driver, JobResult, Locking, Monitor, StartError};
use crate::port::{Pid, PortHandle};
use crate::select::Descriptor;
use crate::term::Term;

/// The entry of `D`, for [`export!`](crate::export). Not compiled if the name is empty or longer than
/// [`MAX_NAME_BYTES`].
pub const fn entry<D: Driver>() -> Entry {
    let mut flags = 0;
    if matches!(D::LOCKING, Locking::Driver) {
        flags |= FLAG_DRIVER_LOCKING;
    }
    if D::SOFT_BUSY {
        flags |= FLAG_SOFT_BUSY;
    }
    if D::NO_BUSY_MSGQ {
        flags |= FLAG_NO_BUSY_MSGQ;
    }
    if D::INIT_ACK {
        flags |= FLAG_INIT_ACK;
    }
    assert!(!D::NAME.is_empty(), "the name of a driver must not be empty");
    Entry {
        header: Header {
            magic: MAGIC,
            abi_version: ABI_VERSION,
            entry_bytes: size_of::<Entry>() as u32,
            sdk_version: text(env!("CARGO_PKG_VERSION")),
            name: text::<{ MAX_NAME_BYTES + 1 }>(D::NAME),
            flags,
        },
        calls: Calls {
            init: init::<D>,
            finish: finish::<D>,
            start: start::<D>,
            dispatch: dispatch::<D>,
            run_job,
            free_job,
            stop_select: stop_select::<D>,
        },
    }
}

/// `text` and a zero byte; not compiled if that does not fit.
const fn text<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    let from = text.as_bytes();
    assert!(from.len() < SIZE, "the name of a driver must have at most 63 bytes");
    let mut bytes = [0; SIZE];
    let mut at = 0;
    while at < from.len() {
        assert!(from[at] > b' ', "the name of a driver must not have blanks");
        bytes[at] = from[at];
        at += 1;
    }
    bytes
}

/// A port's instance of a driver, and the handle that its callbacks are given.
struct Instance<D> {
    driver: D,
    port: PortHandle,
}

/// Status and answer for what a callback returned.
fn answer(result: Result<Result<Vec<u8>, BadArg>, String>, answer: &mut Buffer) -> u32 {
    match result {
        Ok(Ok(reply)) => {
            *answer = reply.into();
            STATUS_OK
        }
        Ok(Err(BadArg)) => STATUS_BAD_ARG,
        Err(message) => panicked(message, answer),
    }
}

fn panicked(message: String, answer: &mut Buffer) -> u32 {
    *answer = message.into_bytes().into();
    STATUS_PANIC
}

fn done(result: Result<(), String>, answer: &mut Buffer) -> u32 {
    self::answer(result.map(|()| Ok(Vec::new())), answer)
}

extern "C" fn init<D: Driver>(answer: &mut Buffer) -> u32 {
    match caught(D::init) {
        Ok(Ok(())) => STATUS_OK,
        Ok(Err(reason)) => {
            *answer = reason.into_bytes().into();
            STATUS_REFUSED
        }
        Err(message) => panicked(message, answer),
    }
}

extern "C" fn finish<D: Driver>(answer: &mut Buffer) -> u32 {
    done(caught(D::finish), answer)
}

/// # Safety
///
/// `port` is a reference of the runner that nobody else gives back.
unsafe extern "C" fn start<D: Driver>(port: PortRef, command: Slice<'_>, started: &mut Started) -> u32 {
    let port = PortHandle::new::<D>(HostPort(port));
    let result = caught(|| {
        let driver = D::start(&port, command.get())?;
        Ok(Box::into_raw(Box::new(Instance { driver, port: port.clone() })))
    });
    // When this was the last reference the runner's own code runs; it does not panic here.
    drop(port);
    match result {
        Ok(Ok(instance)) => {
            started.instance = instance.cast();
            STATUS_OK
        }
        Ok(Err(StartError::General)) => STATUS_GENERAL,
        Ok(Err(StartError::BadArg)) => STATUS_BAD_ARG,
        Ok(Err(StartError::Errno(errno))) => {
            started.errno = errno;
            STATUS_ERRNO
        }
        Err(message) => panicked(message, &mut started.message),
    }
}

/// # Safety
///
/// `instance` was made by [`start`] or [`PortHandle::create_port`] for the same `D`, is not in use by another call, and
/// was not stopped.
unsafe extern "C" fn dispatch<D: Driver>(
    instance: *mut c_void,
    callback: &mut Callback<'_>,
    answer: &mut Buffer,
) -> u32 {
    let instance = instance.cast::<Instance<D>>();
    if let Callback::Stop = callback {
        // SAFETY: the caller says that the instance is alive and ours alone, and never uses it again.
        let instance = unsafe { Box::from_raw(instance) };
        let result = caught(move || {
            let Instance { driver, port } = *instance;
            let result = caught(|| driver.stop(&port));
            port.clear_queue();
            result
        });
        return done(result.and_then(|result| result), answer);
    }
    // SAFETY: as above, for the time of this call.
    let Instance { driver, port } = unsafe { &mut *instance };
    let result = caught(|| call(driver, port, callback));
    self::answer(result, answer)
}

fn call<D: Driver>(
    driver: &mut D,
    port: &PortHandle,
    callback: &mut Callback<'_>,
) -> Result<Vec<u8>, BadArg> {
    match callback {
        Callback::Outputv(parts) => driver.outputv(port, parts.take()),
        Callback::ReadyInput(fd) => driver.ready_input(port, *fd),
        Callback::ReadyOutput(fd) => driver.ready_output(port, *fd),
        Callback::Control(op, data) => return driver.control(port, *op, data.get()),
        Callback::Call(op, data) => {
            let term = Term::decode(data.get()).map_err(|_| BadArg)?;
            return driver.call(port, *op, term)?.encode().map_err(|_| BadArg);
        }
        Callback::Timeout => driver.timeout(port),
        Callback::Flush => driver.flush(port),
        Callback::ReadyAsync(job) => {
            // SAFETY: the runner gives back a job of `Job::into_raw`, once, after `run_job`.
            let job = unsafe { Job::from_raw(*job) };
            if let Job::Done(result) = job {
                driver.ready_async(port, JobResult(result));
            }
        }
        Callback::ProcessExit(monitor, pid) => {
            driver.process_exit(port, Monitor { id: *monitor, pid: Pid(*pid) });
        }
        Callback::Stop => {}
    }
    Ok(Vec::new())
}

/// A job of [`PortHandle::run`] on its way through the pool.
pub(crate) enum Job {
    /// What to do.
    Waiting(Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>),
    /// What came of it.
    Done(Box<dyn Any + Send>),
    /// It is being run, or panicked.
    Gone,
}

impl Job {
    fn into_raw(self) -> *mut c_void {
        Box::into_raw(Box::new(self)).cast()
    }

    /// # Safety
    ///
    /// `job` comes from [`Job::into_raw`] of this library and is not used again.
    unsafe fn from_raw(job: *mut c_void) -> Job {
        // SAFETY: the caller gives back what `into_raw` made.
        *unsafe { Box::from_raw(job.cast()) }
    }
}

/// # Safety
///
/// `job` comes from [`Job::into_raw`] of this library, is not in use and was not freed.
unsafe extern "C" fn run_job(job: *mut c_void, answer: &mut Buffer) -> u32 {
    // SAFETY: the caller says that the job is alive and ours alone.
    let job = unsafe { &mut *job.cast::<Job>() };
    let Job::Waiting(work) = std::mem::replace(job, Job::Gone) else { return STATUS_OK };
    match caught(work) {
        Ok(result) => {
            *job = Job::Done(result);
            STATUS_OK
        }
        Err(message) => panicked(message, answer),
    }
}

/// # Safety
///
/// `job` comes from [`Job::into_raw`] of this library and is not used again.
unsafe extern "C" fn free_job(job: *mut c_void, answer: &mut Buffer) -> u32 {
    // SAFETY: the caller gives the job back.
    let job = unsafe { Job::from_raw(job) };
    done(caught(|| drop(job)), answer)
}

/// # Safety
///
/// `source` comes from [`HostPort::select`] of this library and is not used again.
unsafe extern "C" fn stop_select<D: Driver>(source: *mut c_void, answer: &mut Buffer) -> u32 {
    // SAFETY: the caller gives the source back.
    let source = unsafe { Box::from_raw(source.cast::<Descriptor>()) };
    done(caught(|| D::stop_select(*source)), answer)
}

/// The runner's port, behind a handle.
pub(crate) struct HostPort(PortRef);

// SAFETY: the runner allows all its functions from any thread at any time; see `PortCalls`.
unsafe impl Send for HostPort {}
// SAFETY: as above.
unsafe impl Sync for HostPort {}

impl HostPort {
    /// Asks the runner.
    pub fn request(&self, mut request: Request<'_>) -> i64 {
        // SAFETY: `context` and `calls` came together from the runner, and this reference is given back only by drop.
        unsafe { ((*self.0.calls).request)(self.0.context, &mut request) }
    }

    /// Watches `source`; a negative error number if that fails.
    pub fn select(&self, fd: i32, ready: u32, source: Descriptor) -> i64 {
        let source = Box::into_raw(Box::new(source)).cast();
        let result = self.request(Request::Select { fd, ready, source });
        if result != 1 {
            // SAFETY: the runner did not keep what was made above.
            drop(unsafe { Box::from_raw(source.cast::<Descriptor>()) });
        }
        result
    }

    /// Has `work` run on the pool.
    pub fn run(&self, key: Option<u64>, work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>) {
        let job = Job::Waiting(work).into_raw();
        self.request(Request::Run { keyed: key.is_some().into(), key: key.unwrap_or(0), job });
    }

    /// Makes another port of the same driver; `None` if there can be none.
    pub fn create_port(&self, owner: u64, name: &[u8]) -> Option<HostPort> {
        let mut port = PortRef { context: std::ptr::null(), calls: self.0.calls };
        let request = Request::CreatePort { owner, name: Slice::new(name), port: &mut port };
        // Made only then: dropping it gives the reference back.
        (self.request(request) == 1).then(|| HostPort(port))
    }
}

impl Drop for HostPort {
    fn drop(&mut self) {
        // SAFETY: this reference was handed to us and is given back once.
        unsafe { ((*self.0.calls).release)(self.0.context) }
    }
}

/// Gives `port`, made by [`HostPort::create_port`], its instance.
///
/// Refused if `D` is not the driver of `port`: its callbacks would be called with a foreign type.
pub(crate) fn adopt<D: Driver>(port: &PortHandle, driver: D) -> Result<(), D> {
    if !port.is_of::<D>() {
        return Err(driver);
    }
    let instance = Box::into_raw(Box::new(Instance { driver, port: port.clone() })).cast();
    port.host().request(Request::Adopt { instance });
    Ok(())
}
