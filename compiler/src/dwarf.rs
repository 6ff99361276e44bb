//! The DWARF sections of an object, relocated.

use std::borrow::Cow;

use bpfplan_plan::Endianness;
use gimli::{EndianSlice, RunTimeEndian};
use object::elf;

use crate::bytes::{u32_at, u64_at};
use crate::elf::{Elf, Entry};

/// `R_BPF_64_ABS64`: the symbol is added to 64 bits.
const ABS64: u64 = 2;
/// `R_BPF_64_ABS32` and `R_BPF_64_NODYLD32`: the symbol is added to 32 bits.
const ABS32: [u64; 2] = [3, 4];
/// Longest file name that is believed.
const MAX_PATH: usize = 1024;

/// What gimli reads from.
pub(crate) type Reader<'s> = EndianSlice<'s, RunTimeEndian>;

/// The sections that tell where variables are declared; empty where the object has none.
#[derive(Debug)]
pub(crate) struct Sections<'a> {
    pub(crate) endian: RunTimeEndian,
    pub(crate) info: Cow<'a, [u8]>,
    pub(crate) abbrev: Cow<'a, [u8]>,
    pub(crate) line: Cow<'a, [u8]>,
    string_offsets: Cow<'a, [u8]>,
    strings: &'a [u8],
    line_strings: &'a [u8],
}

impl<'a> Sections<'a> {
    pub(crate) fn new(elf: &Elf<'a>) -> Self {
        Self {
            endian: match elf.endianness {
                Endianness::Little => RunTimeEndian::Little,
                Endianness::Big => RunTimeEndian::Big,
            },
            info: relocated(elf, b".debug_info"),
            abbrev: relocated(elf, b".debug_abbrev"),
            line: relocated(elf, b".debug_line"),
            string_offsets: relocated(elf, b".debug_str_offsets"),
            strings: elf.plain_data(b".debug_str"),
            line_strings: elf.plain_data(b".debug_line_str"),
        }
    }

    /// A string attribute; `None` if it cannot be read or is longer than any path.
    pub(crate) fn string<'s>(
        &'s self,
        value: &gimli::AttributeValue<Reader<'s>>,
        unit: &UnitStrings,
    ) -> Option<&'s [u8]> {
        use gimli::AttributeValue::{DebugLineStrRef, DebugStrOffsetsIndex, DebugStrRef, String};
        match value {
            String(text) => Some(text.slice()).filter(|text| text.len() <= MAX_PATH),
            DebugStrRef(offset) => bounded(self.strings, offset.0),
            DebugLineStrRef(offset) => bounded(self.line_strings, offset.0),
            DebugStrOffsetsIndex(index) => {
                let section =
                    gimli::DebugStrOffsets::from(Reader::new(&self.string_offsets, self.endian));
                let offset = section
                    .get_str_offset(unit.format, unit.base, *index)
                    .ok()?;
                bounded(self.strings, offset.0)
            }
            _ => None,
        }
    }
}

/// How a unit refers to strings by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitStrings {
    pub(crate) format: gimli::Format,
    pub(crate) base: gimli::DebugStrOffsetsBase,
}

/// The string at `offset`, if its end is near: many attributes may share one long string.
fn bounded(strings: &[u8], offset: usize) -> Option<&[u8]> {
    let tail = strings.get(offset..)?;
    let window = tail.get(..=MAX_PATH).unwrap_or(tail);
    let end = window.iter().position(|byte| *byte == 0)?;
    window.get(..end)
}

/// A section with its relocations applied. The addend is in place, what is added is the symbol.
/// gcc has numbers of its own for relocations and puts the sum in place, so nothing is to do.
fn relocated<'a>(elf: &Elf<'a>, name: &[u8]) -> Cow<'a, [u8]> {
    let plain = elf.plain_data(name);
    let mut data = Cow::Borrowed(plain);
    let is_target = |info: u32| {
        let target = usize::try_from(info)
            .ok()
            .and_then(|index| elf.sections.get(index));
        target.is_some_and(|target| target.name == name)
    };
    let sections = elf.sections.iter();
    for section in sections.filter(|it| it.kind == elf::SHT_REL && is_target(it.info)) {
        for entry in elf.relocations(section) {
            apply(elf, &entry, &mut data);
        }
    }
    data
}

/// Applies one relocation; one that makes no sense is left alone.
fn apply(elf: &Elf<'_>, entry: &Entry, data: &mut Cow<'_, [u8]>) -> Option<()> {
    let offset = usize::try_from(entry.offset).ok()?;
    let symbol = elf.symbols.get(entry.symbol)?;
    if symbol.value == 0 {
        return None;
    }
    if entry.kind == ABS64 {
        let sum = u64_at(data, offset, elf.endianness)?.wrapping_add(symbol.value);
        let place = data.to_mut().get_mut(offset..)?.first_chunk_mut::<8>()?;
        *place = match elf.endianness {
            Endianness::Little => sum.to_le_bytes(),
            Endianness::Big => sum.to_be_bytes(),
        };
    } else if ABS32.contains(&entry.kind) {
        let value = u32::try_from(symbol.value).ok()?;
        let sum = u32_at(data, offset, elf.endianness)?.wrapping_add(value);
        let place = data.to_mut().get_mut(offset..)?.first_chunk_mut::<4>()?;
        *place = match elf.endianness {
            Endianness::Little => sum.to_le_bytes(),
            Endianness::Big => sum.to_be_bytes(),
        };
    }
    Some(())
}
