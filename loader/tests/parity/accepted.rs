//! Where the answers of bpfplan and libbpf may differ, each with its reason.

use bpfplan_compiler::codes;
use bpfplan_plan::{Code, Plan, codes as rules};
use object::read::elf::{ElfFile64, ElfSection64, ElfSymbol64};
use object::{Endianness, Object as _, ObjectSymbol as _, SymbolKind, elf};

/// An error of ours for what libbpf opens.
pub(crate) struct Error {
    pub(crate) code: Code,
    /// What must hold of the object.
    pub(crate) holds: fn(&[u8]) -> bool,
    pub(crate) reason: &'static str,
}

pub(crate) const WE_REFUSE: &[Error] = &[
    Error {
        code: codes::TRUNCATED,
        holds: wrong_header_sizes,
        reason: "libelf does not look at e_ehsize and e_shentsize",
    },
    Error {
        code: codes::TYPE_CYCLE,
        holds: any,
        reason: "libbpf does not walk all types, the kernel refuses the BTF later",
    },
    Error {
        code: codes::NOT_A_TYPE,
        holds: any,
        reason: "libbpf does not walk all types, the kernel refuses the BTF later",
    },
    Error {
        code: codes::BAD_NAME,
        holds: any,
        reason: "the kernel refuses the name later",
    },
    Error {
        code: codes::DUPLICATE_NAME,
        holds: any,
        reason: "slots and pins go by name; libbpf takes the first map of a name for both",
    },
    Error {
        code: codes::DATA_TOO_LARGE,
        holds: any,
        reason: "a plan has a limit for global data",
    },
    Error {
        code: codes::OUTSIDE_SECTION,
        holds: wide_symbol,
        reason: "libbpf cuts the value of a symbol to 32 bits",
    },
    Error {
        code: codes::NO_OWNER,
        holds: wide_symbol,
        reason: "libbpf cuts the value of a symbol to 32 bits",
    },
    Error {
        code: codes::BAD_STRUCT_OPS,
        holds: wide_symbol,
        reason: "libbpf cuts the value of a symbol to 32 bits",
    },
    Error {
        code: codes::BAD_STRUCT_OPS_RELOCATION,
        holds: wide_symbol,
        reason: "libbpf cuts the value of a symbol to 32 bits",
    },
    Error {
        code: codes::NOT_A_PROGRAM,
        holds: nameless_function,
        reason: "libbpf takes a program without a name, slots go by name",
    },
    Error {
        code: rules::SLOT_BEYOND_END,
        holds: any,
        reason: "the kernel refuses the slot later",
    },
    Error {
        code: rules::SLOT_TARGET_IS_OUTER,
        holds: any,
        reason: "the kernel refuses the slot later",
    },
    Error {
        code: rules::SLOT_DOES_NOT_FIT,
        holds: any,
        reason: "the kernel refuses the slot later",
    },
];

/// What libbpf refuses and we do not.
pub(crate) struct Refusal {
    /// Start of the format of its last warning.
    pub(crate) warning: &'static str,
    /// What must hold of the plan and the object.
    pub(crate) holds: fn(&Plan, &[u8]) -> bool,
    pub(crate) reason: &'static str,
}

pub(crate) const LIBBPF_REFUSES: &[Refusal] = &[
    Refusal {
        warning: "elf: legacy map definitions in 'maps' section",
        holds: |plan, _| plan.object.legacy_maps,
        reason: "legacy maps are planned, libbpf 1.x does not open them",
    },
    Refusal {
        warning: "failed to alloc map '%s' content buffer",
        holds: |plan, _| plan.maps.iter().any(|map| map.data.is_some()),
        reason: "the test leaves libbpf too little memory for global data",
    },
    Refusal {
        warning: ".maps relo #%d: cannot find map",
        holds: |_, object| foreign_and_compressed(object),
        reason: "libelf does not swap the bytes of a section that is said to be compressed",
    },
];

/// Signals that end libbpf for objects that we open.
pub(crate) const DIES: &[(i32, &str)] = &[];

fn any(_: &[u8]) -> bool {
    true
}

fn wrong_header_sizes(object: &[u8]) -> bool {
    let little = object[5] == 1;
    let field = |at: usize| match little {
        true => u16::from_le_bytes([object[at], object[at + 1]]),
        false => u16::from_be_bytes([object[at], object[at + 1]]),
    };
    (field(52), field(58)) != (64, 64)
}

fn wide_symbol(object: &[u8]) -> bool {
    any_symbol(object, |symbol| symbol.address() > u64::from(u32::MAX))
}

fn foreign_and_compressed(object: &[u8]) -> bool {
    let Ok(file) = ElfFile64::<'_, Endianness>::parse(object) else {
        return false;
    };
    let compressed = |section: ElfSection64<'_, '_>| {
        let flags = section.elf_section_header().sh_flags.get(file.endianness());
        flags.0 & elf::SHF_COMPRESSED.0 != 0
    };
    file.endianness() != Endianness::default()
        && file.section_by_name(".rel.maps").is_some_and(compressed)
}

fn nameless_function(object: &[u8]) -> bool {
    any_symbol(object, |symbol| {
        symbol.kind() == SymbolKind::Text && symbol.name_bytes() == Ok(b"")
    })
}

fn any_symbol(object: &[u8], holds: fn(&ElfSymbol64<'_, '_>) -> bool) -> bool {
    let file = ElfFile64::<'_, Endianness>::parse(object);
    file.is_ok_and(|file| file.symbols().any(|symbol| holds(&symbol)))
}
