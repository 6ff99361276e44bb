//! The codes of the compiler's diagnostics.

bpfplan_plan::codes! {
    /// The file does not start like an ELF file.
    pub NOT_ELF = "BP0001", "not an ELF file";
    /// The file is cut short or its tables point outside of it.
    pub TRUNCATED = "BP0002", "the ELF file is truncated or corrupt";
    /// BPF objects are 64-bit ELF files.
    pub NOT_64_BIT = "BP0003", "not a 64-bit ELF file";
    /// `e_machine` is neither `EM_BPF` nor `EM_NONE`.
    pub OTHER_MACHINE = "BP0004", "not a BPF object";
    /// `e_type` is not `ET_REL`.
    pub NOT_RELOCATABLE = "BP0005", "not a relocatable object file";
    /// libbpf needs the symbol table: `-ENOENT`.
    pub NO_SYMBOLS = "BP0006", "no symbol table";
    /// libbpf takes one symbol table.
    pub MANY_SYMBOL_TABLES = "BP0007", "more than one symbol table";
    /// A section that matters has an unusable header, name or contents.
    pub BAD_SECTION = "BP0008", "corrupt section";
    /// A function symbol does not fit its section.
    pub BAD_PROGRAM = "BP0009", "corrupt program";
    /// Programs must be global: libbpf says `-ENOTSUP`.
    pub STATIC_PROGRAM = "BP0010", "static program";
    /// A relocation of a program is not one that libbpf can resolve.
    pub BAD_PROGRAM_RELOCATION = "BP0011", "unusable relocation of a program";
    /// Two objects define one name, and neither definition is weak.
    pub TWO_DEFINITIONS = "BP0020", "two definitions of one name";
    /// Objects declare one name in different ways.
    pub DECLARATIONS_DIFFER = "BP0021", "declarations of one name differ";
    /// Something is declared and no object defines it.
    pub UNDEFINED = "BP0022", "nobody defines it";
    /// Objects have different licences or kernel versions.
    pub SECTIONS_DIFFER = "BP0023", "objects that cannot be one";
    /// Objects of both byte orders cannot be linked.
    pub MIXED_BYTE_ORDER = "BP0024", "objects of both byte orders";
    /// An object breaks a rule that the linker relies on.
    pub UNSOUND_PART = "BP0025", "object that cannot be linked";
    /// Linking would take too long or too much memory.
    pub TOO_MUCH_TO_LINK = "BP0026", "too much to link";

    /// More problems than are listed one by one.
    pub TOO_MANY = "BP0099", "more problems than are listed";

    /// `.BTF` is required once there are `.maps` or struct_ops.
    pub NO_BTF = "BP0101", "no BTF";
    /// `.BTF` does not parse.
    pub BAD_BTF = "BP0102", "corrupt BTF";
    /// `.BTF.ext` does not parse, which fails libbpf's open too.
    pub BAD_BTF_EXT = "BP0103", "corrupt BTF.ext";
    /// Types refer to each other in a circle that nothing breaks.
    pub TYPE_CYCLE = "BP0104", "type cycle";
    /// A function, variable or section stands where a type should.
    pub NOT_A_TYPE = "BP0105", "not a type";
    /// An extern symbol has no usable BTF.
    pub BAD_EXTERN = "BP0106", "unusable extern";
    /// A DATASEC cannot be matched with the ELF file.
    pub BAD_DATASEC = "BP0107", "BTF and ELF disagree about a section";
    /// A variable of a DATASEC has no symbol.
    pub NO_VARIABLE_SYMBOL = "BP0108", "variable without symbol";
    /// The types do not fit into the kernel's BTF.
    pub BTF_TOO_LARGE = "BP0109", "the maps' types do not fit into BTF";
    /// The sections of global data have more bytes than a plan may have.
    pub DATA_TOO_LARGE = "BP0110", "too much global data";
    /// Relocations of global data have no effect.
    pub DATA_RELOCATIONS = "BP0111", "pointers in global data";
    /// Values in `.kconfig` that libbpf mixes up.
    pub BAD_KCONFIG = "BP0119", "unusable kernel configuration value";
    /// Types are nested deeper than a plan may have them.
    pub TOO_DEEP = "BP0120", "types are nested too deeply";

    /// `.maps` has no DATASEC.
    pub NO_MAPS_DATASEC = "BP0201", "no BTF about the section .maps";
    /// The map's name is empty or the kernel cannot take it.
    pub BAD_NAME = "BP0202", "unusable map name";
    /// Two maps have one name.
    pub DUPLICATE_NAME = "BP0203", "two maps of one name";
    /// The variable does not lie within `.maps`.
    pub OUTSIDE_SECTION = "BP0204", "map outside of .maps";
    /// A map must be a global variable.
    pub NOT_GLOBAL = "BP0205", "map is not global";
    /// A map must be a struct.
    pub NOT_A_STRUCT = "BP0206", "map is not a struct";
    /// The struct is larger than its variable.
    pub BAD_SIZE = "BP0207", "map larger than its variable";
    /// libbpf does not know this member.
    pub UNKNOWN_FIELD = "BP0208", "unknown field";
    /// A number must be declared with `__uint` or `__ulong`.
    pub BAD_NUMBER = "BP0209", "not a number";
    /// A key or value must be declared with `__type`.
    pub BAD_TYPE = "BP0210", "not a type declaration";
    /// The key or value has no size.
    pub UNSIZED = "BP0211", "key or value without size";
    /// Two sizes contradict each other.
    pub SIZE_CONFLICT = "BP0212", "conflicting sizes";
    /// `type` is missing.
    pub NO_TYPE = "BP0213", "map without a type";
    /// `pinning` has a value that libbpf does not know.
    pub BAD_PINNING = "BP0214", "unknown pinning";
    /// A template cannot be pinned.
    pub INNER_PINNED = "BP0215", "pinned inner map";
    /// A template has no `values`.
    pub NESTED_VALUES = "BP0216", "inner map with values";
    /// `values` must be the last member.
    pub VALUES_NOT_LAST = "BP0217", "values is not last";
    /// Only outer maps and program arrays have `values`.
    pub VALUES_NOT_ALLOWED = "BP0218", "values in a map that holds none";
    /// `values` is not declared with `__array`.
    pub BAD_VALUES = "BP0219", "values is not an array of pointers";
    /// The element of `values` is not what the map holds.
    pub BAD_ELEMENT = "BP0220", "values holds something else";
    /// An object can have one arena.
    pub TWO_ARENAS = "BP0221", "two arenas";
    /// The arena does not hold the arena's variables.
    pub ARENA_DATA = "BP0222", "arena variables without room";
    /// The kernel does not take the key and value types of this map.
    pub BTF_DROPPED = "BP0223", "the kernel gets no BTF for this map";
    /// A `__ulong` of 32 bits is sign-extended.
    pub SIGN_EXTENDED = "BP0224", "map_extra is sign-extended";
    /// A variable of `.struct_ops` is not what libbpf makes a map of.
    pub BAD_STRUCT_OPS = "BP0230", "unusable struct_ops variable";

    /// The map is defined as libbpf 1.x does not read any more.
    pub LEGACY_MAP = "BP0240", "legacy map definition";
    /// The section `maps` does not hold what it should.
    pub LEGACY_SECTION = "BP0241", "unreadable section maps";
    /// iproute2 would pin the map.
    pub LEGACY_PINNING = "BP0242", "pinning of iproute2";
    /// iproute2 would fill the program array.
    pub LEGACY_PROGRAMS = "BP0243", "program array of iproute2";
    /// The inner map that an outer one names is not there.
    pub LEGACY_INNER = "BP0244", "no inner map with this id";
    /// The types that annotate a map do not fit it.
    pub LEGACY_TYPES = "BP0245", "annotation that does not fit";
    /// Maps of several objects have an id that an outer map names.
    pub LEGACY_IDS = "BP0246", "one id in several objects";
    /// The section has the definitions of another loader than libbpf and iproute2.
    pub LEGACY_OTHER = "BP0247", "maps in a section of another loader";

    /// A relocation of `.maps` cannot be read.
    pub BAD_RELOCATION = "BP0350", "corrupt relocation";
    /// Slots come from SHT_REL sections; libbpf ignores SHT_RELA.
    pub RELA = "BP0351", "relocations with addends";
    /// A relocation lies in no map.
    pub NO_OWNER = "BP0352", "relocation outside of the maps";
    /// A relocation lies in a map that has no slots.
    pub NO_SLOTS = "BP0353", "relocation in a map without slots";
    /// A relocation lies in a map, but not in its `values`.
    pub OUTSIDE_VALUES = "BP0354", "relocation outside of values";
    /// The target of an outer map's slot is not a map.
    pub NOT_A_MAP = "BP0355", "slot holds no map";
    /// The target of a program array's slot is not an entry-point program.
    pub NOT_A_PROGRAM = "BP0356", "slot holds no program";
    /// Slots of a HASH_OF_MAPS need keys of four bytes.
    pub SLOT_KEY_SIZE = "BP0357", "slots need a key of four bytes";
    /// The relocation adds something to the address, which libbpf ignores.
    pub ADDEND = "BP0358", "slot with an offset";
    /// Two relocations fill one slot.
    pub SLOT_TWICE = "BP0359", "slot filled twice";
    /// A pointer in a struct_ops variable leads to no program.
    pub BAD_STRUCT_OPS_RELOCATION = "BP0370", "struct_ops member without program";

    /// Two maps would have the same name in the generated module.
    pub ONE_RUST_NAME = "BP1001", "two maps with one name in Rust";
    /// The module cannot be generated.
    pub BINDINGS = "BP1002", "no bindings";
    /// A build needs clang, and there is none.
    pub NO_CLANG = "BP1003", "no clang";
    /// clang does not compile the source; what it said comes along.
    pub CLANG_FAILED = "BP1004", "clang failed";
    /// The object's byte order is not that of the target of the build.
    pub FOREIGN_BYTE_ORDER = "BP1005", "object of another byte order";
    /// A file that the build needs cannot be read or written.
    pub BUILD_FILE = "BP1006", "a file of the build cannot be used";
    /// The maps need more memory than the build script allows.
    pub OVER_BUDGET = "BP1007", "the maps need too much memory";
    /// The build script denies a warning that does not exist.
    pub UNKNOWN_CODE = "BP1008", "no such warning";
}
