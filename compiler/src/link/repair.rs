//! Puts right what libbpf's linker leaves wrong, byte by byte in the linked object.

use std::collections::HashMap;
use std::ops::Range;

use bpfplan_plan::uapi::{BTF_KIND_DATASEC, BTF_KIND_VAR, BTF_VAR_GLOBAL_ALLOCATED};
use bpfplan_plan::{Diagnostic, Endianness};
use object::elf::{SHT_REL, STT_OBJECT};

use crate::btf::raw::Raw;
use crate::bytes::{borrowed_text, u64_at};
use crate::codes;
use crate::elf::{self, Elf, Symbol};
use crate::fixup::{Linkage, Variable};
use crate::problems::Problems;
use crate::slots::Owners;

/// Sizes of `Elf64_Shdr` and `Elf64_Rel`, places of fields in the ELF header and in a section's.
const SECTION_HEADER: usize = 64;
const RELOCATION: usize = 16;
const E_SHOFF: usize = 40;
const SH_OFFSET: usize = 24;
const SH_SIZE: usize = 32;
/// `struct btf_var_secinfo` after `struct btf_type`.
const TYPE: usize = 12;
const MEMBER: usize = 12;

/// A change: where, and the new bytes.
type Patch = (usize, Vec<u8>);

/// Repairs the linked object in place.
pub(super) fn repair(linked: &mut [u8], problems: &mut Problems) {
    let Some(elf) = elf::read(linked, problems) else {
        return;
    };
    let Some(patches) = patches(&elf, linked) else {
        let message = "the linker has written an object that cannot be read";
        problems.add(Diagnostic::error(codes::UNSOUND_PART, message));
        return;
    };
    for (at, bytes) in patches {
        let place = linked
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes.len()));
        if let Some(place) = place {
            place.copy_from_slice(&bytes);
        }
    }
}

fn patches(elf: &Elf<'_>, linked: &[u8]) -> Option<Vec<Patch>> {
    let mut patches = Vec::new();
    let Some(section) = elf.btf else {
        return Some(patches);
    };
    let raw = Raw::parse(section).ok()?;
    let index = elf.sections.iter().position(|it| it.name == b".BTF")?;
    let start = file_range(elf, linked, index)?.start;
    let maps = variables(elf, &raw, start, &mut patches)?;
    let owners = Owners::new(&maps);
    for (index, section) in elf.sections.iter().enumerate() {
        if section.kind != SHT_REL || section.name != b".rel.maps" {
            continue;
        }
        let range = file_range(elf, linked, index)?;
        let entries = linked.get(range.clone())?;
        let mut kept = Vec::with_capacity(entries.len());
        for (entry, bytes) in elf
            .relocations(section)
            .zip(entries.chunks_exact(RELOCATION))
        {
            if owners.find(entry.offset).is_some() {
                kept.extend_from_slice(bytes);
            }
        }
        if kept.len() < entries.len() {
            let size = u64::try_from(kept.len()).ok()?;
            let at = header(linked, elf.endianness, index)?.checked_add(SH_SIZE)?;
            kept.resize(entries.len(), 0);
            patches.push((range.start, kept));
            patches.push((at, long(size, elf.endianness)));
        }
    }
    Some(patches)
}

/// Sets offsets and sizes of global variables as their symbols have them; gives the maps.
fn variables<'a>(
    elf: &Elf<'_>,
    raw: &Raw<'a>,
    section_start: usize,
    patches: &mut Vec<Patch>,
) -> Option<Vec<Variable<'a>>> {
    let mut symbols: HashMap<&[u8], Symbol<'_>> = HashMap::new();
    for symbol in elf.symbols.iter() {
        if symbol.kind == STT_OBJECT && symbol.is_global() {
            symbols.insert(symbol.name()?, symbol);
        }
    }
    let mut maps = Vec::new();
    for (id, section) in raw.of_kind(BTF_KIND_DATASEC) {
        let is_maps = raw.name(section.name) == b".maps";
        let at = section_start.checked_add(raw.place(id)?)?;
        let mut member = at.checked_add(TYPE)?;
        for [id, offset, size] in section.parts() {
            let var = raw.get(id).filter(|ty| ty.kind == BTF_KIND_VAR);
            let name = var.map_or(&[][..], |var| raw.name(var.name));
            let mut place = (offset, size);
            if var.is_some_and(|var| var.word() == BTF_VAR_GLOBAL_ALLOCATED)
                && let Some(symbol) = symbols.get(name)
            {
                place.0 = u32::try_from(symbol.value).ok()?;
                if symbol.size != 0 {
                    place.1 = u32::try_from(symbol.size).ok()?;
                }
            }
            if place != (offset, size) {
                let mut bytes = word(place.0, raw.endianness);
                bytes.extend(word(place.1, raw.endianness));
                patches.push((member.checked_add(4)?, bytes));
            }
            if is_maps {
                maps.push(Variable {
                    id,
                    name: borrowed_text(name),
                    offset: place.0,
                    size: place.1,
                    linkage: Linkage::Global,
                });
            }
            member = member.checked_add(MEMBER)?;
        }
    }
    maps.sort_by_key(|variable| variable.offset);
    Some(maps)
}

/// Where the header of a section stands.
fn header(linked: &[u8], endianness: Endianness, index: usize) -> Option<usize> {
    let table = usize::try_from(u64_at(linked, E_SHOFF, endianness)?).ok()?;
    table.checked_add(index.checked_mul(SECTION_HEADER)?)
}

/// Where the bytes of a section stand.
fn file_range(elf: &Elf<'_>, linked: &[u8], index: usize) -> Option<Range<usize>> {
    let header = header(linked, elf.endianness, index)?;
    let field = |at: usize| {
        let value = u64_at(linked, header.checked_add(at)?, elf.endianness)?;
        usize::try_from(value).ok()
    };
    let start = field(SH_OFFSET)?;
    Some(start..start.checked_add(field(SH_SIZE)?)?)
}

fn word(number: u32, endianness: Endianness) -> Vec<u8> {
    match endianness {
        Endianness::Little => number.to_le_bytes().to_vec(),
        Endianness::Big => number.to_be_bytes().to_vec(),
    }
}

fn long(number: u64, endianness: Endianness) -> Vec<u8> {
    match endianness {
        Endianness::Little => number.to_le_bytes().to_vec(),
        Endianness::Big => number.to_be_bytes().to_vec(),
    }
}
