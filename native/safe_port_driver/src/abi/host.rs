//! The runner's side of the interface: drivers to call, and the trait through which they call back.

use std::ffi::{c_void, CStr};
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::{
    caught, guest, Buffer, Callback, Calls, Entry, Given, PortCalls, PortRef, Request, Slice, Started,
    FLAG_DRIVER_LOCKING, FLAG_INIT_ACK, FLAG_NO_BUSY_MSGQ, FLAG_SOFT_BUSY, STATUS_BAD_ARG, STATUS_ERRNO,
    STATUS_GENERAL, STATUS_OK, STATUS_REFUSED,
};
use crate::bytes::Bytes;
use crate::driver::{Driver, Locking};

pub use super::load::LoadError;

/// Mode of [`Host::select`]: wait until something can be read.
pub const READ: u32 = 1;
/// Mode of [`Host::select`]: wait until something can be written.
pub const WRITE: u32 = 2;

/// What the runner does for a port's driver. All methods may be called from any thread; none may block for long.
///
/// Processes and monitors are numbers of the runner's choice, never 0. See [`PortHandle`](crate::PortHandle) for what
/// each is for.
pub trait Host: Send + Sync + 'static {
    /// D1: `header` as list items in front of the bytes of `parts`.
    fn output(&self, header: &[u8], parts: &[&[u8]]);
    /// D10: a term for the owner.
    fn output_term(&self, term: &[u8]);
    /// D10: a term for a process; whether it is alive.
    fn send_term(&self, to: u64, term: &[u8]) -> bool;
    /// D2 and D3.
    fn fail(&self, failure: Failure);
    /// D4.
    fn set_timer(&self, ms: u64);
    /// D4.
    fn cancel_timer(&self);
    /// D4: milliseconds left.
    fn read_timer(&self) -> Option<u64>;
    /// D5.
    fn run(&self, key: Option<u64>, job: Job);
    /// D6: adds to the modes `ready` ([`READ`], [`WRITE`]) of `fd`. Takes `source` if `fd` was not watched yet. The error
    /// is an error number.
    fn select(&self, fd: i32, ready: u32, source: &mut Option<Source>) -> Result<(), i32>;
    /// D6: takes away from the modes of `fd`.
    fn deselect(&self, fd: i32, ready: u32);
    /// D6: forgets `fd` and releases its source.
    fn release(&self, fd: i32);
    /// D7: the monitor, or `None` if the process is dead.
    fn monitor(&self, pid: u64) -> Option<u64>;
    /// D7: whether it was active.
    fn demonitor(&self, monitor: u64) -> bool;
    /// D8: the queue has this many bytes now.
    fn queue_size(&self, bytes: u64);
    /// D9.
    fn busy(&self, on: bool);
    /// D9; `u64::MAX` twice: never.
    fn busy_limits(&self, low: u64, high: u64);
    /// D11.
    fn caller(&self) -> Option<u64>;
    /// D11.
    fn connected(&self) -> Option<u64>;
    /// D11.
    fn control_binary(&self, on: bool);
    /// D11: another port, which gets its instance by [`Host::adopt`].
    fn create_port(&self, owner: u64, name: &[u8]) -> Option<Arc<dyn Host>>;
    /// D11: the instance of a port made by [`Host::create_port`].
    fn adopt(&self, instance: Instance);
    /// D11.
    fn os_pid(&self, os_pid: u32);
    /// `erl_drv_init_ack`.
    fn ack_start(&self, result: Result<(), StartRefusal>);
    /// The external term format of a process.
    fn pid_to_term(&self, pid: u64) -> Option<Vec<u8>>;
    /// The local process that a term is the pid of.
    fn pid_from_term(&self, term: &[u8]) -> Option<u64>;
    /// A line for the log.
    fn log(&self, text: &str);
}

/// How a driver ends its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `driver_failure_eof`.
    Eof,
    /// `driver_failure` with a code that is not 0.
    Code(i32),
    /// `driver_failure_atom`.
    Atom(String),
    /// `driver_failure_posix`.
    Errno(i32),
    /// `driver_exit`; 0 is `:normal`.
    Exit(i32),
    /// A callback or a job panicked with this message.
    Panic(String),
}

/// Why a port does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartRefusal {
    /// `:einval`.
    General,
    /// An error number.
    Errno(i32),
    /// A bad argument.
    BadArg,
    /// `start` panicked with this message.
    Panic(String),
}

