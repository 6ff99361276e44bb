//! The ELF file: sections by their role, symbols and functions.

mod read;
mod role;
mod symbols;

use std::collections::HashMap;

use bpfplan_plan::{Endianness, Source};
use object::Endianness as ElfEndianness;
use object::elf;

use crate::bytes::u64_at;

pub(crate) use read::read;
pub(crate) use role::Role;
pub(crate) use symbols::{Symbol, Symbols};

/// An ELF object as far as maps are concerned.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    pub(crate) endianness: Endianness,
    /// `e_machine`: BPF or none.
    pub(crate) machine: elf::Machine,
    /// All sections; the index is the section's number.
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) symbols: Symbols<'a>,
    /// Programs and subprograms by section and offset.
    pub(crate) programs: Vec<Program<'a>>,
    /// Number of the section `.maps`.
    pub(crate) maps: Option<usize>,
    /// Number of the section `.text`, whose functions are subprograms.
    pub(crate) text: Option<usize>,
    /// Contents of `.BTF`.
    pub(crate) btf: Option<&'a [u8]>,
    /// Contents of `.BTF.ext`.
    pub(crate) btf_ext: Option<&'a [u8]>,
    /// What the object is to the plan.
    pub(crate) stage: Stage<'a>,
}

/// What an object is to the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage<'a> {
    /// All of it.
    Whole,
    /// All of it, whose DWARF is not looked at.
    WithoutPlaces,
    /// One of several that will be linked: others may define what it only declares.
    Part,
    /// What the linker made of several, which has no DWARF: places come from its inputs.
    Linked(&'a HashMap<String, Source>),
}

/// A section.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: elf::SectionType,
    pub(crate) size: u64,
    pub(crate) info: u32,
    /// Contents, empty if it has none in the file or if they cannot be read.
    pub(crate) data: &'a [u8],
    pub(crate) role: Role,
    pub(crate) executable: bool,
    pub(crate) alignment: u64,
    compressed: bool,
    link: u32,
    entry_size: u64,
}

/// A function with instructions.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) section: usize,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// Whether it can be loaded; functions in `.text` are only called.
    pub(crate) entry_point: bool,
}

/// One `Elf64_Rel`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    /// `R_BPF_*`.
    pub(crate) kind: u64,
    /// Number of the symbol.
    pub(crate) symbol: usize,
}

impl<'a> Elf<'a> {
    /// The first section of that name.
    pub(crate) fn section(&self, name: &[u8]) -> Option<&Section<'a>> {
        self.sections
            .iter()
            .skip(1)
            .find(|section| section.name == name)
    }

    /// The contents of the first section of that name, if they are in the file as they are.
    pub(crate) fn plain_data(&self, name: &[u8]) -> &'a [u8] {
        match self.section(name) {
            Some(section) if !section.compressed => section.data,
            _ => &[],
        }
    }

    /// The entries of a section of type SHT_REL.
    pub(crate) fn relocations(
        &self,
        section: &Section<'a>,
    ) -> impl Iterator<Item = Entry> + use<'a> {
        let endianness = self.endianness;
        section
            .data
            .chunks_exact(size_of::<elf::Rel64<ElfEndianness>>())
            .map(move |entry| {
                let offset = u64_at(entry, 0, endianness).unwrap_or_default();
                let info = u64_at(entry, 8, endianness).unwrap_or_default();
                let symbol = usize::try_from(info >> 32).unwrap_or(usize::MAX);
                Entry {
                    offset,
                    kind: info & u64::from(u32::MAX),
                    symbol,
                }
            })
    }

    /// Whether libbpf needs BTF for this object (`libbpf_needs_btf`).
    pub(crate) fn needs_btf(&self) -> bool {
        self.maps.is_some()
            || self
                .sections
                .iter()
                .any(|section| section.role == Role::StructOps)
    }
}
