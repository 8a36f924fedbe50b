//! What a driver can do with its port.

use std::any::{Any, TypeId};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi::guest::{self, HostPort};
use crate::abi::{self, Buffer, Parts, Request, Slice};
use crate::bytes::Bytes;
use crate::driver::{Driver, Monitor, StartError};
use crate::queue::Queue;
use crate::select::{Descriptor, Ready, Source};
use crate::term::{Term, TermError};

/// A process of the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pid(pub(crate) u64);

impl Pid {
    fn known(id: i64) -> Option<Pid> {
        (id != 0).then_some(Pid(id as u64))
    }
}

/// A port: what `ErlDrvPort` and `ErlDrvTermData` of `driver_mk_port` are in C.
///
/// Unlike there, a handle can be cloned, kept, and used from any thread at any time, also when the port is gone: then
/// its methods do nothing. Each names the function of `erl_driver` it stands for.
#[derive(Clone)]
pub struct PortHandle {
    inner: Arc<Inner>,
}

struct Inner {
    host: HostPort,
    driver: TypeId,
    queue: Mutex<Queue>,
}

/// Which jobs of [`PortHandle::run`] keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Nothing: the job runs beside any other.
    None,
    /// `driver_async_port_key`: one job of this port after the other.
    Port,
    /// One job of this driver with this number after the other, whichever port it is from.
    Shared(u64),
}

impl PortHandle {
    pub(crate) fn new<D: Driver>(host: HostPort) -> PortHandle {
        PortHandle { inner: Arc::new(Inner { host, driver: TypeId::of::<D>(), queue: Mutex::default() }) }
    }

    pub(crate) fn host(&self) -> &HostPort {
        &self.inner.host
    }

    pub(crate) fn is_of<D: Driver>(&self) -> bool {
        self.inner.driver == TypeId::of::<D>()
    }

    fn ask(&self, request: Request<'_>) -> i64 {
        self.inner.host.request(request)
    }

    // D1

    /// `driver_output`: sends `{port, {:data, data}}` to the owner, in the form the port was opened with.
    pub fn output(&self, data: &[u8]) {
        self.output2(&[], data);
    }

    /// `driver_output2`: as [`output`](PortHandle::output), with `header` in front of the data as list items.
    ///
    /// A port opened with `:binary` sends `[?h, ?d | "data"]`. With lines the header stands in front of each piece.
    pub fn output2(&self, header: &[u8], data: &[u8]) {
        self.ask(Request::Output { header: Slice::new(header), parts: Parts::new(&[Slice::new(data)]) });
    }

    /// `driver_outputv`: as [`output2`](PortHandle::output2), the data in pieces.
    pub fn outputv<B: AsRef<[u8]>>(&self, header: &[u8], data: &[B]) {
        let parts: Vec<Slice<'_>> = data.iter().map(|part| Slice::new(part.as_ref())).collect();
        self.ask(Request::Output { header: Slice::new(header), parts: Parts::new(&parts) });
    }

    // D2, D3

    /// `driver_failure_eof`: the port ends with reason `:normal`; one opened with `:eof` sends `{port, :eof}` and
    /// stays open.
    ///
    /// As with every failure the queue is thrown away, `flush` is not called, and `stop` follows when the present
    /// callback returns.
    pub fn fail_eof(&self) {
        self.ask(Request::FailEof);
    }

    /// `driver_failure`: the port ends, the reason is an integer. 0 is [`fail_eof`](PortHandle::fail_eof).
    pub fn fail(&self, code: i32) {
        if code == 0 {
            self.fail_eof();
        } else {
            self.ask(Request::FailCode { code });
        }
    }

    /// `driver_failure_atom`: the port ends, the reason is the atom `name`.
    pub fn fail_atom(&self, name: &str) {
        self.ask(Request::FailAtom { atom: Slice::new(name.as_bytes()) });
    }

    /// `driver_failure_posix`: the port ends, the reason is the atom of `errno`, such as `:eio`.
    pub fn fail_posix(&self, errno: i32) {
        self.ask(Request::FailErrno { errno });
    }

    /// [`fail_posix`](PortHandle::fail_posix) with the number of `error`; `:eio` if it has none.
    pub fn fail_io(&self, error: &io::Error) {
        const EIO: i32 = 5;
        self.fail_posix(error.raw_os_error().unwrap_or(EIO));
    }

    /// `driver_exit`: the port ends with the atom of `errno`, or `:normal` for 0; the owner is unlinked before, so
    /// that it gets no exit signal.
    pub fn exit(&self, errno: i32) {
        self.ask(Request::Exit { errno });
    }

    // D4