/// Why `control` or `call` has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The driver refuses the arguments, or has no such callback.
    BadArg,
    /// It panicked with this message.
    Panic(String),
}

/// A driver that can be called. Its library stays in memory for good.
#[derive(Clone, Copy)]
pub struct Library {
    pub(super) entry: &'static Entry,
}

impl fmt::Debug for Library {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Library({:?} at {:p})", self.name(), self.entry)
    }
}

impl PartialEq for Library {
    /// The same code in memory.
    fn eq(&self, other: &Library) -> bool {
        std::ptr::eq(self.entry, other.entry)
    }
}

impl Eq for Library {}

impl Library {
    /// A driver that is linked in.
    pub fn builtin<D: Driver>() -> Library {
        Library { entry: const { &guest::entry::<D>() } }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let name: &'static [u8] = &self.entry.header.name;
        CStr::from_bytes_until_nul(name).ok().and_then(|name| name.to_str().ok()).unwrap_or("")
    }

    /// What its callbacks exclude.
    pub fn locking(self) -> Locking {
        if self.flag(FLAG_DRIVER_LOCKING) {
            Locking::Driver
        } else {
            Locking::Port
        }
    }

    /// Whether commands can be forced.
    pub fn soft_busy(self) -> bool {
        self.flag(FLAG_SOFT_BUSY)
    }

    /// Whether waiting commands make its ports busy.
    pub fn busy_msgq(self) -> bool {
        !self.flag(FLAG_NO_BUSY_MSGQ)
    }

    /// Whether opening waits for [`Host::ack_start`].
    pub fn init_ack(self) -> bool {
        self.flag(FLAG_INIT_ACK)
    }

    fn flag(self, flag: u32) -> bool {
        self.entry.header.flags & flag != 0
    }

    fn calls(self) -> &'static Calls {
        &self.entry.calls
    }

    /// `init`; the error says why not.
    pub fn init(self) -> Result<(), String> {
        let mut answer = Buffer::default();
        match (self.calls().init)(&mut answer) {
            STATUS_OK => Ok(()),
            STATUS_REFUSED => Err(text(&answer)),
            _ => Err(format!("its init panicked: {}", text(&answer))),
        }
    }

    /// `finish`; the error is the message of a panic.
    pub fn finish(self) -> Result<(), String> {
        let mut answer = Buffer::default();
        done((self.calls().finish)(&mut answer), &answer)
    }

    /// `start` of a port whose runner side is `host`.
    pub fn start(self, host: Arc<dyn Host>, command: &[u8]) -> Result<Instance, StartRefusal> {
        let mut started = Started { instance: std::ptr::null_mut(), errno: 0, message: Buffer::default() };
        let port = port_ref(host, self);
        // SAFETY: `port` is a fresh reference, which is handed over.
        let status = unsafe { (self.calls().start)(port, Slice::new(command), &mut started) };
        match status {
            STATUS_OK => Ok(Instance { calls: self.calls(), instance: started.instance }),
            STATUS_GENERAL => Err(StartRefusal::General),
            STATUS_ERRNO => Err(StartRefusal::Errno(started.errno)),
            STATUS_BAD_ARG => Err(StartRefusal::BadArg),
            _ => Err(StartRefusal::Panic(text(&started.message))),
        }
    }
}

fn text(buffer: &Buffer) -> String {
    String::from_utf8_lossy(buffer.as_ref()).into_owned()
}

fn done(status: u32, answer: &Buffer) -> Result<(), String> {
    if status == STATUS_OK {
        Ok(())
    } else {
        Err(text(answer))
    }
}

/// A started driver. Dropped without [`stop`](Instance::stop) it is stopped all the same.
pub struct Instance {
    calls: &'static Calls,
    instance: *mut c_void,
}

// SAFETY: the driver's type is `Send`, and every use needs `&mut Instance` or the instance itself.
unsafe impl Send for Instance {}

impl Instance {
    fn dispatch(&mut self, mut callback: Callback<'_>) -> Result<Bytes, Refusal> {
        let mut answer = Buffer::default();
        // SAFETY: `instance` came from `start` (or the driver, by `Adopt`) of the library that `calls` is of; we have it
        // exclusively, and `stop`, which ends its life, consumes it.
        match unsafe { (self.calls.dispatch)(self.instance, &mut callback, &mut answer) } {
            STATUS_OK => Ok(answer.into_bytes()),
            STATUS_BAD_ARG => Err(Refusal::BadArg),
            _ => Err(Refusal::Panic(text(&answer))),
        }
    }

