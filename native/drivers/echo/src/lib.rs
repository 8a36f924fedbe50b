//! Sends back whatever it is sent: the smallest driver that does something.
#![forbid(unsafe_code)]

use safe_port_driver::{export, BadArg, Driver, PortHandle, StartError, Term};

/// The driver. It has nothing to remember.
pub struct Echo;

impl Driver for Echo {
    const NAME: &'static str = "echo";

    fn start(_port: &PortHandle, _command: &[u8]) -> Result<Echo, StartError> {
        Ok(Echo)
    }

    fn output(&mut self, port: &PortHandle, data: &[u8]) {
        port.output(data);
    }

    fn control(&mut self, _port: &PortHandle, _op: u32, data: &[u8]) -> Result<Vec<u8>, BadArg> {
        Ok(data.to_vec())
    }

    fn call(&mut self, _port: &PortHandle, _op: u32, term: Term) -> Result<Term, BadArg> {
        Ok(term)
    }
}

export!(Echo);
