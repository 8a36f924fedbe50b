//! Brings a driver's library into the process. It stays there for good: safe code of a driver may leave threads,
//! thread-local values or references to its statics behind, and nothing could take their code away without a crash.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::host::Library;
use super::{link, Entry, Header, ABI_VERSION, MAGIC};

/// Why a file is not a driver that can be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    File(PathBuf, io::Error),
    /// It is not a shared library of this machine; the text says what it is.
    NotALibrary(PathBuf, String),
    /// It is a library, but it has no driver entry: `safe_port_driver::export!` is missing.
    NoEntry(PathBuf),
    /// Its entry is for another version of the interface.
    AbiVersion(PathBuf, u32),
    /// It was built with another version of the crate `safe_port_driver`.
    SdkVersion(PathBuf, String),
    /// The system refuses to link it.
    Link(PathBuf, String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = env!("CARGO_PKG_VERSION");
        match self {
            LoadError::File(path, error) => write!(formatter, "cannot read {}: {error}", path.display()),
            LoadError::NotALibrary(path, why) => {
                write!(formatter, "{} is not a driver that can be loaded: {why}", path.display())
            }
            LoadError::NoEntry(path) => write!(
                formatter,
                "{} has no driver entry: a driver calls safe_port_driver::export! once",
                path.display()
            ),
            LoadError::AbiVersion(path, found) => write!(
                formatter,
                "{} has version {found} of the driver interface, expected {ABI_VERSION}",
                path.display()
            ),
            LoadError::SdkVersion(path, found) => write!(
                formatter,
                "{} was built with safe_port_driver {found}, expected {own}",
                path.display()
            ),
            LoadError::Link(path, why) => write!(formatter, "cannot link {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for LoadError {}

impl Library {
    /// The name of the driver in the file `path`, which is checked but not loaded.
    ///
    /// Where the format of libraries is not known here it is made from the name of the file: `libNAME.so` holds `NAME`.
    pub fn name_in(path: &Path) -> Result<String, LoadError> {
        look(path).map(|file| file.name)
    }

    /// Loads the library in the file `path`. Nothing of it runs unless its entry is of this version.
    ///
    /// Loading a file with the same content again gives the same library.
    pub fn load(path: &Path) -> Result<Library, LoadError> {
        let file = look(path)?;
        let entry = link::link(&file.content, path, &file.symbol)
            .map_err(|why| LoadError::Link(path.to_owned(), why))?
            .cast::<Entry>();
        // SAFETY: the symbol is a static of this name in a library that is never unloaded. Its first bytes are checked
        // first, as bytes, before it is taken for an entry of this version.
        check(path, unsafe { &*entry.cast::<Header>() })?;
        // SAFETY: the header says that it was made by `entry()` of this version of the crate, whose types are
        // `repr(C)`.
        Ok(Library { entry: unsafe { &*entry } })
    }
}

/// A file that holds a driver, as far as can be told without loading it.
struct Found {
    content: Vec<u8>,
    /// The name of the entry's symbol.
    symbol: CString,
    /// The name of the driver.
    name: String,
}

fn look(path: &Path) -> Result<Found, LoadError> {
    let failed = |error| LoadError::File(path.to_owned(), error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(LoadError::NotALibrary(path.to_owned(), "it is no regular file".to_owned()));
    }
    let content = std::fs::read(path).map_err(failed)?;
    let (symbol, name) = find_entry(path, &content)?;
    Ok(Found { content, symbol, name })
}

/// Whether a header is of this version of the interface and the crate.
fn check(path: &Path, header: &Header) -> Result<(), LoadError> {
    if header.magic != MAGIC {
        return Err(LoadError::NoEntry(path.to_owned()));
    }
    if header.abi_version != ABI_VERSION || header.entry_bytes as usize != size_of::<Entry>() {
        return Err(LoadError::AbiVersion(path.to_owned(), header.abi_version));
    }
    let version = text(&header.sdk_version);
    if version != env!("CARGO_PKG_VERSION") {
        return Err(LoadError::SdkVersion(path.to_owned(), version));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).map(CStr::to_string_lossy).unwrap_or_default().into_owned()
}

/// The symbol of the entry and the name of the driver. The header is checked in the file.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn find_entry(path: &Path, content: &[u8]) -> Result<(CString, String), LoadError> {
    use super::elf;

    let no_entry = || LoadError::NoEntry(path.to_owned());
    let found = elf::find_entry(content).map_err(|why| LoadError::NotALibrary(path.to_owned(), why))?;
    let found = found.ok_or_else(no_entry)?;
    let bytes =
        content.get(found.at..).and_then(|bytes| bytes.get(..size_of::<Header>())).ok_or_else(no_entry)?;
    // SAFETY: as many bytes as a header has, which is made of integers only: any bytes are one. No alignment is asked.
    let header = unsafe { bytes.as_ptr().cast::<Header>().read_unaligned() };
    check(path, &header)?;
    Ok((CString::new(found.symbol).map_err(|_| no_entry())?, text(&header.name)))
}

/// As far as the name of the file tells: `libNAME.so` is made from the crate `NAME`.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn find_entry(path: &Path, _content: &[u8]) -> Result<(CString, String), LoadError> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.strip_prefix("lib").unwrap_or(&stem);
    let symbol = CString::new(format!("{}{name}", super::SYMBOL_PREFIX));
    Ok((symbol.map_err(|_| LoadError::NoEntry(path.to_owned()))?, name.to_owned()))
}