    /// `driver_set_timer`: `timeout` is called once after `time`. Replaces the timer that was set before.
    pub fn set_timer(&self, time: Duration) {
        self.ask(Request::SetTimer { ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX) });
    }

    /// `driver_cancel_timer`: `timeout` is not called.
    pub fn cancel_timer(&self) {
        self.ask(Request::CancelTimer);
    }

    /// `driver_read_timer`: the time left until `timeout`; `None` if no timer is set.
    pub fn read_timer(&self) -> Option<Duration> {
        u64::try_from(self.ask(Request::ReadTimer)).ok().map(Duration::from_millis)
    }

    // D5

    /// `driver_async`: runs `job` on the pool for long jobs; `ready_async` then gets what it returned.
    ///
    /// It cannot be cancelled. If the port is gone when it ends, its result is dropped. A panic in it ends the port.
    pub fn run<R: Send + 'static>(&self, key: Key, job: impl FnOnce() -> R + Send + 'static) {
        let key = match key {
            Key::None => None,
            // Odd keys are the ports' own.
            Key::Port => Some(Arc::as_ptr(&self.inner) as u64 | 1),
            Key::Shared(key) => Some(key << 1),
        };
        self.inner.host.run(key, Box::new(move || Box::new(job()) as Box<dyn Any + Send>));
    }

    // D6

    /// `driver_select` with `on` and `ERL_DRV_USE`: watches `source` and calls `ready_input` or `ready_output`.
    ///
    /// Adds to what is watched of it already. The source stays open at least until `stop_select`.
    pub fn select<S: Source>(&self, source: &Arc<S>, ready: Ready) -> io::Result<()> {
        let fd = source.as_fd().as_raw_fd();
        let source = Arc::<S>::clone(source);
        match self.inner.host.select(fd, ready.0, Descriptor(source)) {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error as i32)),
            _ => Ok(()),
        }
    }

    /// `driver_select` off without `ERL_DRV_USE`: stops watching `fd` for `ready`, for the time being.
    pub fn deselect(&self, fd: RawFd, ready: Ready) {
        self.ask(Request::Deselect { fd, ready: ready.0 });
    }

    /// `driver_select` off with `ERL_DRV_USE`: gives `fd` up. `stop_select` is called before this returns.
    pub fn release(&self, fd: RawFd) {
        self.ask(Request::Release { fd });
    }

    // D7

    /// `driver_monitor_process`: `process_exit` is called when `pid` dies. `None` if it is dead already.
    pub fn monitor(&self, pid: Pid) -> Option<Monitor> {
        let id = self.ask(Request::Monitor { pid: pid.0 });
        (id > 0).then_some(Monitor { id: id as u64, pid })
    }

    /// `driver_demonitor_process`: whether the monitor was still active.
    pub fn demonitor(&self, monitor: Monitor) -> bool {
        self.ask(Request::Demonitor { monitor: monitor.id }) == 1
    }

    // D8

    /// `driver_enq`, `driver_enq_bin`: adds data at the tail of the queue. What is in the queue delays closing.
    pub fn enq(&self, data: impl Into<Bytes>) {
        self.queue(|queue| queue.push_back(data.into()));
    }

    /// `driver_enqv`: adds pieces at the tail, without their first `skip` bytes.
    pub fn enqv(&self, data: &[Bytes], skip: usize) {
        self.queue(|queue| skipped(data, skip).for_each(|piece| queue.push_back(piece)));
    }

    /// `driver_pushq`, `driver_pushq_bin`: adds data in front of the queue.
    pub fn pushq(&self, data: impl Into<Bytes>) {
        self.queue(|queue| queue.push_front(data.into()));
    }

    /// `driver_pushqv`: adds pieces in front, without their first `skip` bytes.
    pub fn pushqv(&self, data: &[Bytes], skip: usize) {
        let pieces: Vec<Bytes> = skipped(data, skip).collect();
        self.queue(|queue| pieces.into_iter().rev().for_each(|piece| queue.push_front(piece)));
    }

    /// `driver_deq`: removes `count` bytes from the head. The bytes left; `None`, and nothing removed, if there are
    /// fewer than `count`.
    pub fn deq(&self, count: usize) -> Option<usize> {
        self.queue(|queue| queue.remove(count).then(|| queue.size()))
    }

    /// `driver_sizeq`: the bytes in the queue.
    pub fn sizeq(&self) -> usize {
        self.lock_queue().size()
    }

    /// `driver_peekq`: the pieces of the queue, head first. They share its memory.
    pub fn peekq(&self) -> Vec<Bytes> {
        self.lock_queue().pieces()
    }

    fn queue<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.lock_queue();
        let before = queue.size();
        let result = change(&mut queue);
        if queue.size() != before {
            // With the lock held, so that the runner hears of the sizes in their order.
            self.ask(Request::QueueSize { bytes: queue.size() as u64 });
        }
        result
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clear_queue(&self) {
        self.queue(Queue::clear);
    }

    // D9

    /// `set_busy_port`: while busy, commands wait (or are refused, with `:nosuspend`); `control` and `call` do not.
    pub fn set_busy(&self, busy: bool) {
        self.ask(Request::Busy { on: busy });
    }

    /// `erl_drv_busy_msgq_limits`: the port is also busy while commands of at least `high` bytes wait for the driver,
    /// until they are less than `low`. By default 4096 and 8192; `None` means never.
    pub fn set_busy_limits(&self, limits: Option<(u64, u64)>) {
        let (low, high) = limits.unwrap_or((u64::MAX, u64::MAX));
        self.ask(Request::BusyLimits { low, high });
    }

    // D10

    /// `erl_drv_output_term`: sends `term` as it is to the owner.
    pub fn output_term(&self, term: &Term) -> Result<(), TermError> {
        self.ask(Request::OutputTerm { term: Slice::new(&term.encode()?) });
        Ok(())
    }

    /// `erl_drv_send_term`: sends `term` as it is to `pid`; whether that process is alive.
    pub fn send_term(&self, pid: Pid, term: &Term) -> Result<bool, TermError> {
        Ok(self.ask(Request::SendTerm { to: pid.0, term: Slice::new(&term.encode()?) }) == 1)
    }

    // D11

    /// `driver_caller`: the process that made the present call. `None` outside `start`, `output`, `outputv`, `control`
    /// and `call`.
    pub fn caller(&self) -> Option<Pid> {
        Pid::known(self.ask(Request::Caller))
    }

    /// `driver_connected`: the owner; `None` when the port is gone.
    pub fn connected(&self) -> Option<Pid> {
        Pid::known(self.ask(Request::Connected))
    }

    /// `set_port_control_flags`: whether `control` replies with a binary instead of a list.
    pub fn set_control_binary(&self, binary: bool) {
        self.ask(Request::ControlBinary { on: binary });
    }

    /// `driver_create_port`: another port of the same driver, owned by and linked to `owner`, with `driver` for its
    /// instance. `start` is not called. Gives `driver` back if it is not of this port's type or `owner` is dead.
    pub fn create_port<D: Driver>(&self, owner: Pid, name: &str, driver: D) -> Result<PortHandle, D> {
        if !self.is_of::<D>() {
            return Err(driver);
        }
        match self.inner.host.create_port(owner.0, name.as_bytes()) {
            None => Err(driver),
            Some(host) => {
                let port = PortHandle::new::<D>(host);
                guest::adopt(&port, driver).map(|()| port)
            }
        }
    }

    /// `erl_drv_set_os_pid`: the `:os_pid` of `SafePort.info/2`.
    pub fn set_os_pid(&self, os_pid: u32) {
        self.ask(Request::OsPid { os_pid });
    }

    /// `erl_drv_init_ack`: lets the opener of an [`INIT_ACK`](Driver::INIT_ACK) driver go on, or fail.
    pub fn ack_start(&self, result: Result<(), StartError>) {
        let (status, errno) = match result {
            Ok(()) => (abi::STATUS_OK, 0),
            Err(StartError::General) => (abi::STATUS_GENERAL, 0),
            Err(StartError::Errno(errno)) => (abi::STATUS_ERRNO, errno),
            Err(StartError::BadArg) => (abi::STATUS_BAD_ARG, 0),
        };
        self.ask(Request::AckStart { status, errno });
    }

    // Beyond C.

    /// The term of `pid`, to send it on; `None` when the port is gone.
    pub fn pid_to_term(&self, pid: Pid) -> Option<Term> {
        let mut term = Buffer::default();
        self.ask(Request::PidToTerm { pid: pid.0, term: &mut term });
        Term::decode(term.as_ref()).ok()
    }

    /// The process that `term` is the pid of; `None` for other terms and processes of other nodes.
    pub fn pid_from_term(&self, term: &Term) -> Option<Pid> {
        Pid::known(self.ask(Request::PidFromTerm { term: Slice::new(&term.encode().ok()?) }))
    }

    /// Writes a line to the VM's log.
    pub fn log(&self, text: &str) {
        self.ask(Request::Log { text: Slice::new(text.as_bytes()) });
    }
}

/// The pieces without their first `skip` bytes.
fn skipped(data: &[Bytes], mut skip: usize) -> impl Iterator<Item = Bytes> + '_ {
    data.iter().filter_map(move |piece| {
        let cut = skip.min(piece.len());
        skip -= cut;
        piece.slice(cut..piece.len())
    })
}
