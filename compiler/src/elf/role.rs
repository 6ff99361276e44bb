//! What libbpf makes of a section.

use object::elf;

use super::Section;

/// LLVM's table of address-significant symbols.
const SHT_LLVM_ADDRSIG: elf::SectionType = elf::SectionType(0x6fff_4c03);

/// The roles of sections in `bpf_object__elf_collect`.
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

/// The first condition that holds decides, as in libbpf.
pub(super) fn role(section: &Section<'_>) -> Role {
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
