//! The decoded wait status of a program.

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// A signal killed it.
    Signal {
        /// The signal's number.
        number: u8,
        /// Whether it left a core file.
        core_dumped: bool,
    },
}

impl Exit {
    /// Decodes what `wait(2)` reports of a process that ended.
    pub fn from_wait_status(status: i32) -> Exit {
        let number = (status & 0x7f) as u8;
        if number == 0 {
            Exit::Code((status >> 8) as u8)
        } else {
            Exit::Signal { number, core_dumped: status & 0x80 != 0 }
        }
    }

    /// What a port's owner gets: the code, or 128 plus the signal (contract E9).
    pub fn status(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal { number, .. } => 128 + number,
        }
    }

    /// The signal, if it was one.
    pub fn signal(self) -> Option<u8> {
        match self {
            Exit::Code(_) => None,
            Exit::Signal { number, .. } => Some(number),
        }
    }

    /// Whether a core file was left.
    pub fn core_dumped(self) -> bool {
        matches!(self, Exit::Signal { core_dumped: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn a_status_is_the_code_or_128_and_the_signal() {
        assert_eq!(Exit::from_wait_status(3 << 8), Exit::Code(3));
        assert_eq!(Exit::from_wait_status(9), Exit::Signal { number: 9, core_dumped: false });
        assert_eq!(Exit::from_wait_status(0x8b), Exit::Signal { number: 11, core_dumped: true });
        assert_eq!(Exit::from_wait_status(9).status(), 137);
        assert_eq!(Exit::from_wait_status(255 << 8).status(), 255);
    }
}
