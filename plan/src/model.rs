//! The data model: object, maps, templates and slots.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Type, TypeId};
use crate::uapi;

/// A load plan: everything that is known about an object's maps before a kernel is asked.
///
/// A plan that was read from a file is untrusted: see [`crate::validate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of the file format, [`crate::format::VERSION`].
    pub version: u32,
    /// The object that was compiled.
    pub object: Object,
    /// The maps in libbpf's order, which is their order of creation.
    pub maps: Vec<Map>,
    /// The object's programs in libbpf's order, subprograms not among them. A load with programs
    /// gives them to libbpf.
    pub programs: Vec<Program>,
    /// Bytes of the programs' jump tables (`.jumptables`), 0 if they have none: libbpf makes maps
    /// of them when it loads the programs, which are no maps of the object.
    pub jump_tables: u64,
    /// All types that keys and values reach. The type with id `n` (as in BTF, ids start at 1) is
    /// `types[n - 1]`. The first [`Plan::kernel_types`] of them are the ones in [`Plan::btf`];
    /// the others only describe what the kernel does not get.
    pub types: Vec<Type>,
    /// How many of [`Plan::types`] the kernel gets, from the first on.
    pub kernel_types: u32,
    /// The BTF blob for `BPF_BTF_LOAD`, made of the first [`Plan::kernel_types`] types in the
    /// object's byte order by [`crate::btf::encode`]; empty when no map needs BTF.
    #[serde(with = "crate::format::bytes")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::format::bytes::BytesSchema")
    )]
    pub btf: Bytes,
    /// The initial contents of the maps that have some other than zeros, in the order of the maps.
    pub contents: Vec<Contents>,
}

/// The compiled object that a plan was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// File name of the object, without directories.
    pub name: String,
    /// SHA-256 of the object's bytes in lower-case hex; only written plans have it.
    pub sha256: Option<String>,
    /// Byte order of the object. A kernel loads only its own.
    pub endianness: Endianness,
    /// Whether it has legacy map definitions (section `maps`): libbpf 1.x does not open it, so its
    /// programs cannot be loaded.
    pub legacy_maps: bool,
}

/// Byte order of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Endianness {
    /// Least significant byte first (`bpfel`).
    Little,
    /// Most significant byte first (`bpfeb`).
    Big,
}

impl Endianness {
    /// The byte order of the machine this runs on.
    pub const NATIVE: Self = if cfg!(target_endian = "big") {
        Self::Big
    } else {
        Self::Little
    };
}

impl fmt::Display for Endianness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Little => "little-endian",
            Self::Big => "big-endian",
        })
    }
}

/// One map, or, as [`Template`], the inner template of an outer map.
///
/// `I` is the type of the inner template: a map of maps has one level of them, never two, and the
/// type says so. Numbers are those of `union bpf_attr` for `BPF_MAP_CREATE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Map<I = Template> {
    /// Name of the map variable in full; a template is called `<outer>.inner`, as in libbpf, and a
    /// map of global data as `bpf_map__name` of libbpf says. The kernel gets the first 15 bytes,
    /// see [`Map::kernel_name`].
    pub name: String,
    /// Kind of map, `map_type`.
    #[serde(rename = "type")]
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes.
    pub value_size: u32,
    /// Number of entries (bytes for ring buffers, pages for arenas).
    pub max_entries: MaxEntries,
    /// `BPF_F_*` flags for `BPF_MAP_CREATE`.
    pub map_flags: u32,
    /// Meaning depends on the type: hash functions of a bloom filter, address of an arena.
    pub map_extra: u64,
    /// NUMA node; the kernel looks at it only with `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
    /// Whether the declaration asks for pinning by name.
    pub pinning: Pinning,
    /// Declared type of the key, `None` if only a size was declared.
    pub key_type: Option<TypeId>,
    /// Declared type of the value, `None` if only a size was declared. Of an arena with variables
    /// it is the section of these.
    pub value_type: Option<TypeId>,
    /// The type ids that the kernel gets, `None` where it gets no BTF for this map.
    pub btf: Option<BtfIds>,
    /// The inner template of an outer map.
    pub inner: Option<Box<I>>,
    /// Static slots of an outer map or a program array, ascending by index.
    pub slots: Vec<Slot>,
    /// Initial contents of a map of global data, or of the variables in an arena; other maps from
    /// `.maps` have none.
    pub data: Option<Data>,
    /// The kernel configuration values of the `.kconfig` map, whose contents only the target
    /// machine knows; empty for all other maps.
    pub externs: Vec<Extern>,
    /// Why libbpf has to create this map together with the programs; `None` for maps that are
    /// created from the plan alone.
    pub with_programs: Option<WithPrograms>,
    /// Where the map variable is declared, if the object's DWARF tells.
    pub source: Option<Source>,
}

