//! What a driver implements.

use std::any::Any;
use std::fmt;
use std::os::fd::RawFd;

use crate::bytes::Bytes;
use crate::port::{Pid, PortHandle};
use crate::select::{Descriptor, Ready};
use crate::term::Term;

/// A linked-in driver: what an `ErlDrvEntry` is in C. One value of the type is one open port.
///
/// The callbacks of one value never run at the same time, and they run in the order of what caused them. They run on
/// threads of their own: one that takes long delays its own port and nothing else. A panic ends the port, with the
/// message as part of the reason; [`stop`](Driver::stop) is still called.
///
/// Each method names the member of `ErlDrvEntry` it stands for. All but [`start`](Driver::start) may be left out.
pub trait Driver: Sized + Send + 'static {
    /// `driver_name`: the first word of the command that opens a port. At most 63 bytes, without blanks.
    const NAME: &'static str;

    /// What the callbacks exclude: those of the same port (`ERL_DRV_FLAG_USE_PORT_LOCKING`) or all of the driver.
    const LOCKING: Locking = Locking::Port;

    /// `ERL_DRV_FLAG_SOFT_BUSY`: a command with `:force` is taken even if the port is busy.
    const SOFT_BUSY: bool = false;

    /// `ERL_DRV_FLAG_NO_BUSY_MSGQ`: commands that wait for the driver never make the port busy.
    const NO_BUSY_MSGQ: bool = false;

    /// `ERL_DRV_FLAG_USE_INIT_ACK`: opening waits, after `start`, for [`PortHandle::ack_start`].
    const INIT_ACK: bool = false;

    /// `init`: called once when the driver is loaded, before anything else. An error, with its reason, refuses it.
    fn init() -> Result<(), String> {
        Ok(())
    }

    /// `start`: a port is being opened. `command` is the whole command, name included.
    ///
    /// [`PortHandle::caller`] is the opener. With an error no port comes to be and `stop` is not called.
    fn start(port: &PortHandle, command: &[u8]) -> Result<Self, StartError>;

    /// `stop`: the port is closed. The last callback, called exactly once.
    ///
    /// The timer and the monitors are gone, watched descriptors are released afterwards, jobs that still run will not
    /// be reported.
    fn stop(self, port: &PortHandle) {
        let _ = port;
    }

    /// `output`: data of one command. Only called by [`outputv`](Driver::outputv) as it is by default.
    fn output(&mut self, port: &PortHandle, data: &[u8]) {
        let _ = (port, data);
    }

    /// `outputv`: data of one command in pieces, which can be kept or queued without a copy.
    ///
    /// Not called while the port is busy, unless the command is forced and the driver is
    /// [`SOFT_BUSY`](Driver::SOFT_BUSY). There is no empty first piece for a header as in C. By default the pieces are
    /// joined for [`output`](Driver::output).
    fn outputv(&mut self, port: &PortHandle, data: Vec<Bytes>) {
        match &data[..] {
            [data] => self.output(port, data),
            _ => self.output(port, &data.concat()),
        }
    }

    /// `ready_input`: `fd`, watched with [`Ready::READ`], can be read, or has ended.
    ///
    /// Called again as long as that is so. It may be called for nothing: read without blocking. Also called while the
    /// port drains its queue. By default it is logged and the descriptor no longer watched.
    fn ready_input(&mut self, port: &PortHandle, fd: RawFd) {
        port.log(&format!("driver {} watches descriptor {fd} but has no ready_input", Self::NAME));
        port.deselect(fd, Ready::READ);
    }

    /// `ready_output`: as [`ready_input`](Driver::ready_input) for [`Ready::WRITE`].
    fn ready_output(&mut self, port: &PortHandle, fd: RawFd) {
        port.log(&format!("driver {} watches descriptor {fd} but has no ready_output", Self::NAME));
        port.deselect(fd, Ready::WRITE);
    }

    /// `control`: `SafePort.control/3`, from any process. The caller waits for the reply.
    ///
    /// The reply is a list of bytes, or a binary after [`PortHandle::set_control_binary`].
    fn control(&mut self, port: &PortHandle, op: u32, data: &[u8]) -> Result<Vec<u8>, BadArg> {
        let _ = (port, op, data);
        Err(BadArg)
    }

    /// `call`: `SafePort.call/3`, from any process, with a term and a term for an answer.
    fn call(&mut self, port: &PortHandle, op: u32, term: Term) -> Result<Term, BadArg> {
        let _ = (port, op, term);
        Err(BadArg)
    }

    /// `timeout`: the time of [`PortHandle::set_timer`] is over.
    fn timeout(&mut self, port: &PortHandle) {
        let _ = port;
    }

    /// `flush`: the port is to close but its queue is not empty. Called once.
    ///
    /// The driver goes on emptying the queue; when it is empty, or the driver fails, `stop` follows. Output to the
    /// owner is dropped from here on. Not called if the port is killed or fails: then `stop` follows at once.
    fn flush(&mut self, port: &PortHandle) {
        let _ = port;
    }

    /// `ready_async`: a job of [`PortHandle::run`] is done; this is what it returned.
    fn ready_async(&mut self, port: &PortHandle, result: JobResult) {
        let _ = (port, result);
    }

    /// `process_exit`: a process monitored with [`PortHandle::monitor`] died.
    fn process_exit(&mut self, port: &PortHandle, monitor: Monitor) {
        let _ = (port, monitor);
    }

    /// `stop_select`: a descriptor is no longer watched, nor will be. Called after [`PortHandle::release`], or after
    /// `stop` for those that are left. By default it is dropped, and with it closed.
    fn stop_select(descriptor: Descriptor) {
        drop(descriptor);
    }

    /// `finish`: the driver is unloaded, or the VM halts. Called once, after the last `stop`.
    fn finish() {}
}

/// What the callbacks of a driver exclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// Callbacks of the same port. Those of other ports may run at the same time.
    Port,
    /// All callbacks of the driver.
    Driver,
}

/// Why a driver does not start; decides what opening the port raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// `ERL_DRV_ERROR_GENERAL`: `:einval`.
    General,
    /// `ERL_DRV_ERROR_ERRNO`: the atom of this error number, such as `:enospc`.
    Errno(i32),
    /// `ERL_DRV_ERROR_BADARG`: `ArgumentError`.
    BadArg,
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> StartError {
        error.raw_os_error().map_or(StartError::General, StartError::Errno)
    }
}

/// The arguments of `control` or `call` are not what the driver takes: the caller gets an `ArgumentError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadArg;

impl fmt::Display for BadArg {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bad argument")
    }
}

impl std::error::Error for BadArg {}

/// What a job returned.
pub struct JobResult(pub(crate) Box<dyn Any + Send>);

impl JobResult {
    /// The result if it is of type `R`; otherwise this again, to try another type.
    pub fn downcast<R: 'static>(self) -> Result<R, JobResult> {
        self.0.downcast().map(|result| *result).map_err(JobResult)
    }
}

/// A monitor of a process, as `ErlDrvMonitor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Monitor {
    pub(crate) id: u64,
    pub(crate) pid: Pid,
}

impl Monitor {
    /// `driver_get_monitored_process`: whom it watches.
    pub fn pid(self) -> Pid {
        self.pid
    }
}
