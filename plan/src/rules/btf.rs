//! BTF of maps: which type ids the kernel takes (`map_check_btf` and the types' own checks).

use super::errno::{EACCES, EINVAL, EOPNOTSUPP};
use super::flags::flag_names;
use super::layout::{describe, resolve, size_of};
use super::special::{Record, SpecialFields, unsupported};
use super::table::{Btf, TypeRules, rules};
use crate::model::{Map, MapType, MaxEntries};
use crate::types::{Type, TypeId};
use crate::uapi;

/// Whether libbpf passes BTF ids for maps of this type.
///
/// `bpf_object__create_map` drops them for types that would only be refused with them.
#[must_use]
pub fn wants_btf(map_type: MapType) -> bool {
    rules(map_type).is_none_or(|row| row.btf != Btf::Never)
}

/// Why the kernel does not take the map's `key_type` and `value_type` as BTF ids.
///
/// `None` if it takes them, and if there are none. What only the kernel's own BTF can tell (a
/// kptr to a type that it does not know) is not foreseen.
#[must_use]
pub fn btf_refusal<I>(map: &Map<I>, types: &[Type]) -> Option<String> {
    SpecialFields::new(types).btf_refusal(map)
}

impl SpecialFields<'_> {
    /// As [`btf_refusal`], for many maps.
    pub fn btf_refusal<I>(&mut self, map: &Map<I>) -> Option<String> {
        match rules(map.map_type) {
            Some(row) => refusal(map, row, self),
            None => without_value(map),
        }
        .map(|(_, reason)| reason)
    }
}

/// The kernel checks this before it looks at the map's type, which it may not know.
fn without_value<I>(map: &Map<I>) -> Option<(i32, String)> {
    let reason = "a key type needs a value type beside it, the kernel takes both or neither";
    (map.key_type.is_some() && map.value_type.is_none()).then(|| (EINVAL, reason.to_owned()))
}

/// The error number and the reason.
pub(crate) fn refusal<I>(
    map: &Map<I>,
    row: &TypeRules,
    special: &mut SpecialFields<'_>,
) -> Option<(i32, String)> {
    let types = special.types;
    let map_type = map.map_type;
    if row.btf == Btf::Never || (map.key_type.is_none() && map.value_type.is_none()) {
        return None;
    }
    let Some(value) = map.value_type else {
        return without_value(map);
    };
    if map.key_type.is_none() && matches!(row.btf, Btf::Any) {
        return Some((
            EINVAL,
            format!("a value type needs a key type beside it for {map_type}"),
        ));
    }
    let key = map.key_type;
    wrong_size("key", key, map.key_size, types)
        .or_else(|| wrong_size("value", Some(value), map.value_size, types))
        .or_else(|| special_fields(map, row, value, special))
        .or_else(|| wrong_key(map, row, key, value, types))
}

fn wrong_size(
    what: &str,
    ty: Option<TypeId>,
    declared: u32,
    types: &[Type],
) -> Option<(i32, String)> {
    let ty = ty?;
    let name = || describe(types, ty);
    let reason = match size_of(types, ty) {
        Some(size) if size == declared => return None,
        Some(size) => {
            let name = name();
            format!("the {what} type ({name}) has {size} bytes, {what}_size is {declared}")
        }
        None => format!("the {what} type is {}", name()),
    };
    Some((EINVAL, reason))
}

fn special_fields<I>(
    map: &Map<I>,
    row: &TypeRules,
    value: TypeId,
    special: &mut SpecialFields<'_>,
) -> Option<(i32, String)> {
    let Record::Fields(fields) = special.record(value) else {
        return None;
    };
    let first = fields.first()?;
    let programs = map.map_flags & (uapi::BPF_F_RDONLY_PROG | uapi::BPF_F_WRONLY_PROG);
    if programs != 0 {
        let flag = flag_names(programs).join(", ");
        let reason = format!(
            "a value with {} cannot be in a map with {flag}",
            first.kind.name()
        );
        return Some((EACCES, reason));
    }
    let kind = unsupported(&fields, row)?;
    Some((
        EOPNOTSUPP,
        format!("values of {} cannot have {}", map.map_type, kind.name()),
    ))
}

fn wrong_key<I>(
    map: &Map<I>,
    row: &TypeRules,
    key: Option<TypeId>,
    value: TypeId,
    types: &[Type],
) -> Option<(i32, String)> {
    let map_type = map.map_type;
    let name = || key.map_or_else(|| "missing".to_owned(), |key| describe(types, key));
    let reason = match row.btf {
        Btf::ArrayKey if key.is_none() => {
            let data = matches!(resolve(types, value), Some((_, Type::Datasec { .. })));
            let one = map.max_entries == MaxEntries::Count(1);
            if data && one && map_type.0 == uapi::BPF_MAP_TYPE_ARRAY {
                return None;
            }
            format!("a value type needs a key type beside it for {map_type}")
        }
        Btf::ArrayKey | Btf::Required if !is_int(types, key, 32) => {
            format!(
                "the key type of {map_type} must be a 32-bit integer, it is {}",
                name()
            )
        }
        Btf::StructKey
            if !matches!(
                key.and_then(|key| resolve(types, key)),
                Some((_, Type::Struct(_)))
            ) =>
        {
            format!(
                "the key type of {map_type} must be a struct like struct bpf_lpm_trie_key, it is {}",
                name()
            )
        }
        Btf::CgroupStorageKey if !is_cgroup_key(map.key_size, key, types) => format!(
            "the key type of {map_type} must be a 64-bit integer or struct bpf_cgroup_storage_key, it is {}",
            name()
        ),
        Btf::ValueOnly if key.is_some() => {
            format!("{map_type} has no key, so it takes no key type")
        }
        _ => return None,
    };
    Some((EINVAL, reason))
}

/// Whether a type is an integer with that many bits, all in use.
fn is_int(types: &[Type], id: Option<TypeId>, wanted: u8) -> bool {
    let ty = id.and_then(|id| resolve(types, id));
    matches!(ty, Some((_, Type::Int { bits, bit_offset: 0, .. })) if *bits == wanted)
}

/// `cgroup_storage_check_btf`: 8 bytes are the cgroup's inode, 16 have the attach type as well.
fn is_cgroup_key(size: u32, key: Option<TypeId>, types: &[Type]) -> bool {
    if size == 8 {
        return is_int(types, key, 64);
    }
    let Some((_, Type::Struct(composite))) = key.and_then(|key| resolve(types, key)) else {
        return false;
    };
    let [inode, attach] = composite.members.as_slice() else {
        return false;
    };
    let places = [inode, attach].map(|member| (member.bit_offset, member.bitfield_size.is_none()));
    places == [(0, true), (64, true)]
        && is_int(types, Some(inode.ty), 64)
        && is_int(types, Some(attach.ty), 32)
}
