//! The ELF file: sections by their role, symbols and programs, checked as libbpf checks them.

use std::collections::HashSet;

use bpfplan_plan::{Code, Diagnostic, Endianness};
use object::Endianness as ElfEndianness;
use object::elf;
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};

use crate::bytes::{name_at, text, u64_at};
use crate::codes;
use crate::problems::Problems;

/// Size of `struct bpf_insn`.
const INSTRUCTION: u64 = 8;
/// Size of `Elf64_Sym`.
const SYMBOL: u64 = 24;
/// LLVM's table of address-significant symbols.
const SHT_LLVM_ADDRSIG: elf::SectionType = elf::SectionType(0x6fff_4c03);
/// Size of `Elf64_Rel`.
const RELOCATION: u64 = 16;

/// An ELF object as far as maps are concerned.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    pub(crate) endianness: Endianness,
    /// All sections; the index is the section's number.
    pub(crate) sections: Vec<Section<'a>>,
    /// All symbols; the index is the symbol's number.
    pub(crate) symbols: Vec<Symbol<'a>>,
    /// Programs and subprograms by section and offset.
    pub(crate) programs: Vec<Program<'a>>,
    /// Number of the section `.maps`.
    pub(crate) maps: Option<usize>,
    /// Contents of `.BTF`.
    pub(crate) btf: Option<&'a [u8]>,
    /// Contents of `.BTF.ext`.
    pub(crate) btf_ext: Option<&'a [u8]>,
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
    executable: bool,
    compressed: bool,
    link: u32,
    entry_size: u64,
}

/// What libbpf makes of a section (`bpf_object__elf_collect`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing that matters to maps.
    Other,
    /// Skipped by libbpf before it looks at the contents.
    Ignored,
    /// The definitions of BTF-defined maps.
    Maps,
    /// Legacy map definitions.
    LegacyMaps,
    /// Initialised global data.
    Data,
    /// Read-only global data.
    Rodata,
    /// Zero-initialised global data.
    Bss,
    /// struct_ops variables.
    StructOps,
    /// Global variables in an arena.
    Arena,
    /// Jump tables of programs.
    JumpTables,
    /// Instructions.
    Program,
    /// Relocations that libbpf looks at.
    Relocations,
}

/// A symbol.
#[derive(Debug)]
pub(crate) struct Symbol<'a> {
    /// `None` if the string table does not have it.
    pub(crate) name: Option<&'a [u8]>,
    pub(crate) kind: elf::SymbolType,
    pub(crate) bind: elf::SymbolBind,
    pub(crate) visibility: elf::SymbolVisibility,
    pub(crate) section: u16,
    pub(crate) value: u64,
    size: u64,
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

impl Symbol<'_> {
    /// Whether other objects can see the symbol.
    pub(crate) fn is_global(&self) -> bool {
        self.bind == elf::STB_GLOBAL || self.bind == elf::STB_WEAK
    }

    /// Whether the symbol is to be found in another object or the kernel.
    pub(crate) fn is_extern(&self) -> bool {
        self.section == 0 && self.is_global() && self.kind == elf::STT_NOTYPE
    }

    /// Whether the symbol is hidden from other objects in spite of its binding.
    pub(crate) fn is_hidden(&self) -> bool {
        self.visibility == elf::STV_HIDDEN || self.visibility == elf::STV_INTERNAL
    }
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

type Header = elf::FileHeader64<ElfEndianness>;
type SectionHeader = elf::SectionHeader64<ElfEndianness>;

fn error<T>(code: Code, message: impl Into<String>) -> Result<T, Box<Diagnostic>> {
    Err(Box::new(Diagnostic::error(code, message)))
}

/// Reads the object; `None` if there is nothing to go on with.
pub(crate) fn read<'a>(bytes: &'a [u8], problems: &mut Problems) -> Option<Elf<'a>> {
    match headers(bytes).and_then(|headers| collect(&headers, problems)) {
        Ok(elf) => Some(elf),
        Err(diagnostic) => {
            problems.add(*diagnostic);
            None
        }
    }
}

