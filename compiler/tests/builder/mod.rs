//! Builds small BPF objects, good and bad, without a compiler.
#![allow(dead_code, unreachable_pub)] // Every test uses a part of it.

use std::collections::HashMap;
use std::ops::Range;

use bpfplan_plan::types::{Composite, IntEncoding, Linkage, Member, SecVar, Type, TypeId};
use bpfplan_plan::{Endianness, btf, uapi};
use object::read::elf::ElfFile64;
use object::write::{Object, Relocation, SectionId, Symbol, SymbolFlags, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Object as _, ObjectSection as _, RelocationFlags, SectionKind,
    SymbolKind, SymbolScope, elf,
};

/// What `.maps` declares.
pub struct Maps {
    /// Another section, if it is not `.maps`.
    pub section: &'static str,
    /// More sections: debug information.
    pub others: Vec<(&'static str, Vec<u8>)>,
    pub types: Vec<Type>,
    pub vars: Vec<SecVar>,
    /// Name, offset and size of each variable.
    pub symbols: Vec<(String, u32, u32)>,
    /// Offset and name of the target of each relocation.
    pub relocations: Vec<(u64, String)>,
    /// Name and section of each function; a target that is neither map nor function becomes an
    /// XDP program.
    pub functions: Vec<(String, String)>,
    /// Size of the DATASEC; compilers leave it 0.
    pub section_size: u32,
    pub endianness: Endianness,
    int: TypeId,
}

impl Maps {
    pub fn new() -> Self {
        let int = Type::Int {
            name: "int".to_owned(),
            size: 4,
            bits: 32,
            bit_offset: 0,
            encoding: IntEncoding::Signed,
        };
        Self {
            section: ".maps",
            others: Vec::new(),
            types: vec![int],
            vars: Vec::new(),
            symbols: Vec::new(),
            relocations: Vec::new(),
            functions: Vec::new(),
            section_size: 0,
            endianness: Endianness::Little,
            int: TypeId(1),
        }
    }

    pub fn int(&self) -> TypeId {
        self.int
    }

    pub fn add(&mut self, ty: Type) -> TypeId {
        self.types.push(ty);
        TypeId(u32::try_from(self.types.len()).unwrap())
    }

    pub fn pointer(&mut self, to: TypeId) -> TypeId {
        self.add(Type::Ptr { to })
    }

    /// `__uint(..., number)`.
    pub fn number(&mut self, length: u32) -> TypeId {
        let array = self.add(Type::Array {
            element: self.int,
            index: self.int,
            length,
        });
        self.pointer(array)
    }

    /// `__array(values, struct inner)`.
    pub fn values(&mut self, inner: TypeId) -> TypeId {
        let element = self.pointer(inner);
        self.add(Type::Array {
            element,
            index: self.int,
            length: 0,
        })
    }

    pub fn structure(&mut self, name: Option<&str>, members: &[(&str, TypeId)]) -> TypeId {
        let members: Vec<_> = (0..)
            .zip(members)
            .map(|(index, (name, ty))| Member {
                name: Some((*name).to_owned()).filter(|name| !name.is_empty()),
                ty: *ty,
                bit_offset: 64 * index,
                bitfield_size: None,
            })
            .collect();
        let size = 8 * u32::try_from(members.len()).unwrap();
        self.add(Type::Struct(Composite {
            name: name.map(str::to_owned),
            size,
            members,
        }))
    }

    /// Declares a map variable of a struct with `size` bytes; returns its offset in `.maps`.
    pub fn variable(&mut self, name: &str, ty: TypeId, size: u32) -> u32 {
        let var = self.add(Type::Var {
            name: name.to_owned(),
            to: ty,
            linkage: Linkage::Global,
        });
        let offset = self
            .symbols
            .last()
            .map_or(0, |(_, offset, size)| offset + size);
        self.vars.push(SecVar {
            var,
            offset: 0,
            size,
        });
        self.symbols.push((name.to_owned(), offset, size));
        offset
    }

    /// An ARRAY map with four entries of `int`.
    pub fn array(&mut self, name: &str) -> u32 {
        let ty = self.array_struct();
        self.variable(name, ty, 32)
    }

    pub fn array_struct(&mut self) -> TypeId {
        let members = [
            ("type", self.number(uapi::BPF_MAP_TYPE_ARRAY)),
            ("max_entries", self.number(4)),
            ("key", self.pointer(self.int)),
            ("value", self.pointer(self.int)),
        ];
        self.structure(None, &members)
    }

    /// An ARRAY_OF_MAPS with eight slots for maps like [`Maps::array`]; returns the offset of its
    /// `values`.
    pub fn outer(&mut self, name: &str) -> u32 {
        let inner = self.array_struct();
        let members = [
            ("type", self.number(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS)),
            ("max_entries", self.number(8)),
            ("key", self.pointer(self.int)),
            ("values", self.values(inner)),
        ];
        let ty = self.structure(None, &members);
        self.variable(name, ty, 24 + 8 * 8) + 24
    }

    pub fn relocation(&mut self, offset: u32, target: &str) {
        self.relocations
            .push((u64::from(offset), target.to_owned()));
    }

