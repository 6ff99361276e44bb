//! Maps of global data, as libbpf makes them of sections (`bpf_object__init_internal_map`).

use bpfplan_plan::contents::{MAX_TOTAL, stored};
use bpfplan_plan::model::{Contents, Data, Map};
use bpfplan_plan::types::TypeId;
use bpfplan_plan::{Bytes, Diagnostic, MapType, MaxEntries, uapi};
use foldhash::{HashMap, HashSet};
use object::elf::{SHT_REL, SHT_RELA};

use crate::btf::raw::Raw;
use crate::bytes::text;
use crate::codes;
use crate::elf::{Elf, Role, Section};
use crate::fixup::{Datasec, Linkage};
use crate::problems::Problems;

/// `BPF_OBJ_NAME_LEN` without the NUL.
const NAME: usize = uapi::BPF_OBJ_NAME_LEN as usize - 1;
/// Bytes of the name that libbpf keeps for the section, even if its name is shorter.
const SUFFIX: usize = 7;

/// A section of global data.
#[derive(Debug)]
pub(crate) struct Global<'a> {
    /// Name of the map for users: `bpf_map__name` of libbpf.
    pub(crate) name: String,
    /// Name of the section.
    section: &'a [u8],
    size: u32,
    /// The contents without the zeros at their end.
    bytes: &'a [u8],
    read_only: bool,
    /// Place of its DATASEC among those of the object.
    pub(crate) datasec: Option<usize>,
}

/// The sections of global data by their number. `object` is the file name.
pub(crate) fn read<'a>(
    elf: &Elf<'a>,
    raw: Option<&Raw<'_>>,
    datasecs: &[Datasec<'_>],
    object: &str,
    problems: &mut Problems,
) -> Vec<Global<'a>> {
    let mut globals = Vec::new();
    let mut total = 0_u64;
    let relocated: HashSet<u32> = elf
        .sections
        .iter()
        .filter(|it| matches!(it.kind, SHT_REL | SHT_RELA) && !it.data.is_empty())
        .map(|it| it.info)
        .collect();
    for (index, section) in elf.sections.iter().enumerate() {
        if section.size == 0 || !matches!(section.role, Role::Data | Role::Rodata | Role::Bss) {
            continue;
        }
        total = total.saturating_add(section.size);
        let size = u32::try_from(section.size)
            .ok()
            .filter(|_| total <= MAX_TOTAL);
        let Some(size) = size else {
            let name = text(section.name);
            let message = format!("the global data up to section {name} has {total} bytes");
            problems.add(
                Diagnostic::error(codes::DATA_TOO_LARGE, message)
                    .note(format!(
                        "bpfplan takes {} MiB for an object",
                        MAX_TOTAL >> 20
                    ))
                    .help("put what is large into a map of its own"),
            );
            break;
        };
        if u32::try_from(index).is_ok_and(|index| relocated.contains(&index)) {
            problems.add(dangling(section));
        }
        let bytes = if section.role == Role::Bss {
            &[]
        } else {
            stored(section.data)
        };
        globals.push(Global {
            name: name(section, object),
            section: section.name,
            size,
            bytes,
            read_only: section.role == Role::Rodata,
            datasec: None,
        });
    }
    if let Some(raw) = raw {
        find_types(raw, datasecs, &mut globals);
    }
    globals
}

/// `bpf_map__name`: the full name of named sections of data, else what the kernel gets.
fn name(section: &Section<'_>, object: &str) -> String {
    let full = section.name;
    if section.role != Role::Bss && full != b".data" && full != b".rodata" {
        return text(full);
    }
    internal_map_name(full, object)
}

/// `internal_map_name` of libbpf: as much of the object's name as there is room for, then the
/// section's; of a named section the latter only.
pub(crate) fn internal_map_name(section: &[u8], object: &str) -> String {
    // `obj->name`: 15 bytes of the file's name, up to the first `.`.
    let object = object.as_bytes();
    let object = object.get(..NAME).unwrap_or(object);
    let object = object
        .split(|byte| *byte == b'.')
        .next()
        .unwrap_or_default();
    let suffix = section.len().clamp(SUFFIX, NAME);
    let named = section.iter().skip(1).any(|byte| *byte == b'.');
    let prefix = if named { 0 } else { NAME - suffix };
    let bytes = object
        .iter()
        .take(prefix)
        .chain(section.iter().take(suffix));
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    bytes
        .map(|byte| if taken(*byte) { char::from(*byte) } else { '_' })
        .collect()
}

