//! Links a library whose file was looked at before.

use std::ffi::{c_void, CStr, CString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A library that was linked from a copy of its file.
struct Linked {
    /// Open for good, so that no other library gets its name, `/proc/self/fd/N`.
    copy: File,
    entry: usize,
}

static LINKED: Mutex<Vec<Linked>> = Mutex::new(Vec::new());

/// The address of `symbol` in the library with this `content`, which is linked unless it was before.
///
/// It is linked from a sealed copy in memory where the system has such: overwriting a library's file, as `cp` does it,
/// changes the code under the feet of those who run it. Otherwise from the file `path`.
pub(super) fn link(content: &[u8], path: &Path, symbol: &CStr) -> Result<*const c_void, String> {
    let mut linked = LINKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = linked.iter().find(|known| memory::holds(&known.copy, content)) {
        return Ok(known.entry as *const c_void);
    }
    let Some(copy) = memory::copy(content, path) else {
        // With a path of several parts `dlopen` does not search for it elsewhere.
        let path = path.canonicalize().map_err(|error| error.to_string())?;
        return open(&path, symbol);
    };
    let entry = open(&memory::path(&copy), symbol)?;
    linked.push(Linked { copy, entry: entry as usize });
    Ok(entry)
}

fn open(path: &Path, symbol: &CStr) -> Result<*const c_void, String> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: `path` is a C string. This runs the library's constructors; it exports the entry of a driver, so it was
    // made to be loaded here.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(last_error());
    }
    // SAFETY: `library` is a handle of `dlopen`, which is never closed; `symbol` is a C string.
    let entry = unsafe { libc::dlsym(library, symbol.as_ptr()) };
    if entry.is_null() {
        Err(last_error())
    } else {
        Ok(entry)
    }
}

fn last_error() -> String {
    // SAFETY: no arguments; the text stays until this thread's next call of the family.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the system gives no reason".to_owned();
    }
    // SAFETY: `dlerror` gives a C string unless it gives null.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(target_os = "linux")]
mod memory {
    use std::ffi::CString;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    /// A file in memory with this `content`, which nobody can change any more; `None` if there can be none.
    pub fn copy(content: &[u8], path: &Path) -> Option<File> {
        // Shown in `/proc/self/maps`.
        let name = CString::new(path.file_name()?.as_bytes()).ok()?;
        // SAFETY: `name` is a C string.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return None;
        }
        // SAFETY: `fd` was just made and belongs to nobody else.
        let mut file = unsafe { File::from_raw_fd(fd) };
        file.write_all(content).ok()?;
        let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        // SAFETY: `F_ADD_SEALS` takes an integer.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        (sealed == 0).then_some(file)
    }

    /// A path to open `copy` by.
    pub fn path(copy: &File) -> PathBuf {
        format!("/proc/self/fd/{}", copy.as_raw_fd()).into()
    }

    /// Whether `copy` has this `content`.
    pub fn holds(copy: &File, content: &[u8]) -> bool {
        let same_length = copy.metadata().is_ok_and(|metadata| metadata.len() == content.len() as u64);
        let mut buffer = vec![0; 64 * 1024];
        same_length
            && content.chunks(buffer.len()).zip(0_u64..).all(|(chunk, index)| {
                let part = &mut buffer[..chunk.len()];
                copy.read_exact_at(part, index * 64 * 1024).is_ok() && part == chunk
            })
    }
}

#[cfg(not(target_os = "linux"))]
mod memory {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    pub fn copy(_content: &[u8], _path: &Path) -> Option<File> {
        None
    }

    pub fn path(_copy: &File) -> PathBuf {
        PathBuf::new()
    }

    pub fn holds(_copy: &File, _content: &[u8]) -> bool {
        false
    }
}
