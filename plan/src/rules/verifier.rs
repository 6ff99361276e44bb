//! What the kernel's BTF verifier demands of a type (`btf_check_all_metas`, `btf_resolve`).
//!
//! One type that it refuses makes it refuse the whole blob, so the maps that reach such a type
//! go without BTF for the others to keep theirs.

use super::layout::{describe, get, resolve, size_of};
use super::metas;
use super::special::SpecialFields;
use crate::types::{Composite, Enum, Linkage, Member, SecVar, Type, TypeId};

/// `KSYM_NAME_LEN`: names are shorter.
const NAME_LIMIT: usize = 512;

/// Why the kernel refuses BTF with this type in it, by what the type itself says; `None` if it
/// takes it. What the type refers to has reasons of its own.
#[must_use]
pub fn type_refusal(types: &[Type], id: TypeId) -> Option<String> {
    SpecialFields::new(types).type_refusal(id)
}

impl SpecialFields<'_> {
    /// As [`type_refusal`], for many types.
    pub fn type_refusal(&mut self, id: TypeId) -> Option<String> {
        refusal(self, id)
    }
}

fn refusal(special: &mut SpecialFields<'_>, id: TypeId) -> Option<String> {
    let types = special.types;
    match get(types, id)? {
        Type::Struct(composite) => members(types, id, composite).or_else(|| {
            let reason = metas::refusal(special, id, composite)?;
            Some(format!("{}: {reason}", describe(types, id)))
        }),
        Type::Union(composite) => members(types, id, composite),
        Type::Enum(list) | Type::Enum64(list) => enumerators(types, id, list),
        Type::Fwd { name, .. } => bad_name(name, "a type's name"),
        Type::Typedef { name, to } => {
            bad_name(name, "a type's name").or_else(|| tag_behind(types, *to))
        }
        Type::Volatile { to } | Type::Const { to } | Type::Restrict { to } => {
            tag_behind(types, *to)
        }
        Type::Var { name, linkage, .. } => bad_name(name, "a variable's name").or_else(|| {
            (*linkage == Linkage::Extern).then(|| format!("the variable {name} is extern"))
        }),
        Type::Datasec { name, size, vars } => section(types, name, *size, vars),
        Type::Int {
            size,
            bits,
            bit_offset,
            ..
        } => {
            let used = u64::from(*bits) + u64::from(*bit_offset);
            let fits = *bits <= 128 && used <= u64::from(*size) * 8;
            (!fits).then(|| format!("{} has {used} bits in {size} bytes", describe(types, id)))
        }
        Type::Float { name, size } => {
            let known = matches!(size, 2 | 4 | 8 | 12 | 16);
            (!known).then(|| format!("the floating-point type {name} has {size} bytes"))
        }
        Type::Array {
            element,
            index,
            length,
        } => array(types, *element, *index, *length),
        Type::FuncProto { returns, params } => {
            let last = params.len().saturating_sub(1);
            for (number, param) in params.iter().enumerate() {
                let variadic = param.name.is_none() && param.ty == TypeId::VOID && number == last;
                if !variadic && size_of(types, param.ty).is_none() {
                    return Some(format!("a parameter is {}", describe(types, param.ty)));
                }
                if let Some(name) = &param.name
                    && let Some(reason) = bad_name(name, "a parameter's name")
                {
                    return Some(reason);
                }
            }
            let sized = *returns == TypeId::VOID || size_of(types, *returns).is_some();
            (!sized).then(|| format!("a function returns {}", describe(types, *returns)))
        }
        Type::TypeTag { value, .. } => value.is_empty().then(|| "a tag is empty".to_owned()),
        Type::DeclTag {
            value,
            to,
            component,
            ..
        } => decl_tag(types, value, *to, *component),
        Type::Ptr { .. } => None,
    }
}

/// `btf_check_type_tags`: tags stand before typedefs and qualifiers.
fn tag_behind(types: &[Type], to: TypeId) -> Option<String> {
    let tag = matches!(get(types, to), Some(Type::TypeTag { .. }));
    tag.then(|| "a type tag stands behind a typedef or qualifier".to_owned())
}

/// `btf_decl_tag_resolve`.
fn decl_tag(types: &[Type], value: &str, to: TypeId, component: Option<u32>) -> Option<String> {
    if value.is_empty() {
        return Some("a tag is empty".to_owned());
    }
    let parts = match get(types, to) {
        Some(Type::Struct(composite) | Type::Union(composite)) => composite.members.len(),
        _ => 0,
    };
    let beyond = component.is_some_and(|it| usize::try_from(it).is_ok_and(|it| it >= parts));
    beyond.then(|| format!("{} has a tag on a part that it lacks", describe(types, to)))
}

/// `__btf_name_valid`: letters, digits, `_` and `.`, no digit first.
fn bad_name(name: &str, what: &str) -> Option<String> {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.');
    let valid = name.len() < NAME_LIMIT
        && name.bytes().next().is_some_and(letter)
        && name
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit());
    (!valid).then(|| {
        let shown: String = name.chars().take(40).collect();
        format!("'{}', {what}, is no identifier", shown.escape_debug())
    })
}