struct Headers<'a> {
    bytes: &'a [u8],
    endian: ElfEndianness,
    sections: &'a [SectionHeader],
    names: &'a [u8],
}

/// The checks of `bpf_object__elf_init`, in its order.
fn headers(bytes: &[u8]) -> Result<Headers<'_>, Box<Diagnostic>> {
    if bytes.get(..4) != Some(&elf::ELFMAG[..]) {
        return error(codes::NOT_ELF, "not an ELF file");
    }
    if bytes
        .get(4)
        .is_some_and(|class| *class != elf::ELFCLASS64.0)
    {
        return error(codes::NOT_64_BIT, "not a 64-bit ELF file, BPF objects are");
    }
    let corrupt = |_| {
        let message = "the ELF file is truncated or corrupt: its headers are incomplete";
        Box::new(Diagnostic::error(codes::TRUNCATED, message))
    };
    let header = Header::parse(bytes).map_err(corrupt)?;
    let endian = header.endian().map_err(corrupt)?;
    if header.e_type(endian) != elf::ET_REL {
        let help = "give the output of the compiler, not of a linker for programs";
        let diagnostic = Diagnostic::error(codes::NOT_RELOCATABLE, "not a relocatable object file");
        return Err(Box::new(diagnostic.help(help)));
    }
    let machine = header.e_machine(endian);
    if machine != elf::EM_BPF && machine != elf::EM_NONE {
        let message = format!("not a BPF object: it is for machine {}", machine.0);
        return Err(Box::new(
            Diagnostic::error(codes::OTHER_MACHINE, message).help("compile with --target=bpf"),
        ));
    }
    let sections = header.section_headers(endian, bytes).map_err(corrupt)?;
    let names = header.shstrndx(endian, bytes).map_err(corrupt)?;
    let names = usize::try_from(names)
        .ok()
        .and_then(|index| sections.get(index));
    let names = names.filter(|section| section.sh_type(endian) == elf::SHT_STRTAB);
    let names = names.and_then(|section| section.data(endian, bytes).ok());
    match names {
        Some(names) if !names.is_empty() => Ok(Headers {
            bytes,
            endian,
            sections,
            names,
        }),
        _ => error(
            codes::TRUNCATED,
            "the ELF file is truncated or corrupt: the sections' names cannot be read",
        ),
    }
}

/// What `bpf_object__elf_collect` does, except that it goes on after a problem.
fn collect<'a>(headers: &Headers<'a>, problems: &mut Problems) -> Result<Elf<'a>, Box<Diagnostic>> {
    let mut this = Elf {
        endianness: match headers.endian {
            ElfEndianness::Little => Endianness::Little,
            ElfEndianness::Big => Endianness::Big,
        },
        sections: Vec::with_capacity(headers.sections.len()),
        symbols: Vec::new(),
        programs: Vec::new(),
        maps: None,
        btf: None,
        btf_ext: None,
    };
    for (index, header) in headers.sections.iter().enumerate() {
        let section = read_section(headers, index, header, problems);
        match section.role {
            Role::Maps => this.maps = Some(index),
            Role::Other if section.name == b".BTF" => this.btf = Some(section.data),
            Role::Other if section.name == b".BTF.ext" => this.btf_ext = Some(section.data),
            _ => {}
        }
        this.sections.push(section);
    }
    keep_relocations(&mut this.sections, problems);
    this.symbols = read_symbols(headers, &this.sections)?;
    this.programs = find_programs(&this, problems);
    Ok(this)
}

