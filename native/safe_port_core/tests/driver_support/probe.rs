//! Drivers that do what a script says and report what they are called with.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::Sender;
use safe_port_driver::{BadArg, JobResult, PortHandle, StartError, Term};

type Step = Box<dyn FnMut(&PortHandle, &[u8]) + Send>;
type Control = Box<dyn FnMut(&PortHandle, u32, &[u8]) -> Result<Vec<u8>, BadArg> + Send>;
type Call = Box<dyn FnMut(&PortHandle, Term) -> Result<Term, BadArg> + Send>;
type Start = Box<dyn FnOnce(&PortHandle) -> Result<(), StartError> + Send>;

/// What a probe does in its callbacks. Without a step it does nothing.
#[derive(Default)]
pub struct Script {
    steps: HashMap<&'static str, Step>,
    control: Option<Control>,
    call: Option<Call>,
    start: Option<Start>,
}

impl Script {
    pub fn new() -> Script {
        Script::default()
    }

    pub fn on(mut self, call: &'static str, step: impl FnMut(&PortHandle, &[u8]) + Send + 'static) -> Script {
        self.steps.insert(call, Box::new(step));
        self
    }

    pub fn control(
        mut self,
        step: impl FnMut(&PortHandle, u32, &[u8]) -> Result<Vec<u8>, BadArg> + Send + 'static,
    ) -> Script {
        self.control = Some(Box::new(step));
        self
    }

    pub fn call(
        mut self,
        step: impl FnMut(&PortHandle, Term) -> Result<Term, BadArg> + Send + 'static,
    ) -> Script {
        self.call = Some(Box::new(step));
        self
    }

    pub fn start(
        mut self,
        step: impl FnOnce(&PortHandle) -> Result<(), StartError> + Send + 'static,
    ) -> Script {
        self.start = Some(Box::new(step));
        self
    }
}

/// What all probes do.
pub struct Probe {
    script: Script,
    log: Sender<String>,
}

impl Probe {
    pub fn start(port: &PortHandle, command: &[u8]) -> Result<Probe, StartError> {
        let (mut script, log) = super::script_of(command);
        let _ = log.send("start".to_owned());
        if let Some(start) = script.start.take() {
            start(port)?;
        }
        Ok(Probe { script, log })
    }

    pub fn made(script: Script, log: Sender<String>) -> Probe {
        Probe { script, log }
    }

    pub fn step(&mut self, port: &PortHandle, call: &'static str, report: &str, data: &[u8]) {
        let _ = self.log.send(format!("{call}{report}"));
        if let Some(step) = self.script.steps.get_mut(call) {
            step(port, data);
        }
    }

    pub fn control(&mut self, port: &PortHandle, op: u32, data: &[u8]) -> Result<Vec<u8>, BadArg> {
        self.script.control.as_mut().map_or(Ok(Vec::new()), |control| control(port, op, data))
    }

    pub fn call(&mut self, port: &PortHandle, term: Term) -> Result<Term, BadArg> {
        self.script.call.as_mut().ok_or(BadArg).and_then(|call| call(port, term))
    }
}

/// What was called without an instance, of all probes of this process.
static GLOBAL: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub fn global(text: String) {
    GLOBAL.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

/// Those that begin with `start`.
pub fn global_calls(start: &str) -> Vec<String> {
    let calls = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
    calls.iter().filter(|call| call.starts_with(start)).cloned().collect()
}

pub fn result_text(result: JobResult) -> String {
    result.downcast::<String>().unwrap_or_else(|_| "not a string".to_owned())
}

/// A probe with a name, and constants of its own.
#[macro_export]
macro_rules! probe {
    ($type:ident, $name:literal $(, $constant:ident: $constant_type:ty = $value:expr)*) => {
        struct $type(pub $crate::driver_support::probe::Probe);

        impl safe_port_driver::Driver for $type {
            const NAME: &'static str = $name;
            $(const $constant: $constant_type = $value;)*

            fn init() -> Result<(), String> {
                $crate::driver_support::probe::global(concat!($name, " init").to_owned());
                Ok(())
            }

            fn start(
                port: &safe_port_driver::PortHandle,
                command: &[u8],
            ) -> Result<Self, safe_port_driver::StartError> {
                $crate::driver_support::probe::Probe::start(port, command).map($type)
            }

            $crate::probe_callbacks!($name);
        }
    };
}

/// The callbacks of an instance.
#[macro_export]
macro_rules! probe_callbacks {
    ($name:literal) => {
        fn stop(mut self, port: &safe_port_driver::PortHandle) {
            self.0.step(port, "stop", "", &[]);
        }

        fn output(&mut self, port: &safe_port_driver::PortHandle, data: &[u8]) {
            let report = format!(" {}", String::from_utf8_lossy(data));
            self.0.step(port, "output", &report, data);
        }

        fn ready_input(&mut self, port: &safe_port_driver::PortHandle, fd: std::os::fd::RawFd) {
            self.0.step(port, "ready_input", "", &fd.to_ne_bytes());
        }

        fn ready_output(&mut self, port: &safe_port_driver::PortHandle, fd: std::os::fd::RawFd) {
            self.0.step(port, "ready_output", "", &fd.to_ne_bytes());
        }

        fn control(
            &mut self,
            port: &safe_port_driver::PortHandle,
            op: u32,
            data: &[u8],
        ) -> Result<Vec<u8>, safe_port_driver::BadArg> {
            self.0.control(port, op, data)
        }

        fn call(
            &mut self,
            port: &safe_port_driver::PortHandle,
            _op: u32,
            term: safe_port_driver::Term,
        ) -> Result<safe_port_driver::Term, safe_port_driver::BadArg> {
            self.0.call(port, term)
        }

        fn timeout(&mut self, port: &safe_port_driver::PortHandle) {
            self.0.step(port, "timeout", "", &[]);
        }

        fn flush(&mut self, port: &safe_port_driver::PortHandle) {
            self.0.step(port, "flush", "", &[]);
        }

        fn ready_async(&mut self, port: &safe_port_driver::PortHandle, result: safe_port_driver::JobResult) {
            let text = $crate::driver_support::probe::result_text(result);
            self.0.step(port, "ready_async", &format!(" {text}"), text.as_bytes());
        }

        fn process_exit(&mut self, port: &safe_port_driver::PortHandle, monitor: safe_port_driver::Monitor) {
            let still = port.demonitor(monitor);
            self.0.step(port, "process_exit", &format!(" {still}"), &[]);
        }

        fn stop_select(descriptor: safe_port_driver::Descriptor) {
            use std::os::fd::AsRawFd;
            $crate::driver_support::probe::global(format!("stop_select {} ", descriptor.as_raw_fd()));
        }

        fn finish() {
            $crate::driver_support::probe::global(concat!($name, " finish").to_owned());
        }
    };
}