    fn tell(&mut self, callback: Callback<'_>) -> Result<(), String> {
        match self.dispatch(callback) {
            Err(Refusal::Panic(message)) => Err(message),
            _ => Ok(()),
        }
    }

    /// `outputv`. Here and below: the error is the message of a panic.
    pub fn outputv(&mut self, data: Vec<Bytes>) -> Result<(), String> {
        let mut buffers: Vec<Buffer> = data.into_iter().map(Buffer::from).collect();
        self.tell(Callback::Outputv(Given::new(&mut buffers)))
    }

    /// `ready_input`.
    pub fn ready_input(&mut self, fd: i32) -> Result<(), String> {
        self.tell(Callback::ReadyInput(fd))
    }

    /// `ready_output`.
    pub fn ready_output(&mut self, fd: i32) -> Result<(), String> {
        self.tell(Callback::ReadyOutput(fd))
    }

    /// `control`.
    pub fn control(&mut self, op: u32, data: &[u8]) -> Result<Bytes, Refusal> {
        self.dispatch(Callback::Control(op, Slice::new(data)))
    }

    /// `call`, with a term and a term for an answer.
    pub fn call(&mut self, op: u32, term: &[u8]) -> Result<Bytes, Refusal> {
        self.dispatch(Callback::Call(op, Slice::new(term)))
    }

    /// `timeout`.
    pub fn timeout(&mut self) -> Result<(), String> {
        self.tell(Callback::Timeout)
    }

    /// `flush`.
    pub fn flush(&mut self) -> Result<(), String> {
        self.tell(Callback::Flush)
    }

    /// `ready_async`, for a job that was run.
    pub fn ready_async(&mut self, job: Job) -> Result<(), String> {
        self.tell(Callback::ReadyAsync(job.into_raw()))
    }

    /// `process_exit`.
    pub fn process_exit(&mut self, monitor: u64, pid: u64) -> Result<(), String> {
        self.tell(Callback::ProcessExit(monitor, pid))
    }

    /// `stop`.
    pub fn stop(mut self) -> Result<(), String> {
        let result = self.tell(Callback::Stop);
        std::mem::forget(self);
        result
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.tell(Callback::Stop);
    }
}

/// A job for the pool.
pub struct Job {
    calls: &'static Calls,
    job: *mut c_void,
}

// SAFETY: what a job holds is `Send`, and every use needs `&mut Job` or the job itself.
unsafe impl Send for Job {}

impl Job {
    /// Does the work; the error is the message of a panic.
    pub fn run(&mut self) -> Result<(), String> {
        let mut answer = Buffer::default();
        // SAFETY: `job` came from the library that `calls` is of, and is freed by drop only.
        let status = unsafe { (self.calls.run_job)(self.job, &mut answer) };
        done(status, &answer)
    }

    fn into_raw(self) -> *mut c_void {
        let job = self.job;
        std::mem::forget(self);
        job
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut answer = Buffer::default();
        // SAFETY: `job` came from the library that `calls` is of; this is its last use.
        unsafe { (self.calls.free_job)(self.job, &mut answer) };
    }
}

/// Keeps a watched descriptor open. Dropping it is `stop_select`.
pub struct Source {
    calls: &'static Calls,
    source: *mut c_void,
}

// SAFETY: a driver's source is `Send` and `Sync`, and is only used by drop.
unsafe impl Send for Source {}

impl Source {
    /// `stop_select`; the error is the message of a panic.
    pub fn release(self) -> Result<(), String> {
        let result = self.stop();
        std::mem::forget(self);
        result
    }