fn members(types: &[Type], id: TypeId, composite: &Composite) -> Option<String> {
    let owner = || describe(types, id);
    if let Some(name) = &composite.name
        && let Some(reason) = bad_name(name, "a type's name")
    {
        return Some(reason);
    }
    let bits = u64::from(composite.size).saturating_mul(8);
    let bitfields = composite
        .members
        .iter()
        .any(|member| member.bitfield_size.is_some());
    let mut last = 0;
    for member in &composite.members {
        let name = member.name.as_deref().unwrap_or_default();
        if let Some(reason) = member
            .name
            .as_deref()
            .and_then(|it| bad_name(it, "a member's name"))
        {
            return Some(reason);
        }
        let Some(size) = size_of(types, member.ty) else {
            let what = describe(types, member.ty);
            return Some(format!("member '{name}' of {} is {what}", owner()));
        };
        let width = member.bitfield_size.map_or(u64::from(size) * 8, u64::from);
        let offset = member.bit_offset;
        let disordered = match get(types, id) {
            Some(Type::Union(_)) => offset != 0,
            _ => offset < last,
        };
        if disordered || u64::from(offset).saturating_add(width) > bits {
            return Some(format!("member '{name}' of {} lies outside of it", owner()));
        }
        if let Some(what) = misplaced(types, member, bitfields) {
            return Some(format!("member '{name}' of {} {what}", owner()));
        }
        last = offset;
    }
    None
}

/// `btf_datasec_check_meta` and `btf_datasec_resolve`.
fn section(types: &[Type], name: &str, size: u32, vars: &[SecVar]) -> Option<String> {
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if name.is_empty() || name.len() >= NAME_LIMIT || !name.bytes().all(printable) {
        let shown: String = name.chars().take(40).collect();
        return Some(format!("'{}' is no section's name", shown.escape_debug()));
    }
    if size == 0 {
        return Some(format!("section {name} has no size"));
    }
    let mut end = 0;
    for place in vars {
        let inside = place.offset >= end && place.offset < size && place.size > 0;
        end = place.offset.saturating_add(place.size);
        let wanted = size_of(types, place.var);
        if !inside || end > size || wanted.is_none_or(|wanted| wanted > place.size) {
            let variable = match get(types, place.var) {
                Some(Type::Var { name, .. }) => name,
                _ => "",
            };
            return Some(format!(
                "variable '{variable}' does not fit into section {name}, or overlaps another"
            ));
        }
    }
    None
}

/// What is wrong with the bits of a member; only integers and enums have any. An integer may
/// begin within a byte as a bitfield, or in the old way, where nothing says which members are.
fn misplaced(types: &[Type], member: &Member, bitfields: bool) -> Option<&'static str> {
    let ty = resolve(types, member.ty).map(|(_, ty)| ty);
    let most = match ty {
        Some(Type::Int { bits, .. }) => u32::from(*bits),
        Some(Type::Enum(list) | Type::Enum64(list)) => list.size.saturating_mul(8),
        _ => 0,
    };
    if bitfields
        && let Some(Type::Int {
            bits, bit_offset, ..
        }) = ty
        && (*bit_offset != 0 || !matches!(bits, 8 | 16 | 32 | 64 | 128))
    {
        return Some("stands beside bitfields and has an odd integer for its type");
    }
    match member.bitfield_size {
        Some(width) if u32::from(width) > most => Some("has more bits than its type"),
        None if !member.bit_offset.is_multiple_of(8)
            && (bitfields || !matches!(ty, Some(Type::Int { .. }))) =>
        {
            Some("does not begin at a byte")
        }
        _ => None,
    }
}

fn enumerators(types: &[Type], id: TypeId, list: &Enum) -> Option<String> {
    if !matches!(list.size, 1 | 2 | 4 | 8) {
        return Some(format!("{} has {} bytes", describe(types, id), list.size));
    }
    let names = list.variants.iter().map(|variant| variant.name.as_str());
    list.name
        .as_deref()
        .and_then(|name| bad_name(name, "a type's name"))
        .or_else(|| {
            names
                .filter_map(|name| bad_name(name, "an enumerator's name"))
                .next()
        })
}

fn array(types: &[Type], element: TypeId, index: TypeId, length: u32) -> Option<String> {
    let Some(size) = size_of(types, element) else {
        return Some(format!(
            "an array's element is {}",
            describe(types, element)
        ));
    };
    if size.checked_mul(length).is_none() {
        return Some("an array is larger than 4 GiB".to_owned());
    }
    let regular = |id: TypeId| resolve(types, id).map(|(_, ty)| is_regular(ty));
    if regular(element) == Some(Some(false)) {
        let name = describe(types, element);
        return Some(format!("an array's elements, {name}, leave bits unused"));
    }
    match regular(index) {
        Some(Some(true)) => None,
        _ => Some(format!("an array's index is {}", describe(types, index))),
    }
}