impl<I> Map<I> {
    /// A map with these attributes and nothing else: no flags, types, slots or contents.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        map_type: MapType,
        key_size: u32,
        value_size: u32,
        max_entries: MaxEntries,
    ) -> Self {
        Self {
            name: name.into(),
            map_type,
            key_size,
            value_size,
            max_entries,
            map_flags: 0,
            map_extra: 0,
            numa_node: 0,
            pinning: Pinning::None,
            key_type: None,
            value_type: None,
            btf: None,
            inner: None,
            slots: Vec::new(),
            data: None,
            externs: Vec::new(),
            with_programs: None,
            source: None,
        }
    }
}

/// Why a map comes to be only together with the object's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WithPrograms {
    /// A `STRUCT_OPS` map: its type is the kernel's, its members are programs.
    StructOps,
    /// A `STRUCT_OPS` map in a section whose name begins with `?`: libbpf leaves it out unless it
    /// is told otherwise.
    OptionalStructOps,
    /// An arena with global variables, whose places only libbpf's relocation knows.
    ArenaData,
    /// Values, or those of inner maps, hold roots of lists or trees: the kernel wants programs
    /// that use them to have the very BTF object that the map has.
    GraphRoot,
}

/// A program of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Name of the function.
    pub name: String,
    /// ELF section, such as `xdp`.
    pub section: String,
}

impl Program {
    /// Whether a load of the object loads it: libbpf leaves out programs whose section's name
    /// begins with a `?`.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        !self.section.starts_with('?')
    }
}

/// A kernel configuration value: an extern variable in `.kconfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Extern {
    /// Name, such as `CONFIG_HZ` or `LINUX_KERNEL_VERSION`.
    pub name: String,
    /// What it may be (`find_kcfg_type` of libbpf).
    pub kind: ExternKind,
    /// Offset in the map's value, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Whether it is 0 where the kernel has no such value; without it, the load fails.
    pub weak: bool,
    /// Where it is declared, if the object's DWARF tells.
    pub source: Option<Source>,
}

/// What kind of value an [`Extern`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExternKind {
    /// `bool`: `y` or `n`.
    Bool,
    /// `char` or another signed integer of one byte: a letter (`y`, `n`, `m`) or a number.
    Char,
    /// An unsigned integer of one byte: a letter or a number as well.
    UnsignedChar,
    /// `enum libbpf_tristate`: `y` (1), `n` (0) or `m` (2).
    Tristate,
    /// A signed integer of 2, 4 or 8 bytes.
    Signed,
    /// An unsigned integer of 2, 4 or 8 bytes.
    Unsigned,
    /// An array of `char`: a string with a NUL at its end.
    String,
}

/// The inner template of an outer map: a map without a template of its own.
pub type Template = Map<NoTemplate>;

/// The template of a template: there is none, and no value of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NoTemplate {}

impl<I> Map<I> {
    /// The name that the kernel gets: at most `BPF_OBJ_NAME_LEN - 1` = 15 bytes of
    /// [`Map::name`], cut as libbpf cuts it (on a byte, here on a character boundary).
    ///
    /// In the name of a map of global data, what the kernel does not take becomes `_`
    /// (`internal_map_name` of libbpf).
    #[must_use]
    pub fn kernel_name(&self) -> Cow<'_, str> {
        let limit = uapi::BPF_OBJ_NAME_LEN as usize - 1;
        if self.is_internal() {
            let bytes = self.name.bytes().take(limit);
            let taken = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
            return bytes
                .map(|byte| if taken(&byte) { char::from(byte) } else { '_' })
                .collect();
        }
        let end = self.name.floor_char_boundary(limit.min(self.name.len()));
        self.name.get(..end).unwrap_or_default().into()
    }

    /// Whether this is an arena.
    #[must_use]
    pub fn is_arena(&self) -> bool {
        self.map_type.0 == uapi::BPF_MAP_TYPE_ARENA
    }

    /// Whether this is an outer map (`ARRAY_OF_MAPS` or `HASH_OF_MAPS`).
    #[must_use]
    pub fn is_outer(&self) -> bool {
        self.map_type.is_outer()
    }

    /// Whether static slots of this map hold programs.
    #[must_use]
    pub fn has_program_slots(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| matches!(slot.target, SlotTarget::Program(_)))
    }

    /// Whether libbpf makes this map on its own, of a section of global data or of the kernel
    /// configuration values (`bpf_map__is_internal`).
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.map_type.0 == uapi::BPF_MAP_TYPE_ARRAY
            && (self.data.is_some() || !self.externs.is_empty())
    }
}