fn read_section<'a>(
    headers: &Headers<'a>,
    index: usize,
    header: &SectionHeader,
    problems: &mut Problems,
) -> Section<'a> {
    let endian = headers.endian;
    let flags = header.sh_flags(endian);
    let mut section = Section {
        name: &[],
        kind: header.sh_type(endian),
        size: header.sh_size.get(endian),
        info: header.sh_info(endian),
        data: &[],
        role: Role::Ignored,
        executable: flags.contains(elf::SHF_EXECINSTR),
        compressed: flags.contains(elf::SHF_COMPRESSED),
        link: header.sh_link(endian),
        entry_size: header.sh_entsize.get(endian),
    };
    if index == 0 {
        return section;
    }
    let bad = |message: String| Diagnostic::error(codes::BAD_SECTION, message);
    match usize::try_from(header.sh_name.get(endian))
        .ok()
        .and_then(|at| name_at(headers.names, at))
    {
        Some(name) => section.name = name,
        None => {
            problems.add(bad(format!("section {index} has no readable name")));
            return section;
        }
    }
    section.role = role(&section);
    let data = header.data(endian, headers.bytes);
    section.data = data.unwrap_or_default();
    if section.role == Role::Ignored {
        return section;
    }
    let name = text(section.name);
    if data.is_err() {
        problems.add(bad(format!("section {name} lies outside of the file")));
    }
    match section.name {
        b"license" if section.data.is_empty() => {
            problems.add(bad("section license is empty".to_owned()));
        }
        b"version" if section.size != 4 => {
            problems.add(bad("section version must have four bytes".to_owned()));
        }
        b".BTF" | b".BTF.ext" if section.kind != elf::SHT_PROGBITS => {
            problems.add(bad(format!("section {name} is not of type PROGBITS")));
        }
        _ => {}
    }
    section
}

/// The first condition that holds decides, as in libbpf.
fn role(section: &Section<'_>) -> Role {
    let name = section.name;
    let filled = section.size > 0;
    let is = |base: &[u8]| {
        name.strip_prefix(base)
            .is_some_and(|rest| rest.first().is_none_or(|next| *next == b'.'))
    };
    let debug = name
        .strip_prefix(b".rel")
        .unwrap_or(name)
        .starts_with(b".debug_");
    if section.kind == elf::SHT_STRTAB
        || section.kind == SHT_LLVM_ADDRSIG
        || section.kind == elf::SHT_PROGBITS && !filled && name == b".text"
        || debug
        || matches!(name, b".rel.BTF" | b".rel.BTF.ext")
    {
        return Role::Ignored;
    }
    match name {
        b"license" | b"version" | b".BTF" | b".BTF.ext" => return Role::Other,
        b"maps" => return Role::LegacyMaps,
        b".maps" => return Role::Maps,
        _ => {}
    }
    if section.kind == elf::SHT_REL {
        return Role::Relocations;
    }
    if section.kind == elf::SHT_NOBITS {
        return if is(b".bss") { Role::Bss } else { Role::Other };
    }
    if section.kind != elf::SHT_PROGBITS || !filled {
        return Role::Other;
    }
    match name {
        _ if section.executable => Role::Program,
        _ if is(b".data") => Role::Data,
        _ if is(b".rodata") => Role::Rodata,
        b".struct_ops" | b".struct_ops.link" | b"?.struct_ops" | b"?.struct_ops.link" => {
            Role::StructOps
        }
        b".addr_space.1" => Role::Arena,
        b".jumptables" => Role::JumpTables,
        _ => Role::Other,
    }
}

