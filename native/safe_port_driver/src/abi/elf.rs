//! Looks into the file of a shared library without loading it: running its constructors, or mapping a file that ends
//! too early, is what a wrong file must not get to do.

use std::ops::Range;

use super::SYMBOL_PREFIX;

const CLASS_64: u8 = 2;
const DATA_NATIVE: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
const TYPE_DYNAMIC: u16 = 3;
const SEGMENT_LOAD: u32 = 1;
const SECTION_DYNSYM: u32 = 11;
const SYMBOL_OBJECT: u8 = 1;

/// The machine of this build, if known here.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else if cfg!(target_arch = "riscv64") {
    Some(243)
} else {
    None
};

/// A driver's entry in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The name of its symbol.
    pub symbol: String,
    /// Where in the file it is.
    pub at: usize,
}

/// The driver's entry in `file`; `Ok(None)` if it is a sound library without one. The error says what is wrong.
pub(super) fn find_entry(file: &[u8]) -> Result<Option<Found>, String> {
    let file = File(file);
    if file.bytes(0..4) != Some(b"\x7fELF") {
        return Err("it is no shared library".to_owned());
    }
    if file.bytes(4..6) != Some(&[CLASS_64, DATA_NATIVE])
        || MACHINE.is_some_and(|own| file.u16(18) != Some(own))
    {
        return Err("it is built for another machine".to_owned());
    }
    if file.u16(16) != Some(TYPE_DYNAMIC) {
        return Err("it is no shared library but another kind of ELF file".to_owned());
    }
    let segments = file.segments().ok_or("it is cut off or broken")?;
    let symbols = file.symbols().ok_or("it has no table of symbols, or is cut off")?;
    let mut entries = symbols.into_iter().filter(|symbol| symbol.name.starts_with(SYMBOL_PREFIX));
    let Some(entry) = entries.next() else { return Ok(None) };
    if let Some(other) = entries.next() {
        return Err(format!("it holds several drivers: {} and {}", entry.name, other.name));
    }
    let at = segments.iter().find_map(|segment| segment.offset_of(entry.address));
    let at = at.ok_or("its driver entry lies outside the file")?;
    Ok(Some(Found { symbol: entry.name, at }))
}

struct Segment {
    address: u64,
    file: Range<usize>,
}

impl Segment {
    fn offset_of(&self, address: u64) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let at = self.file.start.checked_add(offset)?;
        self.file.contains(&at).then_some(at)
    }
}

struct Symbol {
    name: String,
    address: u64,
}

struct File<'a>(&'a [u8]);

impl<'a> File<'a> {
    fn bytes(&self, range: Range<usize>) -> Option<&'a [u8]> {
        self.0.get(range)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_ne_bytes)
    }

    fn offset(&self, at: usize) -> Option<usize> {
        usize::try_from(self.u64(at)?).ok()
    }

    /// Where the items of a table begin: `count` of `size` bytes from `start` on.
    fn table(start: usize, count: usize, size: usize) -> Option<impl Iterator<Item = usize>> {
        start.checked_add(count.checked_mul(size)?)?;
        (size > 0).then(|| (0..count).map(move |index| start + index * size))
    }

    /// The segments that are loaded; `None` if one reaches beyond the file.
    fn segments(&self) -> Option<Vec<Segment>> {
        let (start, size, count) = (self.offset(32)?, self.u16(54)?, self.u16(56)?);
        let mut segments = Vec::new();
        for header in Self::table(start, count.into(), size.into())? {
            let kind = self.u32(header)?;
            let (offset, address, bytes) =
                (self.offset(header + 8)?, self.u64(header + 16)?, self.offset(header + 32)?);
            let file = offset..offset.checked_add(bytes)?;
            if kind == SEGMENT_LOAD {
                self.bytes(file.clone())?;
                segments.push(Segment { address, file });
            }
        }
        Some(segments)
    }

    /// The data objects that the library exports.
    fn symbols(&self) -> Option<Vec<Symbol>> {
        let (start, size, count) = (self.offset(40)?, self.u16(58)?, self.u16(60)?);
        let sections: Vec<usize> = Self::table(start, count.into(), size.into())?.collect();
        let dynsym = *sections.iter().find(|header| self.u32(**header + 4) == Some(SECTION_DYNSYM))?;
        let names = self.content(*sections.get(self.u32(dynsym + 40)? as usize)?)?;
        let table = self.content(dynsym)?;
        let size = self.offset(dynsym + 56)?;
        let mut symbols = Vec::new();
        for symbol in Self::table(table.start, table.len().checked_div(size)?, size)? {
            let (kind, section) = (self.bytes(symbol + 4..symbol + 5)?[0] & 15, self.u16(symbol + 6)?);
            if kind != SYMBOL_OBJECT || section == 0 {
                continue;
            }
            let name = names.start.checked_add(self.u32(symbol)? as usize)?;
            let name = self.bytes(name..names.end)?.split(|byte| *byte == 0).next()?;
            symbols.push(Symbol {
                name: String::from_utf8_lossy(name).into_owned(),
                address: self.u64(symbol + 8)?,
            });
        }
        Some(symbols)
    }

    /// Where in the file the content of the section with this header is.
    fn content(&self, header: usize) -> Option<Range<usize>> {
        let offset = self.offset(header + 24)?;
        let range = offset..offset.checked_add(self.offset(header + 32)?)?;
        self.bytes(range.clone()).map(|_| range)
    }
}

#[cfg(test)]
mod tests {
    use super::find_entry;

    fn this_program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_library_without_an_entry_has_none() {
        // A position-independent executable is a library as far as this goes.
        assert_eq!(find_entry(&this_program()), Ok(None));
    }

    #[test]
    fn what_is_no_library_is_refused() {
        assert!(find_entry(b"").is_err());
        assert!(find_entry(b"#!/bin/sh\n").is_err());
        assert!(find_entry(&[0; 4096]).is_err());
        assert!(find_entry(b"\x7fELF").is_err());
    }

    #[test]
    fn a_library_that_is_cut_off_is_refused() {
        let whole = this_program();
        for part in [64, 100, 1000, 10_000, 100_000] {
            assert!(find_entry(&whole[..part]).is_err(), "cut at {part}");
        }
    }

    #[test]
    fn a_library_for_another_machine_is_refused() {
        let mut file = this_program();
        file[18] ^= 0xff;
        assert!(find_entry(&file).unwrap_err().contains("machine"));
    }

    #[test]
    fn no_damage_to_the_tables_leads_to_a_panic() {
        let whole = this_program();
        // The header, and a sample of the bytes behind it, which hold the tables of segments and symbols.
        for at in (0..64).chain((64..whole.len()).step_by(whole.len() / 64)) {
            for value in [0, 1, 127, 255] {
                let mut file = whole.clone();
                file[at] = value;
                let _ = find_entry(&file);
            }
        }
    }
}
