//! Types in a few words, as C spells them.

use std::borrow::Cow;

use crate::rules::layout::get;
use crate::types::{Type, TypeId};

/// Bytes of a name that are shown: the kernel takes names of up to 511, a plan any.
const LONGEST_NAME: usize = 128;
/// How many pointers, arrays and qualifiers are spelled out.
const LONGEST: usize = 8;

/// `__u32`, `struct addr`, `__u8[16]`, `struct task_struct *`.
pub(super) fn spell(types: &[Type], mut id: TypeId) -> String {
    let mut tail = String::new();
    for _ in 0..LONGEST {
        let Some(ty) = get(types, id) else {
            return format!("void{tail}");
        };
        id = match ty {
            Type::Ptr { to } => {
                tail = format!(" *{}", tail.trim_start());
                *to
            }
            Type::Array {
                element, length, ..
            } => {
                tail.push_str(&format!("[{length}]"));
                *element
            }
            Type::TypeTag { value, to, .. } => {
                tail = format!(" __{}{tail}", short(value));
                *to
            }
            Type::Volatile { to }
            | Type::Const { to }
            | Type::Restrict { to }
            | Type::Var { to, .. } => *to,
            other => return format!("{}{tail}", name(other)),
        };
    }
    format!("…{tail}")
}

/// A name, cut off if it is very long.
pub(super) fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= LONGEST_NAME {
        return name.into();
    }
    let end = name.floor_char_boundary(LONGEST_NAME);
    format!("{}…", name.get(..end).unwrap_or_default()).into()
}

fn name(ty: &Type) -> String {
    let named = |kind: &str, name: Option<&str>| match name {
        Some(name) => format!("{kind} {}", short(name)),
        None => format!("an anonymous {kind}"),
    };
    match ty {
        Type::Int { name, .. } | Type::Float { name, .. } | Type::Typedef { name, .. } => {
            short(name).into_owned()
        }
        Type::Struct(composite) => named("struct", composite.name.as_deref()),
        Type::Union(composite) => named("union", composite.name.as_deref()),
        Type::Enum(list) | Type::Enum64(list) => named("enum", list.name.as_deref()),
        Type::Fwd { name, union: false } => format!("struct {}", short(name)),
        Type::Fwd { name, union: true } => format!("union {}", short(name)),
        Type::Datasec { name, .. } => format!("section {}", short(name)),
        Type::FuncProto { .. } => "a function".to_owned(),
        _ => "…".to_owned(),
    }
}