/// Whether an integer uses all its bits; `None` for what is no integer.
fn is_regular(ty: &Type) -> Option<bool> {
    let Type::Int {
        size,
        bits,
        bit_offset,
        ..
    } = ty
    else {
        return None;
    };
    let known = matches!(size, 1 | 2 | 4 | 8 | 16);
    Some(known && *bit_offset == 0 && u32::from(*bits) == size * 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Enumerator, IntEncoding, Param};

    fn int() -> Type {
        Type::Int {
            name: "unsigned int".to_owned(),
            size: 4,
            bits: 32,
            bit_offset: 0,
            encoding: IntEncoding::Unsigned,
        }
    }

    fn structure(name: &str, size: u32, members: &[(&str, u32, u32)]) -> Type {
        let member = |(name, ty, bit_offset): &(&str, u32, u32)| Member {
            name: Some((*name).to_owned()),
            ty: TypeId(*ty),
            bit_offset: *bit_offset,
            bitfield_size: None,
        };
        let members = members.iter().map(member).collect();
        Type::Struct(Composite {
            name: Some(name.to_owned()),
            size,
            members,
        })
    }

    fn refusal(ty: Type) -> Option<String> {
        let forward = Type::Fwd {
            name: "unknown".to_owned(),
            union: false,
        };
        type_refusal(&[int(), forward, ty], TypeId(3))
    }

    #[test]
    fn ordinary_types_pass() {
        assert_eq!(refusal(int()), None);
        assert_eq!(
            refusal(structure("a", 8, &[("x", 1, 0), ("y", 1, 32)])),
            None
        );
        assert_eq!(
            refusal(Type::Array {
                element: TypeId(1),
                index: TypeId(1),
                length: 4
            }),
            None
        );
    }

    #[test]
    fn names_are_identifiers() {
        for name in ["a b", "Vec<u8>", "$a", "1a", "", "ä"] {
            assert!(
                refusal(structure("s", 4, &[(name, 1, 0)])).is_some(),
                "{name}"
            );
            assert!(
                refusal(Type::Fwd {
                    name: name.to_owned(),
                    union: false
                })
                .is_some(),
                "{name}"
            );
        }
        assert!(refusal(structure(&"a".repeat(512), 0, &[])).is_some());
        assert_eq!(refusal(structure(&"a".repeat(511), 0, &[])), None);
        assert_eq!(refusal(structure("a.b_1", 0, &[])), None);
    }

    #[test]
    fn parts_have_sizes() {
        assert!(refusal(structure("a", 8, &[("x", 2, 0)])).is_some());
        assert!(refusal(structure("a", 4, &[("x", 1, 32)])).is_some());
        let array = Type::Array {
            element: TypeId(2),
            index: TypeId(1),
            length: 1,
        };
        assert!(refusal(array).is_some());
        let proto = |ty, name: Option<&str>| Type::FuncProto {
            returns: TypeId::VOID,
            params: vec![Param {
                name: name.map(str::to_owned),
                ty: TypeId(ty),
            }],
        };
        assert!(refusal(proto(2, None)).is_some());
        assert!(refusal(proto(1, Some("a b"))).is_some());
        assert_eq!(refusal(proto(1, Some("a"))), None);
        assert_eq!(refusal(proto(0, None)), None);
    }

    #[test]
    fn only_integers_have_odd_bits() {
        let pair = |ty, bit_offset, bitfield_size| {
            let member = Member {
                name: Some("x".to_owned()),
                ty: TypeId(ty),
                bit_offset,
                bitfield_size,
            };
            let types = [int(), Type::Ptr { to: TypeId::VOID }];
            let composite = Composite {
                name: None,
                size: 16,
                members: vec![member],
            };
            members(&types, TypeId(3), &composite)
        };
        assert_eq!(pair(1, 3, None), None);
        assert_eq!(pair(1, 3, Some(32)), None);
        assert!(pair(1, 3, Some(33)).is_some());
        assert_eq!(pair(2, 8, None), None);
        assert!(pair(2, 3, None).is_some());
        assert!(pair(2, 0, Some(8)).is_some());
    }

    #[test]
    fn arrays_use_whole_integers() {
        let narrow = Type::Int {
            name: "narrow".to_owned(),
            size: 4,
            bits: 31,
            bit_offset: 0,
            encoding: IntEncoding::Unsigned,
        };
        let types = [int(), narrow];
        let refusal = |element, index| array(&types, TypeId(element), TypeId(index), 1);
        assert_eq!(refusal(1, 1), None);
        assert!(refusal(1, 2).is_some());
        assert!(refusal(2, 1).is_some());
    }

    #[test]
    fn enums_have_known_sizes() {
        let list = |size| {
            let variants = vec![Enumerator {
                name: "A".to_owned(),
                value: 0,
            }];
            Type::Enum(Enum {
                name: None,
                size,
                signed: false,
                variants,
            })
        };
        assert!(refusal(list(3)).is_some());
        assert_eq!(refusal(list(4)), None);
    }
}
