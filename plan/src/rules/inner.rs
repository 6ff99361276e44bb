//! Inner maps that are made while programs run: what may differ from the template.

use super::KernelVersion;
use super::flags::flag_names;
use super::special::{Kind, Record, SpecialFields};
use super::table::{FREE_INNER_ENTRIES, Inner, rules};
use crate::model::MapType;
use crate::types::TypeId;
use crate::uapi;

/// What the kernel compares of an inner map and a template (`bpf_map_meta_equal`), except for the
/// special fields of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerShape {
    /// `map_type`.
    pub map_type: MapType,
    /// `key_size` in bytes.
    pub key_size: u32,
    /// `value_size` in bytes.
    pub value_size: u32,
    /// `map_flags`, as asked for or as the kernel shows them.
    pub map_flags: u32,
    /// `max_entries`.
    pub max_entries: u32,
}

/// Why inner maps must have as many entries as the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameEntries {
    /// The reason.
    pub reason: String,
    /// How to come by another number.
    pub help: Option<&'static str>,
}

/// Why inner maps of that kind and with these flags must have as many entries as the template on
/// that kernel (`None`: the newest); `None` if they may have any number.
#[must_use]
pub fn same_entries(
    map_type: MapType,
    map_flags: u32,
    kernel: Option<KernelVersion>,
) -> Option<SameEntries> {
    if kernel.is_some_and(|kernel| kernel < FREE_INNER_ENTRIES) {
        return Some(SameEntries {
            reason: format!(
                "before Linux {FREE_INNER_ENTRIES}, all inner maps have as many entries as the \
                 template"
            ),
            help: None,
        });
    }
    match rules(map_type)?.inner {
        Inner::SameEntriesUnlessFlag if map_flags & uapi::BPF_F_INNER_MAP == 0 => {
            Some(SameEntries {
                reason: format!(
                    "programs look up an {map_type} as large as the template, without asking the \
                     inner map"
                ),
                help: Some(
                    "add BPF_F_INNER_MAP to the template and to the inner maps (Linux 5.10)",
                ),
            })
        }
        Inner::SameEntries => Some(SameEntries {
            reason: format!("inner maps of type {map_type} have as many entries as the template"),
            help: None,
        }),
        Inner::SameEntriesUnlessFlag | Inner::Yes | Inner::No(_) => None,
    }
}

/// The first thing that keeps a map with one shape out of slots for maps with the other, as in
/// `value_size is 8, the template has 4`.
#[must_use]
pub fn misfit(
    found: &InnerShape,
    template: &InnerShape,
    kernel: Option<KernelVersion>,
) -> Option<String> {
    let differ = |what: &str, found: String, wanted: String| {
        (found != wanted).then(|| format!("{what} is {found}, the template has {wanted}"))
    };
    let number =
        |what: &str, found: u32, wanted: u32| differ(what, found.to_string(), wanted.to_string());
    let kind = || {
        let (found, wanted) = (found.map_type, template.map_type);
        differ("type", found.to_string(), wanted.to_string())
    };
    let flags = || differ("map_flags", flags_of(found), flags_of(template));
    let entries = || {
        same_entries(template.map_type, template.map_flags, kernel)?;
        number("max_entries", found.max_entries, template.max_entries)
    };
    kind()
        .or_else(|| number("key_size", found.key_size, template.key_size))
        .or_else(|| number("value_size", found.value_size, template.value_size))
        .or_else(flags)
        .or_else(entries)
}

/// Flags by name, without those that belong to descriptors, and without the one that the kernel
/// gives to all device maps.
fn flags_of(shape: &InnerShape) -> String {
    let mut flags = shape.map_flags & !(uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY);
    if matches!(
        shape.map_type.0,
        uapi::BPF_MAP_TYPE_DEVMAP | uapi::BPF_MAP_TYPE_DEVMAP_HASH
    ) {
        flags &= !uapi::BPF_F_RDONLY_PROG;
    }
    match flags {
        0 => "0".to_owned(),
        flags => flag_names(flags).join("|"),
    }
}

impl SpecialFields<'_> {
    /// Whether maps with such values are equal for the kernel only if they have the very same BTF
    /// object: it compares the roots of lists and trees by what they point to
    /// (`btf_record_equal`).
    pub fn needs_same_btf(&mut self, value: TypeId) -> bool {
        match self.record(value) {
            Record::Fields(fields) => fields
                .iter()
                .any(|field| matches!(field.kind, Kind::ListHead | Kind::RbRoot)),
            Record::Malformed(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: InnerShape = InnerShape {
        map_type: MapType(uapi::BPF_MAP_TYPE_ARRAY),
        key_size: 4,
        value_size: 8,
        map_flags: 0,
        max_entries: 16,
    };

    fn new() -> Option<KernelVersion> {
        Some(KernelVersion::new(6, 18))
    }

    #[test]
    fn entries_are_fixed_where_the_kernel_fixes_them() {
        let fixed = |map_type, flags, version: Option<KernelVersion>| {
            same_entries(MapType(map_type), flags, version).is_some()
        };
        let old = Some(KernelVersion::new(5, 9));
        for version in [None, new()] {
            assert!(fixed(uapi::BPF_MAP_TYPE_ARRAY, 0, version));
            assert!(!fixed(
                uapi::BPF_MAP_TYPE_ARRAY,
                uapi::BPF_F_INNER_MAP,
                version
            ));
            assert!(fixed(uapi::BPF_MAP_TYPE_XSKMAP, 0, version));
            assert!(!fixed(uapi::BPF_MAP_TYPE_HASH, 0, version));
        }
        assert!(fixed(uapi::BPF_MAP_TYPE_HASH, 0, old));
        let help = same_entries(ARRAY.map_type, 0, new()).and_then(|same| same.help);
        assert!(help.is_some_and(|help| help.contains("BPF_F_INNER_MAP")));
    }

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(misfit(&ARRAY, &ARRAY, new()), None);
        let hash = InnerShape {
            map_type: MapType(uapi::BPF_MAP_TYPE_HASH),
            ..ARRAY
        };
        let more = |shape: InnerShape| InnerShape {
            max_entries: 17,
            ..shape
        };
        for (found, template, wanted) in [
            (hash, ARRAY, "type is hash, the template has array"),
            (
                InnerShape {
                    key_size: 8,
                    ..hash
                },
                hash,
                "key_size is 8, the template has 4",
            ),
            (
                InnerShape {
                    value_size: 4,
                    ..ARRAY
                },
                ARRAY,
                "value_size is 4, the template has 8",
            ),
            (
                InnerShape {
                    map_flags: uapi::BPF_F_MMAPABLE,
                    ..ARRAY
                },
                ARRAY,
                "map_flags is BPF_F_MMAPABLE, the template has 0",
            ),
            (more(ARRAY), ARRAY, "max_entries is 17, the template has 16"),
        ] {
            assert_eq!(misfit(&found, &template, new()).as_deref(), Some(wanted));
        }
        assert_eq!(misfit(&more(hash), &hash, new()), None);
    }

    #[test]
    fn flags_that_the_map_does_not_keep_do_not_count() {
        let devmap = InnerShape {
            map_type: MapType(uapi::BPF_MAP_TYPE_DEVMAP),
            ..ARRAY
        };
        let shown = InnerShape {
            map_flags: uapi::BPF_F_RDONLY_PROG,
            ..devmap
        };
        assert_eq!(misfit(&shown, &devmap, new()), None);
        let read_only = InnerShape {
            map_flags: uapi::BPF_F_RDONLY,
            ..ARRAY
        };
        assert_eq!(misfit(&ARRAY, &read_only, new()), None);
    }
}