/// Leaves the role to those relocation sections that libbpf keeps.
fn keep_relocations(sections: &mut [Section<'_>], problems: &mut Problems) {
    let executable: HashSet<usize> = sections
        .iter()
        .enumerate()
        .filter(|(_, section)| section.executable)
        .map(|(index, _)| index)
        .collect();
    let count = sections.len();
    for section in sections
        .iter_mut()
        .filter(|section| section.role == Role::Relocations)
    {
        let target = usize::try_from(section.info).unwrap_or(usize::MAX);
        if section.entry_size != RELOCATION || target >= count {
            let name = text(section.name);
            let message = format!("the relocation section {name} has a corrupt header");
            problems.add(Diagnostic::error(codes::BAD_SECTION, message));
            section.role = Role::Other;
            continue;
        }
        let kept = matches!(
            section.name,
            b".rel.maps"
                | b".rel.struct_ops"
                | b".rel.struct_ops.link"
                | b".rel?.struct_ops"
                | b".rel?.struct_ops.link"
        );
        if !kept && !executable.contains(&target) {
            section.role = Role::Other;
        }
    }
}

fn read_symbols<'a>(
    headers: &Headers<'a>,
    sections: &[Section<'a>],
) -> Result<Vec<Symbol<'a>>, Box<Diagnostic>> {
    let mut tables = sections
        .iter()
        .skip(1)
        .filter(|section| section.kind == elf::SHT_SYMTAB);
    let Some(table) = tables.next() else {
        let diagnostic = Diagnostic::error(codes::NO_SYMBOLS, "the object has no symbol table");
        return Err(Box::new(diagnostic.help(
            "strip debug information only, for example with llvm-strip -g",
        )));
    };
    if tables.next().is_some() {
        return error(
            codes::MANY_SYMBOL_TABLES,
            "the object has more than one symbol table",
        );
    }
    let strings = usize::try_from(table.link).ok().filter(|link| *link != 0);
    let strings = strings.and_then(|link| sections.get(link));
    let Some(strings) = strings.filter(|strings| strings.kind == elf::SHT_STRTAB) else {
        return error(codes::BAD_SECTION, "the symbols' names cannot be found");
    };
    if table.entry_size != SYMBOL {
        return error(
            codes::BAD_SECTION,
            "the symbol table has entries of a wrong size",
        );
    }
    let count = table.data.len() / size_of::<elf::Sym64<ElfEndianness>>();
    let symbols = object::pod::slice_from_bytes::<elf::Sym64<ElfEndianness>>(table.data, count);
    let Ok((symbols, _)) = symbols else {
        return error(codes::BAD_SECTION, "the symbol table cannot be read");
    };
    let endian = headers.endian;
    let read = |symbol: &elf::Sym64<ElfEndianness>| Symbol {
        name: usize::try_from(symbol.st_name.get(endian))
            .ok()
            .and_then(|at| name_at(strings.data, at)),
        kind: symbol.st_type(),
        bind: symbol.st_bind(),
        visibility: symbol.st_visibility(),
        section: symbol.st_shndx(endian).0,
        value: symbol.st_value.get(endian),
        size: symbol.st_size.get(endian),
    };
    Ok(symbols.iter().map(read).collect())
}

/// The programs as `bpf_object__add_programs` finds them.
fn find_programs<'a>(elf: &Elf<'a>, problems: &mut Problems) -> Vec<Program<'a>> {
    let mut programs = Vec::new();
    for symbol in elf
        .symbols
        .iter()
        .filter(|symbol| symbol.kind == elf::STT_FUNC)
    {
        let index = usize::from(symbol.section);
        let Some(section) = elf
            .sections
            .get(index)
            .filter(|it| it.role == Role::Program)
        else {
            continue;
        };
        let place = text(section.name);
        let Some(name) = symbol.name else {
            let message = format!("a program in section {place} has no readable name");
            problems.add(Diagnostic::error(codes::BAD_PROGRAM, message));
            continue;
        };
        let end = symbol.value.checked_add(symbol.size);
        let broken = end.is_none_or(|end| end > section.size)
            || symbol.size == 0
            || symbol.size % INSTRUCTION != 0
            || symbol.value % INSTRUCTION != 0;
        if broken {
            let message = format!("program {} does not fit section {place}", text(name));
            problems.add(Diagnostic::error(codes::BAD_PROGRAM, message));
            continue;
        }
        let entry_point = section.name != b".text";
        if entry_point && symbol.bind == elf::STB_LOCAL {
            let message = format!("program {} in section {place} is static", text(name));
            let diagnostic = Diagnostic::error(codes::STATIC_PROGRAM, message);
            problems.add(diagnostic.help("make the function global or remove its SEC()"));
            continue;
        }
        let (offset, size) = (symbol.value, symbol.size);
        programs.push(Program {
            name,
            section: index,
            offset,
            size,
            entry_point,
        });
    }
    programs.sort_by_key(|program| (program.section, program.offset));
    programs
}
