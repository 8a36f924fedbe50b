//! The drivers that can be opened, by name: loading, counting, unloading.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use safe_port_driver::abi::host::{Library, LoadError};
use safe_port_driver::Locking;

use super::lane::Lane;
use super::port::Port;
use super::slot::{slot, Replier, Reply};
use super::sync::{lock, Mutex};
use super::{Shared, Task};

/// A driver that is, or was, in the registry.
pub(super) struct Driver {
    pub id: u64,
    pub library: Library,
    /// The lane of all its ports, if they exclude each other.
    pub lane: Option<Arc<Lane<Task>>>,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    ports: HashMap<u64, Weak<Port>>,
    /// Ports that were given up; their drivers have not stopped.
    given_up: HashSet<u64>,
    jobs: usize,
    /// `finish` is called or about to be: there are no more ports.
    closed: bool,
}

impl Driver {
    fn new(id: u64, library: Library) -> Driver {
        let lane = (library.locking() == Locking::Driver).then(|| Arc::new(Lane::new()));
        Driver { id, library, lane, users: Mutex::default() }
    }

    /// Counts a port; `false` if the driver takes none any more.
    pub fn add(&self, port: &Arc<Port>) -> bool {
        let mut users = lock(&self.users);
        if !users.closed {
            users.ports.insert(port.id, Arc::downgrade(port));
        }
        !users.closed
    }

    /// A port has stopped.
    pub fn stopped(&self, id: u64) {
        let mut users = lock(&self.users);
        users.ports.remove(&id);
        users.given_up.remove(&id);
    }

    /// A port was given up: it counts no longer.
    pub fn given_up(&self, id: u64) {
        let mut users = lock(&self.users);
        if users.ports.remove(&id).is_some() {
            users.given_up.insert(id);
        }
    }

    pub fn job_begins(&self) {
        lock(&self.users).jobs += 1;
    }

    pub fn job_ends(&self) {
        lock(&self.users).jobs -= 1;
    }

    pub fn ports(&self) -> Vec<Arc<Port>> {
        lock(&self.users).ports.values().filter_map(Weak::upgrade).collect()
    }

    /// If nobody uses it: takes no more ports, and says whether `finish` may be called.
    fn close(&self) -> Option<bool> {
        let mut users = lock(&self.users);
        if !users.ports.is_empty() || users.jobs > 0 {
            return None;
        }
        users.closed = true;
        Some(users.given_up.is_empty())
    }
}

/// Why a driver is not loaded.
#[derive(Debug)]
pub enum LoadRefusal {
    /// The file is not a driver that can be loaded here.
    File(LoadError),
    /// Another driver with this name is loaded.
    NameTaken(String),
    /// The driver, of this name, refuses, for this reason.
    Init(String, String),
}

impl fmt::Display for LoadRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadRefusal::File(error) => error.fmt(formatter),
            LoadRefusal::NameTaken(name) => {
                write!(formatter, "another driver named {name} is loaded: unload it first")
            }
            LoadRefusal::Init(name, reason) => {
                write!(formatter, "driver {name} refuses to be loaded: {reason}")
            }
        }
    }
}

impl std::error::Error for LoadRefusal {}

/// What a driver was loaded as, and how often it is loaded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// How often it has to be unloaded.
    pub loads: usize,
}

/// Why a driver is not unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnloadRefusal {
    /// No driver of this name is loaded.
    NotLoaded,
    /// It is built in.
    BuiltIn,
    /// It was loaded again before its last port was closed.
    LoadedAgain,
}

/// What unloading does about open ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnloadMode {
    /// Waits until they are closed; no new ones can be opened meanwhile.
    Wait,
    /// Closes them, with [`Reason::Unloaded`](super::Reason::Unloaded).
    Kill,
}

/// A driver in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInfo {
    /// Its name.
    pub name: String,
    /// The file it was loaded from; `None` if it is linked in.
    pub path: Option<PathBuf>,
    /// How often it has to be unloaded.
    pub loads: usize,
    /// Open ports.
    pub ports: usize,
    /// Whether it waits for its ports to close.
    pub unloading: bool,
}

type LoadReply = Replier<Result<Loaded, LoadRefusal>>;
type UnloadReply = Replier<Result<usize, UnloadRefusal>>;

