//! Sizes of types, as the kernel works them out (`btf_type_id_size`).

use std::borrow::Cow;

use crate::types::{Type, TypeId};

/// Longest chain of modifiers and arrays that is followed: more than the kernel's
/// `MAX_RESOLVE_DEPTH`, few enough that a cycle ends.
const MAX_DEPTH: usize = 32;

/// Size of a pointer in BPF.
const POINTER: u32 = 8;

/// The type with that id.
pub(crate) fn get(types: &[Type], id: TypeId) -> Option<&Type> {
    types.get((id.0 as usize).checked_sub(1)?)
}

/// The type behind typedefs, qualifiers and type tags, with its id.
pub(crate) fn resolve(types: &[Type], mut id: TypeId) -> Option<(TypeId, &Type)> {
    for _ in 0..MAX_DEPTH {
        let ty = get(types, id)?;
        id = match ty {
            Type::Typedef { to, .. }
            | Type::Volatile { to }
            | Type::Const { to }
            | Type::Restrict { to }
            | Type::TypeTag { to, .. }
            | Type::Var { to, .. } => *to,
            _ => return Some((id, ty)),
        };
    }
    None
}

/// Size of a type in bytes, `None` for types without one (void, functions, forward declarations)
/// and where a chain is too long or a size overflows.
pub(crate) fn size_of(types: &[Type], id: TypeId) -> Option<u32> {
    let mut id = id;
    let mut count = 1_u32;
    for _ in 0..MAX_DEPTH {
        let (_, ty) = resolve(types, id)?;
        let size = match ty {
            Type::Array {
                element, length, ..
            } => {
                count = count.checked_mul(*length)?;
                id = *element;
                continue;
            }
            Type::Int { size, .. } | Type::Float { size, .. } | Type::Datasec { size, .. } => *size,
            Type::Struct(composite) | Type::Union(composite) => composite.size,
            Type::Enum(list) | Type::Enum64(list) => list.size,
            Type::Ptr { .. } => POINTER,
            _ => return None,
        };
        return count.checked_mul(size);
    }
    None
}

/// What the kernel calls a type in messages: its kind and name.
pub(crate) fn describe(types: &[Type], id: TypeId) -> String {
    let named = |kind: &str, name: Option<&str>| match name {
        Some(name) => format!("{kind} {}", shown(name)),
        None => format!("an anonymous {kind}"),
    };
    match resolve(types, id).map(|(_, ty)| ty) {
        Some(Type::Int { name, .. } | Type::Float { name, .. }) => shown(name).into_owned(),
        Some(Type::Struct(composite)) => named("struct", composite.name.as_deref()),
        Some(Type::Union(composite)) => named("union", composite.name.as_deref()),
        Some(Type::Enum(list) | Type::Enum64(list)) => named("enum", list.name.as_deref()),
        Some(Type::Fwd { name, union }) => {
            let kind = if *union { "union" } else { "struct" };
            format!("{kind} {}, which is only declared", shown(name))
        }
        Some(Type::Datasec { name, .. }) => format!("section {}", shown(name)),
        Some(Type::Array { .. }) => "an array".to_owned(),
        Some(Type::Ptr { .. }) => "a pointer".to_owned(),
        _ => "a type without a size".to_owned(),
    }
}

/// A name for messages: no longer than the kernel has names, as many maps may have one type.
fn shown(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 511;
    if name.len() <= LONGEST {
        return name.into();
    }
    let cut = name.floor_char_boundary(LONGEST);
    format!("{}...", name.get(..cut).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut() {
        let fwd = |name: String| [Type::Fwd { name, union: false }];
        let describe = |name: String| describe(&fwd(name), TypeId(1));
        let whole = describe("x".repeat(511));
        assert_eq!(
            whole,
            format!("struct {}, which is only declared", "x".repeat(511))
        );
        let long = describe("ä".repeat(1 << 20));
        assert!(
            long.starts_with("struct ää") && long.len() < 600,
            "{}",
            long.len()
        );
    }
}
