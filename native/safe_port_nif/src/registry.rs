//! The ports there are, by the pid of their port process.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustler::{LocalPid, ResourceArc};

use crate::handle::PortHandle;

type Ports = HashMap<LocalPid, ResourceArc<PortHandle>>;

static PORTS: LazyLock<RwLock<Ports>> = LazyLock::new(RwLock::default);

fn read() -> RwLockReadGuard<'static, Ports> {
    PORTS.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Ports> {
    PORTS.write().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the port known.
pub fn insert(handle: ResourceArc<PortHandle>) {
    write().insert(handle.port, handle);
}

/// Forgets the port. The handle is dropped outside the lock.
pub fn remove(port: LocalPid) {
    let handle = write().remove(&port);
    drop(handle);
}

/// The port with this pid.
pub fn find(port: LocalPid) -> Option<ResourceArc<PortHandle>> {
    read().get(&port).cloned()
}

/// All ports, in the order of their pids.
pub fn list() -> Vec<LocalPid> {
    let mut ports: Vec<LocalPid> = read().keys().copied().collect();
    ports.sort_unstable();
    ports
}