    fn stop(&self) -> Result<(), String> {
        let mut answer = Buffer::default();
        // SAFETY: `source` came from the library that `calls` is of; `release` and drop use it last, and once.
        let status = unsafe { (self.calls.stop_select)(self.source, &mut answer) };
        done(status, &answer)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// What the context of a [`PortRef`] points to.
struct Context {
    host: Arc<dyn Host>,
    library: Library,
}

fn port_ref(host: Arc<dyn Host>, library: Library) -> PortRef {
    static CALLS: PortCalls = PortCalls { release, request };
    PortRef { context: Box::into_raw(Box::new(Context { host, library })).cast(), calls: &raw const CALLS }
}

/// # Safety
///
/// `context` comes from [`port_ref`] and is not used again.
unsafe extern "C" fn release(context: *const c_void) {
    // SAFETY: the caller gives back what `port_ref` made.
    let context = unsafe { Box::from_raw(context.cast_mut().cast::<Context>()) };
    let _ = caught(|| drop(context));
}

/// # Safety
///
/// `context` comes from [`port_ref`] and is not released before this returns.
unsafe extern "C" fn request(context: *const c_void, request: &mut Request<'_>) -> i64 {
    // SAFETY: the caller says that it is alive; contexts are only shared.
    let context = unsafe { &*context.cast::<Context>() };
    // The runner has no business panicking, and if it does, that must not reach the driver.
    caught(|| serve(&*context.host, context.library, request)).unwrap_or(0)
}

fn serve(host: &dyn Host, library: Library, request: &mut Request<'_>) -> i64 {
    let flag = i64::from;
    let known = |id: Option<u64>| id.map_or(0, |id| id as i64);
    match request {
        Request::Output { header, parts } => {
            let parts: Vec<&[u8]> = parts.get().iter().map(|part| part.get()).collect();
            host.output(header.get(), &parts);
        }
        Request::OutputTerm { term } => host.output_term(term.get()),
        Request::SendTerm { to, term } => return flag(host.send_term(*to, term.get())),
        Request::FailEof => host.fail(Failure::Eof),
        Request::FailCode { code } => host.fail(Failure::Code(*code)),
        Request::FailAtom { atom } => {
            host.fail(Failure::Atom(String::from_utf8_lossy(atom.get()).into_owned()));
        }
        Request::FailErrno { errno } => host.fail(Failure::Errno(*errno)),
        Request::Exit { errno } => host.fail(Failure::Exit(*errno)),
        Request::SetTimer { ms } => host.set_timer(*ms),
        Request::CancelTimer => host.cancel_timer(),
        Request::ReadTimer => {
            return host.read_timer().map_or(-1, |ms| i64::try_from(ms).unwrap_or(i64::MAX))
        }
        Request::Select { fd, ready, source } => {
            // Never dropped here: what is not taken stays the driver's.
            let mut slot = ManuallyDrop::new(Some(Source { calls: library.calls(), source: *source }));
            let result = caught(|| host.select(*fd, *ready, &mut slot));
            return match result {
                _ if slot.is_none() => 1,
                Ok(Err(errno)) => -i64::from(errno),
                _ => 0,
            };
        }
        Request::Deselect { fd, ready } => host.deselect(*fd, *ready),
        Request::Release { fd } => host.release(*fd),
        Request::Run { keyed, key, job } => {
            host.run((*keyed != 0).then_some(*key), Job { calls: library.calls(), job: *job });
        }
        Request::Monitor { pid } => return known(host.monitor(*pid)),
        Request::Demonitor { monitor } => return flag(host.demonitor(*monitor)),
        Request::QueueSize { bytes } => host.queue_size(*bytes),
        Request::Busy { on } => host.busy(*on),
        Request::BusyLimits { low, high } => host.busy_limits(*low, *high),
        Request::Caller => return known(host.caller()),
        Request::Connected => return known(host.connected()),
        Request::ControlBinary { on } => host.control_binary(*on),
        Request::OsPid { os_pid } => host.os_pid(*os_pid),
        Request::Log { text } => host.log(&String::from_utf8_lossy(text.get())),
        Request::AckStart { status, errno } => host.ack_start(match *status {
            STATUS_OK => Ok(()),
            STATUS_ERRNO => Err(StartRefusal::Errno(*errno)),
            STATUS_BAD_ARG => Err(StartRefusal::BadArg),
            _ => Err(StartRefusal::General),
        }),
        Request::PidToTerm { pid, term } => {
            **term = host.pid_to_term(*pid).unwrap_or_default().into();
        }
        Request::PidFromTerm { term } => return known(host.pid_from_term(term.get())),
        Request::CreatePort { owner, name, port } => {
            let Some(host) = host.create_port(*owner, name.get()) else { return 0 };
            **port = port_ref(host, library);
            return 1;
        }
        Request::Adopt { instance } => host.adopt(Instance { calls: library.calls(), instance: *instance }),
    }
    0
}
