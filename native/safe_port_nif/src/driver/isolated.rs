//! Drivers that only ever run in hosts: of these the VM knows the name and the file, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use safe_port_core::driver::{Library, LoadRefusal};

use crate::handle::lock;

/// A driver's file, and how often it has to be unloaded.
struct Entry {
    path: PathBuf,
    loads: usize,
}

static ENTRIES: Mutex<BTreeMap<String, Entry>> = Mutex::new(BTreeMap::new());

/// Notes the driver in the file `path`, once more if it is known; its name.
pub fn load(path: &Path, taken: impl FnOnce(&str) -> bool) -> Result<String, LoadRefusal> {
    let name = Library::name_in(path).map_err(LoadRefusal::File)?;
    let mut entries = lock(&ENTRIES);
    match entries.get_mut(&name) {
        Some(entry) if entry.path == path => entry.loads += 1,
        Some(_) => return Err(LoadRefusal::NameTaken(name)),
        None if taken(&name) => return Err(LoadRefusal::NameTaken(name)),
        None => drop(entries.insert(name.clone(), Entry { path: path.to_owned(), loads: 1 })),
    }
    Ok(name)
}

/// Takes a load away; `false` if there is no such driver. Its hosts run on.
pub fn unload(name: &str) -> bool {
    let mut entries = lock(&ENTRIES);
    let Some(entry) = entries.get_mut(name) else { return false };
    entry.loads -= 1;
    if entry.loads == 0 {
        entries.remove(name);
    }
    true
}

/// The file of the driver that `command` begins with the name of.
pub fn path(command: &[u8]) -> Option<PathBuf> {
    let name = command.split(u8::is_ascii_whitespace).next()?;
    lock(&ENTRIES).get(std::str::from_utf8(name).ok()?).map(|entry| entry.path.clone())
}

/// Names, files and loads.
pub fn list() -> Vec<(String, PathBuf, usize)> {
    lock(&ENTRIES).iter().map(|(name, entry)| (name.clone(), entry.path.clone(), entry.loads)).collect()
}