/// Where a driver is from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// Linked in, to stay.
    BuiltIn,
    /// Linked in, and loaded like others.
    Added,
    /// A library.
    File(PathBuf),
}

impl Origin {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Origin::File(path) => Some(path.clone()),
            Origin::BuiltIn | Origin::Added => None,
        }
    }
}

struct Entry {
    driver: Arc<Driver>,
    origin: Origin,
    loads: usize,
    stage: Stage,
}

enum Stage {
    /// `init` is being called; who waits for it.
    Initialising(Vec<LoadReply>),
    Loaded,
    /// No load is left; who waits for the last port to close.
    Unloading(Vec<UnloadReply>),
    /// `finish` is being called; what is to be loaded after that.
    Finishing(Vec<(Library, Origin, LoadReply)>),
}

/// All drivers.
#[derive(Default)]
pub(super) struct Registry {
    entries: Mutex<HashMap<String, Entry>>,
}

impl Registry {
    /// The loaded driver `name`.
    pub fn find(&self, name: &str) -> Option<Arc<Driver>> {
        let entries = lock(&self.entries);
        let entry = entries.get(name).filter(|entry| matches!(entry.stage, Stage::Loaded))?;
        Some(Arc::clone(&entry.driver))
    }

    /// Whether a driver `name` is loaded that is not built in.
    pub fn has_loaded(&self, name: &str) -> bool {
        lock(&self.entries).get(name).is_some_and(|entry| {
            matches!(entry.stage, Stage::Loaded) && !matches!(entry.origin, Origin::BuiltIn)
        })
    }

    pub fn list(&self) -> Vec<DriverInfo> {
        let entries = lock(&self.entries);
        let info = |(name, entry): (&String, &Entry)| DriverInfo {
            name: name.clone(),
            path: entry.origin.path(),
            loads: entry.loads,
            ports: lock(&entry.driver.users).ports.len(),
            unloading: matches!(entry.stage, Stage::Unloading(_) | Stage::Finishing(_)),
        };
        let mut list: Vec<DriverInfo> = entries.iter().map(info).collect();
        list.sort_by(|one, other| one.name.cmp(&other.name));
        list
    }

    /// Adds `library`, after its `init`, or counts one load more if it is there.
    pub fn load(&self, runner: &Shared, library: Library, origin: Origin, reply: LoadReply) {
        let name = library.name().to_owned();
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(&name) else {
            let driver = Arc::new(Driver::new(runner.next_id(), library));
            let stage = Stage::Initialising(vec![reply]);
            entries.insert(name.clone(), Entry { driver, origin, loads: 0, stage });
            drop(entries);
            return self.initialised(&name, &library.init());
        };
        if let Stage::Finishing(later) = &mut entry.stage {
            later.push((library, origin, reply));
            return;
        }
        if entry.driver.library != library {
            drop(entries);
            return reply.answer(Ok(Err(LoadRefusal::NameTaken(name))));
        }
        if let Stage::Initialising(waiting) = &mut entry.stage {
            waiting.push(reply);
            return;
        }
        entry.loads += 1;
        let loads = entry.loads;
        let stage = std::mem::replace(&mut entry.stage, Stage::Loaded);
        drop(entries);
        if let Stage::Unloading(waiting) = stage {
            for reply in waiting {
                reply.answer(Ok(Err(UnloadRefusal::LoadedAgain)));
            }
        }
        reply.answer(Ok(Ok(Loaded { name, loads })));
    }

    fn initialised(&self, name: &str, result: &Result<(), String>) {
        let waiting = {
            let mut entries = lock(&self.entries);
            let Some(entry) = entries.get_mut(name) else { return };
            let stage = std::mem::replace(&mut entry.stage, Stage::Loaded);
            let Stage::Initialising(waiting) = stage else { return };
            entry.loads = waiting.len();
            if result.is_err() {
                entries.remove(name);
            }
            waiting
        };
        for (reply, loads) in waiting.into_iter().zip(1..) {
            reply.answer(Ok(match result {
                Ok(()) => Ok(Loaded { name: name.to_owned(), loads }),
                Err(reason) => Err(LoadRefusal::Init(name.to_owned(), reason.clone())),
            }));
        }
    }