/// `map_type` of a map, a number of `enum bpf_map_type`.
///
/// Numbers that this version does not know are carried along: the kernel may know them.
/// In JSON it is the kernel's spelling in lower case (`array_of_maps`), or `type_<n>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MapType(pub u32);

impl MapType {
    /// Whether maps of this type hold maps.
    #[must_use]
    pub fn is_outer(self) -> bool {
        matches!(
            self.0,
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS | uapi::BPF_MAP_TYPE_HASH_OF_MAPS
        )
    }

    /// Whether `max_entries` of this type is a ring's size in bytes.
    #[must_use]
    pub fn is_ring_buffer(self) -> bool {
        matches!(
            self.0,
            uapi::BPF_MAP_TYPE_RINGBUF | uapi::BPF_MAP_TYPE_USER_RINGBUF
        )
    }

    /// The kernel's spelling in lower case without `BPF_MAP_TYPE_`, if the number is known.
    #[must_use]
    pub fn known_name(self) -> Option<String> {
        let (_, name) = uapi::MAP_TYPES
            .iter()
            .find(|(number, _)| *number == self.0)?;
        Some(
            name.strip_prefix("BPF_MAP_TYPE_")
                .unwrap_or(name)
                .to_ascii_lowercase(),
        )
    }

    /// The type of that name, as [`fmt::Display`] writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(number) = name.strip_prefix("type_") {
            let this = Self(number.parse().ok()?);
            return (this.to_string() == name).then_some(this);
        }
        uapi::MAP_TYPES
            .iter()
            .map(|(number, _)| Self(*number))
            .find(|this| this.known_name().as_deref() == Some(name))
    }
}

impl fmt::Display for MapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.pad(&name),
            None => f.pad(&format!("type_{}", self.0)),
        }
    }
}

/// `max_entries` of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxEntries {
    /// A number. Ring buffers have theirs rounded for 4 KiB pages; the loader rounds again for
    /// the target's page size.
    Count(u32),
    /// The number of possible CPUs of the target: a `PERF_EVENT_ARRAY` declared without a number
    /// (`map_set_def_max_entries` in libbpf). `{"possible_cpus": true}` in JSON.
    PossibleCpus,
}

/// `pinning` of a map: `enum libbpf_pin_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Pinning {
    /// `LIBBPF_PIN_NONE`: the declaration asks for no pin.
    None,
    /// `LIBBPF_PIN_BY_NAME`: under the pin root, by the map's name.
    ByName,
}

/// `btf_key_type_id` and `btf_value_type_id`: ids in [`Plan::btf`], 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BtfIds {
    /// `btf_key_type_id`.
    pub key_type_id: u32,
    /// `btf_value_type_id`, never 0 if a key id is given.
    pub value_type_id: u32,
}

/// One static slot: an entry of `.values`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Index in `.values`. It is the array index, or the 32-bit key of a `HASH_OF_MAPS`.
    pub index: u32,
    /// What the slot holds.
    pub target: SlotTarget,
}

/// What a slot holds, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotTarget {
    /// A map of the same plan, by [`Map::name`].
    Map(String),
    /// A program of the same object, by its function's name.
    Program(String),
}

/// Initial contents of a map: the value of the only element of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Size in bytes.
    pub size: u32,
    /// SHA-256 of the bytes in lower-case hex. Plans that are loaded as they are compiled have
    /// none; it is written as an empty string.
    #[serde(with = "crate::contents::sha256_text")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub sha256: Option<String>,
    /// Whether the map is frozen after the contents are written.
    pub frozen: bool,
}

/// The bytes of a map's initial contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// [`Map::name`] of the map.
    pub map: String,
    /// The bytes from the start of the value up to the last one that is not zero; all that
    /// follow, up to [`Data::size`], are zeros.
    #[serde(with = "crate::format::bytes")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::format::bytes::BytesSchema")
    )]
    pub bytes: Bytes,
}

/// Where something is declared: file and line of the source, from DWARF, never a guess.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file as the compiler recorded it.
    // Shared by the declarations in it, where that is easily had.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
}

impl Source {
    /// The place of a variable that nobody has looked for yet: its name stands for it.
    #[must_use]
    pub fn later(variable: &str) -> Self {
        Self {
            file: variable.into(),
            line: 0,
        }
    }

    /// The variable, if this is its [`Source::later`].
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        (self.line == 0).then_some(&*self.file)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Plan {
    /// The map of that name.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&Map> {
        self.maps.iter().find(|map| map.name == name)
    }

    /// The type with that id, `None` for void (0) and for ids out of range.
    #[must_use]
    pub fn type_by_id(&self, id: TypeId) -> Option<&Type> {
        self.types.get((id.0 as usize).checked_sub(1)?)
    }
}
