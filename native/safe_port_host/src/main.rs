//! Runs one port of one linked-in driver in a process of its own, for `{:isolation, :process}`: what takes a process down
//! takes this one down, and not the VM.
//!
//! It is an ordinary program under the guardian. It talks in frames of four bytes length on descriptors 3 (from the VM)
//! and 4 (to the VM), see [`protocol`]; 0, 1 and 2 are the VM's, for the driver to print to. It ends when the driver has
//! stopped, or when descriptor 3 ends.
#![forbid(unsafe_code)]

mod owner;
mod protocol;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use safe_port_core::driver::{
    CloseMode, CommandMode, Config, Library, OpenError, Port, Runner, StartRefusal,
};
use safe_port_os::pipe;

use self::owner::Owner;
use self::protocol::{Command, Open, Refused};

/// Descriptor that the VM's frames come from.
const FROM_VM: i32 = 3;
/// Descriptor that frames for the VM go to.
const TO_VM: i32 = 4;
/// The longest frame: what a reply or a command may have, and what is around it.
const MAX_FRAME_BYTES: usize = 1 << 30;
/// How long a driver has for its last callbacks when the VM lets go of it. The guardian's patience is longer.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why the host ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The driver has stopped.
    Stopped,
    /// The VM no longer talks, or no longer listens.
    LetGo,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("safe_port_host: {error} (it is started by SafePort, not by hand)");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut input = BufReader::new(File::from(pipe::duplicate_number(FROM_VM)?));
    let output = File::from(pipe::duplicate_number(TO_VM)?);
    let Some(Command::Open(open)) = read(&mut input)? else {
        return Err(io::Error::other("the first frame does not open a port"));
    };
    let built_in = if open.path.is_empty() { built_in() } else { Vec::new() };
    let runner = Runner::new(Config::default(), &built_in)?;
    let (end, ended) = bounded(2);
    let owner = Arc::new(Owner::new(output, &open, end.clone()));
    match start(&runner, open, &owner) {
        Ok(port) => {
            std::thread::Builder::new().name("sp_host_input".to_owned()).spawn(move || {
                serve(&mut input, &port, &owner);
                let _ = end.try_send(End::LetGo);
            })?;
            // Never an error: the owner has a sender.
            if ended.recv() == Ok(End::LetGo) {
                // Its driver is being stopped, which takes as long as its present callback.
                let _ = ended.recv_timeout(FAREWELL);
            }
        }
        Err(refused) => owner.refused(&refused),
    }
    runner.shut_down(Duration::ZERO, FAREWELL);
    Ok(())
}

/// The drivers that SafePort brings, which have no file to load.
fn built_in() -> Vec<Library> {
    vec![
        Library::builtin::<safe_port_echo_driver::Echo>(),
        Library::builtin::<safe_port_digest_driver::Digest>(),
        #[cfg(target_os = "linux")]
        Library::builtin::<safe_port_watch_driver::Watch>(),
    ]
}

fn start(runner: &Runner, open: Open, owner: &Arc<Owner>) -> Result<Arc<Port>, Refused> {
    let closed = || Refused::Load("the runner has ended".to_owned());
    if !open.path.is_empty() {
        let loaded = runner.load(PathBuf::from(open.path)).wait().map_err(|_| closed())?;
        loaded.map_err(|refusal| Refused::Load(refusal.to_string()))?;
    }
    let events = Arc::clone(owner);
    let opening =
        runner.open(&open.command, open.options, open.caller, events).map_err(|error| match error {
            OpenError::NoDriver => Refused::Load("its driver has another name than the port".to_owned()),
            OpenError::NoThread(errno) => Refused::Start(StartRefusal::Errno(errno)),
        })?;
    opening.started.wait().map_err(|_| closed())?.map_err(Refused::Start)?;
    owner.started(&opening.port);
    Ok(opening.port)
}

/// Does what the VM asks for, until it lets go.
fn serve(input: &mut impl Read, port: &Arc<Port>, owner: &Arc<Owner>) {
    while let Ok(Some(command)) = read(input) {
        match command {
            Command::Open(_) => return,
            Command::Output { caller, force, data } => {
                // The VM holds commands back when the port is busy; these were on their way before it knew. One that the
                // driver does not allow to be forced, or that comes too late, is dropped, as the VM has told its sender.
                let mode = if force { CommandMode::Force } else { CommandMode::Queue };
                let _ = port.command(vec![data.into()], caller, mode);
            }
            // Answered by the thread that calls the driver, so that the answer is ahead of the port's end.
            Command::Control { ticket, op, caller, data } => {
                let owner = Arc::clone(owner);
                port.control_to(op, data.into(), caller, move |reply| owner.replied(ticket, &reply));
            }
            Command::Call { ticket, op, caller, term } => {
                let owner = Arc::clone(owner);
                port.call_to(op, term.into(), caller, move |reply| owner.answered(ticket, &reply));
            }
            Command::Close(mode) => port.close(mode),
            Command::Owner(pid) => owner.set_connected(pid),
            Command::Exited(monitor) => port.process_exited(monitor),
            Command::Info(ticket) => owner.info(ticket, &port.info()),
        }
    }
    port.close(CloseMode::Force);
}

/// The next frame; `None` at the end.
fn read(input: &mut impl Read) -> io::Result<Option<Command>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::other(format!("a frame has at most {MAX_FRAME_BYTES} bytes, got {length}")));
    }
    // Grown as the bytes come: an announced length alone must not take memory.
    let mut frame = Vec::new();
    if input.take(length as u64).read_to_end(&mut frame)? < length {
        return Ok(None);
    }
    Command::decode(&frame).map(Some).ok_or_else(|| io::Error::other("a frame that is no command"))
}