    /// Takes one load of the driver `name` away. With the last it takes no more ports, and is finished when the last of
    /// those it has is closed. The answer is the number of loads left.
    pub fn unload(&self, runner: &Arc<Shared>, name: &str, mode: UnloadMode, reply: UnloadReply) {
        let mut entries = lock(&self.entries);
        let refusal = match entries.get_mut(name) {
            Some(Entry { origin: Origin::BuiltIn, .. }) => UnloadRefusal::BuiltIn,
            Some(entry) => match &mut entry.stage {
                Stage::Loaded if entry.loads > 1 => {
                    entry.loads -= 1;
                    let loads = entry.loads;
                    drop(entries);
                    return reply.answer(Ok(Ok(loads)));
                }
                Stage::Loaded => {
                    entry.loads = 0;
                    entry.stage = Stage::Unloading(vec![reply]);
                    let driver = Arc::clone(&entry.driver);
                    drop(entries);
                    return self.part(runner, &driver, mode);
                }
                Stage::Unloading(waiting) => {
                    waiting.push(reply);
                    let driver = Arc::clone(&entry.driver);
                    drop(entries);
                    return self.part(runner, &driver, mode);
                }
                Stage::Initialising(_) | Stage::Finishing(_) => UnloadRefusal::NotLoaded,
            },
            None => UnloadRefusal::NotLoaded,
        };
        drop(entries);
        reply.answer(Ok(Err(refusal)));
    }

    /// Unloads every driver, however often it is loaded, the built-in ones too.
    pub fn unload_all(
        &self,
        runner: &Arc<Shared>,
        mode: UnloadMode,
    ) -> Vec<Reply<Result<usize, UnloadRefusal>>> {
        let mut replies = Vec::new();
        let mut drivers = Vec::new();
        for entry in lock(&self.entries).values_mut() {
            let (answering, reply) = slot();
            match &mut entry.stage {
                Stage::Loaded => entry.stage = Stage::Unloading(vec![answering]),
                Stage::Unloading(waiting) => waiting.push(answering),
                Stage::Initialising(_) | Stage::Finishing(_) => continue,
            }
            entry.loads = 0;
            replies.push(reply);
            drivers.push(Arc::clone(&entry.driver));
        }
        for driver in drivers {
            self.part(runner, &driver, mode);
        }
        replies
    }

    fn part(&self, runner: &Arc<Shared>, driver: &Arc<Driver>, mode: UnloadMode) {
        if mode == UnloadMode::Kill {
            // Events of ports come from the runner's threads.
            let driver = Arc::clone(driver);
            runner.task(move || driver.ports().iter().for_each(Port::unload));
        }
        self.unused(runner, driver);
    }

    /// A port or a job of `driver` has ended: finishes it if that was the last one and it is to be unloaded.
    pub fn unused(&self, runner: &Arc<Shared>, driver: &Arc<Driver>) {
        let name = driver.library.name();
        let waiting = {
            let mut entries = lock(&self.entries);
            let entry = entries.get_mut(name).filter(|entry| Arc::ptr_eq(&entry.driver, driver));
            let Some(Entry { stage, .. }) = entry else { return };
            if !matches!(stage, Stage::Unloading(_)) {
                return;
            }
            let Some(finish) = driver.close() else { return };
            let Stage::Unloading(waiting) = std::mem::replace(stage, Stage::Finishing(Vec::new())) else {
                return;
            };
            (waiting, finish)
        };
        let (driver, own) = (Arc::clone(driver), Arc::clone(runner));
        let (waiting, finish) = waiting;
        runner.task(move || {
            // With an instance that never stopped still in its callback the driver's world is not to be torn down.
            if finish {
                // There is no port left to end with the reason of a panic.
                let _ = driver.library.finish();
            }
            own.registry.finished(&own, &driver, waiting);
        });
    }

    fn finished(&self, runner: &Shared, driver: &Driver, waiting: Vec<UnloadReply>) {
        let entry = lock(&self.entries).remove(driver.library.name());
        for reply in waiting {
            reply.answer(Ok(Ok(0)));
        }
        if let Some(Entry { stage: Stage::Finishing(later), .. }) = entry {
            for (library, origin, reply) in later {
                self.load(runner, library, origin, reply);
            }
        }
    }
}
