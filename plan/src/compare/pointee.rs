//! What pointers lead to.

use super::spell::spell;
use crate::rules::layout::get;
use crate::types::{Type, TypeId};

/// Longest chain of qualifiers behind a pointer.
const LONGEST_CHAIN: usize = 32;

/// What a pointer leads to.
pub(super) struct Pointee<'a> {
    /// Values of its type tags.
    pub(super) tags: Vec<&'a str>,
    /// Struct, union or other type by name.
    pub(super) name: String,
    /// Whether it is more than declared.
    pub(super) full: bool,
}

pub(super) fn pointee(types: &[Type], mut id: TypeId) -> Pointee<'_> {
    let mut tags = Vec::new();
    for _ in 0..LONGEST_CHAIN {
        id = match get(types, id) {
            Some(Type::TypeTag { value, to, .. }) => {
                tags.push(value.as_str());
                *to
            }
            Some(
                Type::Const { to }
                | Type::Volatile { to }
                | Type::Restrict { to }
                | Type::Typedef { to, .. },
            ) => *to,
            _ => break,
        };
    }
    Pointee {
        tags,
        name: match get(types, id) {
            Some(Type::Int { size, .. }) => format!("an integer of {size} bytes"),
            Some(Type::FuncProto { .. }) => "a function".to_owned(),
            Some(Type::Ptr { .. }) => "a pointer".to_owned(),
            Some(Type::Array { .. }) => "an array".to_owned(),
            _ => spell(types, id),
        },
        full: !matches!(get(types, id), Some(Type::Fwd { .. })),
    }
}
