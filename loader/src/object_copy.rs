//! A copy of an object in which libbpf sees no static slots.
//!
//! `bpf_object__load` fills program arrays itself, reused ones as well, and fills the outer maps
//! that it makes. Here the loader fills slots, so the relocations of `.maps`, which are what
//! libbpf knows slots from, get a section type that it skips. Nothing else changes.

use std::ffi::CStr;

/// Size of an ELF header and of a section header, 64 bits.
const HEADER: usize = 64;
/// Section types: relocations, strings, and the one of LLVM's address tables, which libbpf skips
/// before it looks at a section at all (`ignore_elf_section`).
const SHT_STRTAB: u32 = 3;
const SHT_REL: u32 = 9;
const SHT_LLVM_ADDRSIG: u32 = 0x6fff_4c03;
/// The number of the section with the names is in the first section header instead.
const SHN_XINDEX: u16 = 0xffff;

/// Names that libbpf goes by before it looks at a section's type (`bpf_object__elf_collect`).
const BY_NAME: [&[u8]; 6] = [
    b"license",
    b"version",
    b"maps",
    b".maps",
    b".BTF",
    b".BTF.ext",
];

/// The object without static slots.
///
/// # Errors
/// Why it is no 64-bit ELF object of this machine's byte order.
pub(crate) fn without_slots(object: &[u8]) -> Result<Vec<u8>, &'static str> {
    let sections = Sections::find(object)?;
    let mut declarations = None;
    for index in 0..sections.count {
        let section = sections.get(index).ok_or(CUT_OFF)?;
        if sections.name(&section) == Some(b".maps")
            && !matches!(section.kind, SHT_STRTAB | SHT_LLVM_ADDRSIG)
        {
            declarations = u32::try_from(index).ok();
        }
    }
    let mut copy = Vec::new();
    copy.try_reserve_exact(object.len())
        .map_err(|_| "there is no memory for it")?;
    copy.extend_from_slice(object);
    let Some(declarations) = declarations else {
        return Ok(copy);
    };
    for index in 0..sections.count {
        let section = sections.get(index).ok_or(CUT_OFF)?;
        let named = sections.name(&section);
        if section.kind == SHT_REL
            && section.info == declarations
            && !named.is_some_and(|name| BY_NAME.contains(&name))
        {
            let kind = copy.get_mut(section.place.saturating_add(4)..);
            let kind = kind.and_then(<[u8]>::first_chunk_mut).ok_or(CUT_OFF)?;
            *kind = SHT_LLVM_ADDRSIG.to_ne_bytes();
        }
    }
    Ok(copy)
}

const CUT_OFF: &str = "its section headers are cut off";

/// The section headers of an object.
struct Sections<'a> {
    object: &'a [u8],
    start: usize,
    count: usize,
    /// The names.
    names: &'a [u8],
}

/// What matters of a section header.
struct Section {
    /// Offset of the header in the object.
    place: usize,
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
}

impl<'a> Sections<'a> {
    fn find(object: &'a [u8]) -> Result<Self, &'static str> {
        let order = if cfg!(target_endian = "big") { 2 } else { 1 };
        match object {
            [0x7f, b'E', b'L', b'F', 2, data, ..] if *data == order => {}
            _ => return Err("it is no 64-bit ELF object of this machine's byte order"),
        }
        let half = |place: usize| {
            let bytes = object.get(place..).and_then(<[u8]>::first_chunk);
            bytes.map(|bytes| u16::from_ne_bytes(*bytes))
        };
        let start = u64_at(object, 40).ok_or(CUT_OFF)?;
        let (Some(size), Some(count), Some(names)) = (half(58), half(60), half(62)) else {
            return Err(CUT_OFF);
        };
        if usize::from(size) != HEADER || start == 0 {
            return Err("its section headers have an unknown size");
        }
        let mut found = Self {
            object,
            start: usize::try_from(start).map_err(|_| CUT_OFF)?,
            count: usize::from(count),
            names: &[],
        };
        let first = found.get(0).ok_or(CUT_OFF)?;
        if count == 0 {
            found.count = usize::try_from(first.size).map_err(|_| CUT_OFF)?;
        }
        let names = if names == SHN_XINDEX {
            usize::try_from(first.link).map_err(|_| CUT_OFF)?
        } else {
            usize::from(names)
        };
        let names = found.get(names).ok_or(CUT_OFF)?;
        found.names = found.bytes(&names).ok_or(CUT_OFF)?;
        Ok(found)
    }

    fn get(&self, index: usize) -> Option<Section> {
        let place = index.checked_mul(HEADER)?.checked_add(self.start)?;
        let header: &[u8; HEADER] = self.object.get(place..)?.first_chunk()?;
        Some(Section {
            place,
            name: u32_at(header, 0)?,
            kind: u32_at(header, 4)?,
            offset: u64_at(header, 24)?,
            size: u64_at(header, 32)?,
            link: u32_at(header, 40)?,
            info: u32_at(header, 44)?,
        })
    }

    fn bytes(&self, section: &Section) -> Option<&'a [u8]> {
        let start = usize::try_from(section.offset).ok()?;
        let size = usize::try_from(section.size).ok()?;
        self.object.get(start..start.checked_add(size)?)
    }

    /// The name, if it is a short one; no other matters here.
    fn name(&self, section: &Section) -> Option<&'a [u8]> {
        const SHORT: usize = 16;
        let start = usize::try_from(section.name).ok()?;
        let rest = self.names.get(start..)?;
        let name = CStr::from_bytes_until_nul(rest.get(..SHORT).unwrap_or(rest)).ok()?;
        Some(name.to_bytes())
    }
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    let bytes = bytes.get(place..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], place: usize) -> Option<u64> {
    let bytes = bytes.get(place..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests;