/// Finds the DATASEC of each section: the first type of that name, if it is one.
fn find_types(raw: &Raw<'_>, datasecs: &[Datasec<'_>], globals: &mut [Global<'_>]) {
    let wanted: HashSet<&[u8]> = globals.iter().map(|global| global.section).collect();
    if wanted.is_empty() {
        return;
    }
    let mut first: HashMap<&[u8], u32> = HashMap::default();
    for (id, ty) in raw.types() {
        let name = raw.name(ty.name);
        if wanted.contains(name) {
            first.entry(name).or_insert(id);
        }
    }
    let places: HashMap<u32, usize> = datasecs
        .iter()
        .enumerate()
        .map(|(place, datasec)| (datasec.id, place))
        .collect();
    for global in globals {
        let id = first.get(global.section);
        global.datasec = id.and_then(|id| places.get(id).copied());
    }
}

/// libbpf ignores relocations of data, so what they would put in stays as it is, mostly 0.
fn dangling(section: &Section<'_>) -> Diagnostic {
    let name = text(section.name);
    let message = format!("pointers in section {name} lead nowhere: its relocations are ignored");
    Diagnostic::warning(codes::DATA_RELOCATIONS, message)
        .note("libbpf ignores them as well; the pointers are 0, or offsets in a section")
        .help("use arrays instead of pointers, or let programs take the addresses")
}

impl Global<'_> {
    /// The map; `value_type` is its DATASEC in the view.
    pub(crate) fn map(&self, value_type: Option<TypeId>, datasec: Option<&Datasec<'_>>) -> Map {
        let visible = |datasec: &Datasec<'_>| {
            let mut variables = datasec.variables.iter();
            variables.any(|it| !matches!(it.linkage, Linkage::Static | Linkage::Hidden))
        };
        let mut map_flags = 0;
        if self.read_only {
            map_flags |= uapi::BPF_F_RDONLY_PROG;
        }
        if datasec.is_some_and(visible) {
            map_flags |= uapi::BPF_F_MMAPABLE;
        }
        Map {
            map_flags,
            value_type,
            data: Some(Data::unhashed(self.size, self.read_only)),
            ..Map::new(
                self.name.clone(),
                MapType(uapi::BPF_MAP_TYPE_ARRAY),
                4,
                self.size,
                MaxEntries::Count(1),
            )
        }
    }

    /// The bytes for the plan, if there are any.
    pub(crate) fn contents(&self) -> Option<Contents> {
        (!self.bytes.is_empty()).then(|| Contents {
            map: self.name.clone(),
            bytes: Bytes::copy_from_slice(self.bytes),
        })
    }
}

/// Declared maps that share a name are refused as declarations.
fn made_by_libbpf(map: &Map) -> bool {
    map.is_internal() || map.map_type.0 == uapi::BPF_MAP_TYPE_STRUCT_OPS
}

/// Names are the plan's handles for maps; libbpf has maps that share one.
pub(crate) fn check_names(maps: &[Map], problems: &mut Problems) {
    if !maps.iter().any(made_by_libbpf) {
        return; // Names of declared maps were compared when they were read.
    }
    let mut names = HashSet::default();
    for map in maps {
        if names.insert(map.name.as_str()) || !made_by_libbpf(map) {
            continue;
        }
        let found = if map.is_internal() {
            let message = "two sections of global data, or a map and one, have this name";
            Diagnostic::error(codes::DUPLICATE_NAME, message)
                .note("libbpf cuts names of .bss sections to 15 bytes")
                .help("rename one of the sections")
        } else {
            Diagnostic::error(codes::DUPLICATE_NAME, "two maps have this name")
        };
        problems.add(found.map(&map.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_by_no_two_maps() {
        let global = |name: &str| Global {
            name: name.to_owned(),
            section: b".bss",
            size: 8,
            bytes: &[],
            read_only: false,
            datasec: None,
        };
        let maps = |names: [&str; 2]| names.map(|name| global(name).map(None, None));
        let mut problems = Problems::default();
        check_names(&maps([".bss.a", ".bss.b"]), &mut problems);
        assert!(!problems.failed());
        check_names(&maps([".bss.a", ".bss.a"]), &mut problems);
        assert!(problems.failed());
    }

    #[test]
    fn names_are_libbpfs() {
        let name = |section: &str, object| internal_map_name(section.as_bytes(), object);
        assert_eq!(name(".data", "0123456789abcdefghij.o"), "01234567.data");
        assert_eq!(name(".rodata", "0123456789abcdefghij"), "01234567.rodata");
        assert_eq!(name(".bss", "0123456789abcdefghij"), "01234567.bss");
        assert_eq!(name(".bss", "flow.bpf.o"), "flow.bss");
        assert_eq!(name(".rodata", "a-b c.d"), "a_b_c.rodata");
        assert_eq!(name(".data", ""), ".data");
        assert_eq!(name(".data", ".hidden.o"), ".data");
        assert_eq!(name(".bss.abracadabra", "flow"), ".bss.abracadabr");
        assert_eq!(name(".bss.a-b", "flow"), ".bss.a_b");
    }
}
