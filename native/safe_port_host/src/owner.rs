//! The port's owner, at the other end of the pipe.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;
use safe_port_core::driver::{Bytes, CallError, ControlReply, Event, Events, Pids, Port, PortInfo};

use crate::protocol::{self, Open, Refused};
use crate::End;

/// Sends everything on as frames.
pub struct Owner {
    output: Mutex<File>,
    pids: Pids,
    connected: AtomicU64,
    monitors: AtomicU64,
    /// Told when the driver has stopped, or the VM no longer listens.
    end: Sender<End>,
}

impl Owner {
    pub fn new(output: File, open: &Open, end: Sender<End>) -> Owner {
        Owner {
            output: Mutex::new(output),
            pids: Pids::new(&open.node, open.creation),
            connected: AtomicU64::new(open.caller),
            monitors: AtomicU64::new(0),
            end,
        }
    }

    /// Blocks while the VM does not read: only this port waits for it.
    fn send(&self, frame: &[u8]) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        // In one piece: a small frame is written whole or not at all, should the process end meanwhile.
        if output.write_all(frame).is_err() {
            let _ = self.end.try_send(End::LetGo);
        }
    }

    pub fn started(&self, port: &Port) {
        self.send(&protocol::started(port.soft_busy()));
    }

    pub fn refused(&self, refused: &Refused) {
        self.send(&protocol::refused(refused));
    }

    pub fn replied(&self, ticket: u64, reply: &Result<ControlReply, CallError>) {
        self.send(&protocol::replied(ticket, reply));
    }

    pub fn answered(&self, ticket: u64, reply: &Result<Bytes, CallError>) {
        self.send(&protocol::answered(ticket, reply));
    }

    pub fn info(&self, ticket: u64, info: &PortInfo) {
        self.send(&protocol::info(ticket, info));
    }

    pub fn set_connected(&self, pid: u64) {
        self.connected.store(pid, Ordering::Relaxed);
    }
}

impl Events for Owner {
    fn event(&self, event: Event<'_>) {
        if let Some(frame) = protocol::event(&event) {
            self.send(&frame);
        }
        if event == Event::Closed {
            let _ = self.end.try_send(End::Stopped);
        }
    }

    /// Always true: whether the process is alive only the VM knows, and nobody waits for its answer.
    fn send_term(&self, to: u64, term: &[u8]) -> bool {
        self.send(&protocol::send(to, term));
        true
    }

    fn connected(&self) -> Option<u64> {
        Some(self.connected.load(Ordering::Relaxed))
    }

    /// Never `None`, for the same reason: if the process is dead, its exit is reported next.
    fn monitor(&self, pid: u64) -> Option<u64> {
        let monitor = self.monitors.fetch_add(1, Ordering::Relaxed) + 1;
        self.send(&protocol::monitor(monitor, pid));
        Some(monitor)
    }

    fn demonitor(&self, monitor: u64) -> bool {
        self.send(&protocol::demonitor(monitor));
        true
    }

    /// There is one port in this process.
    fn create_port(&self, _owner: u64, _name: &[u8], _port: &Arc<Port>) -> Option<Arc<dyn Events>> {
        None
    }

    fn pid_to_term(&self, pid: u64) -> Option<Vec<u8>> {
        Some(self.pids.to_term(pid))
    }

    fn pid_from_term(&self, term: &[u8]) -> Option<u64> {
        self.pids.number_of(term)
    }

    fn log(&self, text: &str) {
        self.send(&protocol::log(text));
    }
}