    /// The BTF blob, with the DATASEC that compilers write.
    pub fn btf(&self) -> Vec<u8> {
        let mut types = self.types.clone();
        let name = self.section.to_owned();
        types.push(Type::Datasec {
            name,
            size: self.section_size,
            vars: self.vars.clone(),
        });
        btf::encode(&types, self.endianness).unwrap()
    }

    /// The object file.
    pub fn object(&self) -> Vec<u8> {
        self.object_with(&self.btf())
    }

    /// The object file with another BTF section.
    pub fn object_with(&self, btf: &[u8]) -> Vec<u8> {
        let endianness = match self.endianness {
            Endianness::Little => object::Endianness::Little,
            Endianness::Big => object::Endianness::Big,
        };
        let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, endianness);
        let section = |file: &mut Object<'_>, name: &str, kind: SectionKind| {
            file.add_section(Vec::new(), name.as_bytes().to_vec(), kind)
        };
        let maps = section(&mut file, self.section, SectionKind::Data);
        let size = self
            .symbols
            .iter()
            .map(|(_, offset, size)| offset + size)
            .max()
            .unwrap_or(0);
        file.append_section_data(maps, &vec![0; usize::try_from(size).unwrap()], 8);
        let data = section(&mut file, ".BTF", SectionKind::Debug);
        file.append_section_data(data, btf, 4);
        for (name, bytes) in &self.others {
            let other = section(&mut file, name, SectionKind::Debug);
            file.append_section_data(other, bytes, 1);
        }
        let ids: Vec<SymbolId> = self
            .symbols
            .iter()
            .map(|(name, offset, size)| add_symbol(&mut file, maps, name, *offset, *size))
            .collect();
        let mut names: Vec<(&str, SymbolId)> = self
            .symbols
            .iter()
            .map(|(name, ..)| name.as_str())
            .zip(ids)
            .collect();
        let mut sections = HashMap::new();
        for (name, section) in &self.functions {
            names.push((name, add_function(&mut file, &mut sections, name, section)));
        }
        for (offset, target) in &self.relocations {
            let known = names.iter().find(|(name, _)| name == target);
            let symbol = match known {
                Some((_, symbol)) => *symbol,
                None => add_function(&mut file, &mut sections, target, "xdp"),
            };
            let flags = RelocationFlags::Elf {
                r_type: elf::RelocationType(2),
            };
            file.add_relocation(
                maps,
                Relocation {
                    offset: *offset,
                    symbol,
                    addend: 0,
                    flags,
                },
            )
            .unwrap();
        }
        file.write().unwrap()
    }
}

fn add_symbol(
    file: &mut Object<'_>,
    section: SectionId,
    name: &str,
    offset: u32,
    size: u32,
) -> SymbolId {
    file.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: u64::from(offset),
        size: u64::from(size),
        kind: SymbolKind::Data,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    })
}

/// A function of one instruction, `exit`.
fn add_function(
    file: &mut Object<'_>,
    sections: &mut HashMap<String, SectionId>,
    name: &str,
    section: &str,
) -> SymbolId {
    let section = *sections.entry(section.to_owned()).or_insert_with(|| {
        file.add_section(Vec::new(), section.as_bytes().to_vec(), SectionKind::Text)
    });
    let offset = file.append_section_data(section, &[0x95, 0, 0, 0, 0, 0, 0, 0], 8);
    file.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: offset,
        size: 8,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    })
}

/// Where the section of that name lies in a whole object file; `None` if it has none.
pub fn section(object: &[u8], name: &str) -> Option<Range<usize>> {
    let file: ElfFile64<'_> = ElfFile64::parse(object).unwrap();
    let section = file.section_by_name(name)?;
    let (offset, size) = section.file_range()?;
    let place = offset..offset + size;
    Some(usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap())
}

/// The object with so many more headers for the section of that name, all over the same bytes.
pub fn repeated(object: &[u8], name: &str, count: usize) -> Vec<u8> {
    /// `sizeof(Elf64_Shdr)`, and where `sh_size` stands in it.
    const HEADER: usize = 64;
    const SIZE: Range<usize> = 32..40;
    /// Where `e_shoff` and `e_shnum` stand in `Elf64_Ehdr`.
    const OFFSET: Range<usize> = 40..48;
    const NUMBER: Range<usize> = 60..62;
    let file: ElfFile64<'_> = ElfFile64::parse(object).unwrap();
    let index = file.section_by_name(name).unwrap().index().0;
    let start = u64::from_le_bytes(object[OFFSET].try_into().unwrap());
    let number = u16::from_le_bytes(object[NUMBER].try_into().unwrap());
    let start = usize::try_from(start).unwrap();
    let mut headers = object[start..start + HEADER * usize::from(number)].to_vec();
    headers.extend(headers[HEADER * index..][..HEADER].repeat(count));
    // The first header has the number that 16 bits may not hold.
    let number = u64::try_from(headers.len() / HEADER).unwrap();
    headers[SIZE].copy_from_slice(&number.to_le_bytes());
    let mut object = object.to_vec();
    object.resize(object.len().next_multiple_of(8), 0);
    let start = u64::try_from(object.len()).unwrap();
    object[OFFSET].copy_from_slice(&start.to_le_bytes());
    object[NUMBER].fill(0);
    object.extend(headers);
    object
}
