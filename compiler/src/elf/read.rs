//! Reads the ELF file with the checks of libbpf's `bpf_object__elf_init` and
//! `bpf_object__elf_collect`.

use bpfplan_plan::{Code, Diagnostic, Endianness};
use object::Endianness as ElfEndianness;
use object::elf;
use object::read::elf::{FileHeader as _, SectionHeader as _};

use super::role::role;
use super::{Elf, Program, Role, Section, Stage, Symbols};
use crate::bytes::{name_at, text};
use crate::codes;
use crate::problems::Problems;

/// How LLVM bitcode begins.
const BITCODE: &[u8] = b"BC\xc0\xde";
/// Size of `struct bpf_insn`.
const INSTRUCTION: u64 = 8;
/// Size of `Elf64_Sym` and of `Elf64_Rela`.
const SYMBOL: u64 = 24;
/// Size of `Elf64_Rel`.
const RELOCATION: u64 = 16;
/// How many times as many bytes as the file all sections together may have. Those of compilers
/// do not overlap; where many do, every byte is worked through many times.
const OVERLAP: usize = 16;

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
    machine: elf::Machine,
    sections: &'a [SectionHeader],
    names: &'a [u8],
}

/// The checks of `bpf_object__elf_init`, in its order.
fn headers(bytes: &[u8]) -> Result<Headers<'_>, Box<Diagnostic>> {
    if bytes.get(..4) != Some(&elf::ELFMAG[..]) {
        let (what, help) = match bytes.get(..4) {
            Some(BITCODE) => ("not an ELF file but LLVM bitcode", "compile without -flto"),
            _ => (
                "not an ELF file",
                "name an object that was compiled with `clang -g -target bpf -c`",
            ),
        };
        let diagnostic = Diagnostic::error(codes::NOT_ELF, what);
        return Err(Box::new(diagnostic.help(help)));
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
    let names = names.filter(|section| {
        section.sh_type(endian) == elf::SHT_STRTAB
            && !section.sh_flags(endian).contains(elf::SHF_COMPRESSED)
    });
    let names = names.and_then(|section| section.data(endian, bytes).ok());
    match names {
        Some(names) if !names.is_empty() => Ok(Headers {
            bytes,
            endian,
            machine,
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
        machine: headers.machine,
        sections: Vec::with_capacity(headers.sections.len()),
        symbols: Symbols::new(headers.endian, &[], &[]),
        programs: Vec::new(),
        maps: None,
        text: None,
        btf: None,
        btf_ext: None,
        stage: Stage::Whole,
    };
    let mut left = headers.bytes.len().saturating_mul(OVERLAP);
    for (index, header) in headers.sections.iter().enumerate() {
        let section = read_section(headers, index, header, problems);
        left = match left.checked_sub(section.data.len()) {
            Some(left) => left,
            None => return error(codes::BAD_SECTION, "the sections overlap many times over"),
        };
        match section.role {
            Role::Maps => this.maps = Some(index),
            Role::Program if section.name == b".text" => this.text = Some(index),
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
        alignment: header.sh_addralign.get(endian),
        compressed: flags.contains(elf::SHF_COMPRESSED),
        link: header.sh_link(endian),
        entry_size: header.sh_entsize.get(endian),
    };
    if index == 0 {
        return section;
    }
    match usize::try_from(header.sh_name.get(endian))
        .ok()
        .and_then(|at| name_at(headers.names, at))
    {
        Some(name) => section.name = name,
        None => {
            let message = format!("section {index} has no readable name");
            problems.add(Diagnostic::error(codes::BAD_SECTION, message));
            return section;
        }
    }
    section.role = role(&section);
    let data = header.data(endian, headers.bytes);
    section.data = data.unwrap_or_default();
    if section.role == Role::Ignored {
        return section;
    }
    let mut report = |what: &str| {
        let message = format!("section {} {what}", text(section.name));
        problems.add(Diagnostic::error(codes::BAD_SECTION, message));
    };
    if data.is_err() {
        report("lies outside of the file");
    }
    if !section.size.is_multiple_of(entry_size(section.kind)) {
        report("ends within an entry");
    }
    match section.name {
        b"license" if section.data.is_empty() => {
            report("is empty");
        }
        b"version" if section.size != 4 => {
            report("must have four bytes");
        }
        b".BTF" | b".BTF.ext" if section.kind != elf::SHT_PROGBITS => {
            report("is not of type PROGBITS");
        }
        _ => {}
    }
    section
}

/// Size of an entry in sections whose size libelf checks.
fn entry_size(kind: elf::SectionType) -> u64 {
    match kind {
        elf::SHT_SYMTAB | elf::SHT_DYNSYM | elf::SHT_RELA => SYMBOL,
        elf::SHT_REL => RELOCATION,
        elf::SHT_INIT_ARRAY | elf::SHT_FINI_ARRAY | elf::SHT_PREINIT_ARRAY => 8,
        elf::SHT_GROUP | elf::SHT_SYMTAB_SHNDX => 4,
        _ => 1,
    }
}

/// Leaves the role to those relocation sections that libbpf keeps.
fn keep_relocations(sections: &mut [Section<'_>], problems: &mut Problems) {
    let executable: Vec<bool> = sections.iter().map(|section| section.executable).collect();
    for section in sections
        .iter_mut()
        .filter(|section| section.role == Role::Relocations)
    {
        let target = usize::try_from(section.info).unwrap_or(usize::MAX);
        if section.entry_size != RELOCATION || target >= executable.len() {
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
        if !kept && executable.get(target) != Some(&true) {
            section.role = Role::Other;
        }
    }
}

fn read_symbols<'a>(
    headers: &Headers<'a>,
    sections: &[Section<'a>],
) -> Result<Symbols<'a>, Box<Diagnostic>> {
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
    let strings = strings.filter(|it| it.kind == elf::SHT_STRTAB && !it.compressed);
    let Some(strings) = strings else {
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
    Ok(Symbols::new(headers.endian, symbols, strings.data))
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
        let place = || text(section.name);
        let Some(name) = symbol.name() else {
            let message = format!("a program in section {} has no readable name", place());
            problems.add(Diagnostic::error(codes::BAD_PROGRAM, message));
            continue;
        };
        let end = symbol.value.checked_add(symbol.size);
        let broken = end.is_none_or(|end| end > section.size)
            || symbol.size == 0
            || symbol.size % INSTRUCTION != 0
            || symbol.value % INSTRUCTION != 0;
        if broken {
            let message = format!("program {} does not fit section {}", text(name), place());
            problems.add(Diagnostic::error(codes::BAD_PROGRAM, message));
            continue;
        }
        if section.name != b".text" && symbol.bind == elf::STB_LOCAL {
            let message = format!("program {} in section {} is static", text(name), place());
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
            entry_point: elf.text != Some(index),
        });
    }
    programs.sort_by_key(|program| (program.section, program.offset));
    programs
}
