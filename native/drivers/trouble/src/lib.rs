//! A driver for tests: on request it does what a driver must not do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use safe_port_driver::{export, BadArg, Driver, Key, PortHandle, StartError, Term};

/// The driver.
pub struct Trouble {
    /// The last data that was no word.
    said: Vec<u8>,
    panics_when_stopped: bool,
}

impl Trouble {
    /// What `word` asks for; whether it asks for something.
    fn make(&mut self, port: &PortHandle, word: &[u8]) -> bool {
        match word {
            b"panic" => panic!("trouble was asked for"),
            b"panic when stopped" => self.panics_when_stopped = true,
            b"panic in a job" => port.run(Key::None, || -> () { panic!("trouble was asked for") }),
            b"block" => loop {
                std::thread::park();
            },
            b"wait at the gate" => drop(GATE.1.wait_while(gate(), |open| !*open)),
            b"open the gate" => {
                *gate() = true;
                GATE.1.notify_all();
            }
            b"sleep" => std::thread::sleep(Duration::from_millis(300)),
            b"abort" => std::process::abort(),
            b"exit" => std::process::exit(3),
            b"segfault" => segfault(),
            b"print" => println!("printed by a driver"),
            b"busy" => port.set_busy(true),
            b"free" => port.set_busy(false),
            b"queue" => port.enq(self.said.clone()),
            b"empty" => drop(port.deq(port.sizeq())),
            b"fail" => port.fail_atom("trouble"),
            b"fail 42" => port.fail(42),
            b"fail posix" => port.fail_posix(32),
            b"eof" => port.fail_eof(),
            b"quit" => port.exit(0),
            b"quit 32" => port.exit(32),
            b"header" => port.output2(b"hd", &self.said),
            b"timer" => port.set_timer(Duration::from_millis(1)),
            b"tell of the end" => TELLS.store(true, Ordering::Relaxed),
            b"os_pid" => port.set_os_pid(4711),
            b"binary" => port.set_control_binary(true),
            _ => return false,
        }
        true
    }
}

/// Whether the last callbacks are to be printed.
static TELLS: AtomicBool = AtomicBool::new(false);

fn tell(call: &str) {
    if TELLS.load(Ordering::Relaxed) {
        println!("{call} of trouble");
    }
}

/// Where ports wait for another port.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn gate() -> MutexGuard<'static, bool> {
    GATE.0.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(unsafe_code)]
fn segfault() {
    // SAFETY: there is none, which is what the tests of isolation need.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }
}

impl Driver for Trouble {
    const NAME: &'static str = "trouble";
    const SOFT_BUSY: bool = true;

    fn start(port: &PortHandle, command: &[u8]) -> Result<Trouble, StartError> {
        let word = command.strip_prefix(b"trouble").unwrap_or_default().trim_ascii();
        match word {
            b"general" => return Err(StartError::General),
            b"badarg" => return Err(StartError::BadArg),
            b"enospc" => return Err(StartError::Errno(28)),
            _ => {}
        }
        let mut trouble = Trouble { said: b"data".to_vec(), panics_when_stopped: false };
        trouble.make(port, word);
        Ok(trouble)
    }

    fn stop(self, _port: &PortHandle) {
        tell("stop");
        assert!(!self.panics_when_stopped, "trouble was asked for");
    }

    fn output(&mut self, port: &PortHandle, data: &[u8]) {
        if !self.make(port, data) {
            self.said = data.to_vec();
            port.output(data);
        }
    }

    fn control(&mut self, port: &PortHandle, op: u32, data: &[u8]) -> Result<Vec<u8>, BadArg> {
        match op {
            0 => Ok(data.to_vec()),
            1 if self.make(port, data) => Ok(b"done".to_vec()),
            2 => Ok(vec![0; data.len() * 1024 * 1024]),
            3 => Ok(self.said.clone()),
            _ => Err(BadArg),
        }
    }

    fn call(&mut self, port: &PortHandle, op: u32, term: Term) -> Result<Term, BadArg> {
        match op {
            0 => Ok(term),
            1 => port.caller().and_then(|pid| port.pid_to_term(pid)).ok_or(BadArg),
            2 => port.connected().and_then(|pid| port.pid_to_term(pid)).ok_or(BadArg),
            // Sends the second of a pair to the first.
            3 => {
                let [to, message] = term.as_tuple().ok_or(BadArg)? else { return Err(BadArg) };
                let to = port.pid_from_term(to).ok_or(BadArg)?;
                port.send_term(to, message).map(Term::from).map_err(|_| BadArg)
            }
            4 => port.output_term(&term).map(|()| Term::atom("ok")).map_err(|_| BadArg),
            5 => {
                let pid = port.pid_from_term(&term).ok_or(BadArg)?;
                Ok(Term::from(port.monitor(pid).is_some()))
            }
            6 => {
                let owner = port.pid_from_term(&term).ok_or(BadArg)?;
                let made = port.create_port(
                    owner,
                    "made by trouble",
                    Trouble { said: Vec::new(), panics_when_stopped: false },
                );
                Ok(Term::from(made.is_ok()))
            }
            7 => Ok(Term::from(f64::NAN)),
            _ => Err(BadArg),
        }
    }

    fn timeout(&mut self, port: &PortHandle) {
        port.output(b"timeout");
    }

    fn flush(&mut self, port: &PortHandle) {
        tell("flush");
        // Goes on emptying its queue a little later.
        port.run(Key::Port, || ());
    }

    fn ready_async(&mut self, port: &PortHandle, _result: safe_port_driver::JobResult) {
        port.deq(port.sizeq());
    }

    fn process_exit(&mut self, port: &PortHandle, monitor: safe_port_driver::Monitor) {
        let pid = port.pid_to_term(monitor.pid());
        let _ = port.output_term(&Term::tuple([Term::atom("died"), pid.unwrap_or(Term::atom("unknown"))]));
    }

    fn finish() {
        tell("finish");
    }
}

export!(Trouble);
