//! Reading an object without its DWARF, which is often most of it and only needed for places in
//! the source.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader as _, SectionHeader as _};

use crate::bytes::name_at;

type Header = elf::FileHeader64<Endianness>;

/// Smaller files are read as they are: one call for all of it costs less than several.
const SMALL: usize = 64 << 10;

/// Ranges that are no further apart are read together.
const CLOSE: usize = 4 << 10;

/// Size of `Elf64_Ehdr`.
const HEADER: usize = size_of::<Header>();

/// Reads the first `size` bytes of an object, with zeros in place of its DWARF, for
/// [`compile_without_places`](crate::compile_without_places); `None` if it is too small for that
/// to gain anything, or if its sections cannot be told, so that it is best read whole.
///
/// # Errors
/// Those of reading; `UnexpectedEof` if the file has become shorter.
pub fn read_without_dwarf(file: &File, size: usize) -> io::Result<Option<Vec<u8>>> {
    if size < SMALL {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let Some(wanted) = wanted(file, &mut bytes)? else {
        return Ok(None);
    };
    for range in wanted {
        fill(file, &mut bytes, &range)?;
    }
    Ok(Some(bytes))
}

/// Reads that part of the file to its place; `None` if it is not within the bytes.
fn fill(file: &File, bytes: &mut [u8], range: &Range<usize>) -> io::Result<Option<()>> {
    let Some(place) = bytes.get_mut(range.clone()) else {
        return Ok(None);
    };
    file.read_exact_at(place, range.start as u64)?;
    Ok(Some(()))
}

/// What has to be read, in order; the headers and the names of the sections are read on the way.
fn wanted(file: &File, bytes: &mut [u8]) -> io::Result<Option<Vec<Range<usize>>>> {
    fill(file, bytes, &(0..HEADER))?;
    let Some((table, names)) = tables(bytes) else {
        return Ok(None);
    };
    if fill(file, bytes, &table)?.is_none() {
        return Ok(None);
    }
    let Some(names) = section(bytes, names) else {
        return Ok(None);
    };
    if fill(file, bytes, &names)?.is_none() {
        return Ok(None);
    }
    Ok(without_dwarf(bytes, names))
}

/// The range of the section headers, and which of them is that of the names.
fn tables(bytes: &[u8]) -> Option<(Range<usize>, usize)> {
    let header = Header::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let start = usize::try_from(header.e_shoff(endian)).ok()?;
    let count = usize::from(header.e_shnum(endian));
    // Where there are too many sections for the header, the numbers are elsewhere.
    let names = usize::from(header.e_shstrndx(endian).0);
    if count == 0 || names >= count {
        return None;
    }
    let size = count.checked_mul(size_of::<elf::SectionHeader64<Endianness>>())?;
    Some((start..start.checked_add(size)?, names))
}

/// The bytes of a section in the file.
fn section(bytes: &[u8], index: usize) -> Option<Range<usize>> {
    let header = Header::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let section = header.section_headers(endian, bytes).ok()?.get(index)?;
    range(section, endian)
}

fn range(section: &elf::SectionHeader64<Endianness>, endian: Endianness) -> Option<Range<usize>> {
    let (start, size) = section.file_range(endian)?;
    let start = usize::try_from(start).ok()?;
    Some(start..start.checked_add(usize::try_from(size).ok()?)?)
}

/// The sections that hold no DWARF, and no relocations of it; `None` if one lies outside. `names`
/// are those of the sections.
fn without_dwarf(bytes: &[u8], names: Range<usize>) -> Option<Vec<Range<usize>>> {
    let header = Header::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.section_headers(endian, bytes).ok()?;
    let names = bytes.get(names)?;
    let names_of_symbols: HashSet<usize> = sections
        .iter()
        .filter(|section| section.sh_type(endian) == elf::SHT_SYMTAB)
        .filter_map(|section| usize::try_from(section.sh_link(endian)).ok())
        .collect();
    let mut wanted = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let Some(range) = range(section, endian) else {
            continue; // It has no bytes in the file.
        };
        if range.end > bytes.len() {
            return None;
        }
        let kind = section.sh_type(endian);
        let name = usize::try_from(section.sh_name(endian)).ok()?;
        // Looks at no more than a name may have: many sections can share one that is endless.
        let is_dwarf = is_dwarf(name_at(names, name)?)
            && (kind == elf::SHT_PROGBITS || kind == elf::SHT_REL)
            && !names_of_symbols.contains(&index);
        if !is_dwarf && !range.is_empty() {
            wanted.push(range);
        }
    }
    wanted.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(wanted.len());
    for range in wanted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(CLOSE) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    Some(joined)
}

/// Sections of these names are DWARF to libbpf (`is_sec_name_dwarf`).
fn is_dwarf(name: &[u8]) -> bool {
    name.strip_prefix(b".rel")
        .unwrap_or(name)
        .starts_with(b".debug_")
}

#[cfg(test)]
mod tests;
