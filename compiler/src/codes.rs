//! The codes of the compiler's diagnostics.

use bpfplan_plan::Code;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $title:literal;)*) => {
        $($(#[doc = $doc])+ pub const $name: Code = Code($code);)*

        /// Every code of the compiler with its one-line title, ascending.
        pub const ALL: &[(Code, &str)] = &[$(($name, $title)),*];
    };
}

codes! {
    /// The file does not start like an ELF file.
    NOT_ELF = "BP0001", "not an ELF file";
    /// The file is cut short or its tables point outside of it.
    TRUNCATED = "BP0002", "the ELF file is truncated or corrupt";
    /// BPF objects are 64-bit ELF files.
    NOT_64_BIT = "BP0003", "not a 64-bit ELF file";
    /// `e_machine` is neither `EM_BPF` nor `EM_NONE`.
    OTHER_MACHINE = "BP0004", "not a BPF object";
    /// `e_type` is not `ET_REL`.
    NOT_RELOCATABLE = "BP0005", "not a relocatable object file";
    /// libbpf needs the symbol table: `-ENOENT`.
    NO_SYMBOLS = "BP0006", "no symbol table";
    /// libbpf takes one symbol table.
    MANY_SYMBOL_TABLES = "BP0007", "more than one symbol table";
    /// A section that matters has an unusable header, name or contents.
    BAD_SECTION = "BP0008", "corrupt section";
    /// A function symbol does not fit its section.
    BAD_PROGRAM = "BP0009", "corrupt program";
    /// Programs must be global: libbpf says `-ENOTSUP`.
    STATIC_PROGRAM = "BP0010", "static program";
    /// A relocation of a program is not one that libbpf can resolve.
    BAD_PROGRAM_RELOCATION = "BP0011", "unusable relocation of a program";
    /// More problems than are listed one by one.
    TOO_MANY = "BP0099", "more problems than are listed";

    /// `.BTF` is required once there are `.maps` or struct_ops.
    NO_BTF = "BP0101", "no BTF";
    /// `.BTF` does not parse.
    BAD_BTF = "BP0102", "corrupt BTF";
    /// `.BTF.ext` does not parse, which fails libbpf's open too.
    BAD_BTF_EXT = "BP0103", "corrupt BTF.ext";
    /// Types refer to each other in a circle that nothing breaks.
    TYPE_CYCLE = "BP0104", "type cycle";
    /// A function, variable or section stands where a type should.
    NOT_A_TYPE = "BP0105", "not a type";
    /// An extern symbol has no usable BTF.
    BAD_EXTERN = "BP0106", "unusable extern";
    /// A DATASEC cannot be matched with the ELF file.
    BAD_DATASEC = "BP0107", "BTF and ELF disagree about a section";
    /// A variable of a DATASEC has no symbol.
    NO_VARIABLE_SYMBOL = "BP0108", "variable without symbol";
    /// The types do not fit into the kernel's BTF.
    BTF_TOO_LARGE = "BP0109", "the maps' types do not fit into BTF";

    /// `.maps` has no DATASEC.
    NO_MAPS_DATASEC = "BP0201", "no BTF about the section .maps";
    /// The map's name is empty or the kernel cannot take it.
    BAD_NAME = "BP0202", "unusable map name";
    /// Two maps have one name.
    DUPLICATE_NAME = "BP0203", "two maps of one name";
    /// The variable does not lie within `.maps`.
    OUTSIDE_SECTION = "BP0204", "map outside of .maps";
    /// A map must be a global variable.
    NOT_GLOBAL = "BP0205", "map is not global";
    /// A map must be a struct.
    NOT_A_STRUCT = "BP0206", "map is not a struct";
    /// The struct is larger than its variable.
    BAD_SIZE = "BP0207", "map larger than its variable";
    /// libbpf does not know this member.
    UNKNOWN_FIELD = "BP0208", "unknown field";
    /// A number must be declared with `__uint` or `__ulong`.
    BAD_NUMBER = "BP0209", "not a number";
    /// A key or value must be declared with `__type`.
    BAD_TYPE = "BP0210", "not a type declaration";
    /// The key or value has no size.
    UNSIZED = "BP0211", "key or value without size";
    /// Two sizes contradict each other.
    SIZE_CONFLICT = "BP0212", "conflicting sizes";
    /// `type` is missing.
    NO_TYPE = "BP0213", "map without a type";
    /// `pinning` has a value that libbpf does not know.
    BAD_PINNING = "BP0214", "unknown pinning";
    /// A template cannot be pinned.
    INNER_PINNED = "BP0215", "pinned inner map";
    /// A template has no `values`.
    NESTED_VALUES = "BP0216", "inner map with values";
    /// `values` must be the last member.
    VALUES_NOT_LAST = "BP0217", "values is not last";
    /// Only outer maps and program arrays have `values`.
    VALUES_NOT_ALLOWED = "BP0218", "values in a map that holds none";
    /// `values` is not declared with `__array`.
    BAD_VALUES = "BP0219", "values is not an array of pointers";
    /// The element of `values` is not what the map holds.
    BAD_ELEMENT = "BP0220", "values holds something else";
    /// An object can have one arena.
    TWO_ARENAS = "BP0221", "two arenas";
    /// The arena does not hold the arena's variables.
    ARENA_DATA = "BP0222", "arena variables without room";
    /// The kernel does not take the key and value types of this map.
    BTF_DROPPED = "BP0223", "the kernel gets no BTF for this map";
    /// A `__ulong` of 32 bits is sign-extended.
    SIGN_EXTENDED = "BP0224", "map_extra is sign-extended";
    /// A name was cut because no kernel takes it.
    LONG_NAME = "BP0225", "name too long";

    /// A relocation of `.maps` cannot be read.
    BAD_RELOCATION = "BP0350", "corrupt relocation";
    /// Slots come from SHT_REL sections; libbpf ignores SHT_RELA.
    RELA = "BP0351", "relocations with addends";
    /// A relocation lies in no map.
    NO_OWNER = "BP0352", "relocation outside of the maps";
    /// A relocation lies in a map that has no slots.
    NO_SLOTS = "BP0353", "relocation in a map without slots";
    /// A relocation lies in a map, but not in its `values`.
    OUTSIDE_VALUES = "BP0354", "relocation outside of values";
    /// The target of an outer map's slot is not a map.
    NOT_A_MAP = "BP0355", "slot holds no map";
    /// The target of a program array's slot is not an entry-point program.
    NOT_A_PROGRAM = "BP0356", "slot holds no program";
    /// Slots of a HASH_OF_MAPS need keys of four bytes.
    SLOT_KEY_SIZE = "BP0357", "slots need a key of four bytes";
    /// The relocation adds something to the address, which libbpf ignores.
    ADDEND = "BP0358", "slot with an offset";
    /// Two relocations fill one slot.
    SLOT_TWICE = "BP0359", "slot filled twice";
}
