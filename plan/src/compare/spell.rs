//! Types in a few words, as C spells them.

use crate::rules::layout::get;
use crate::types::{Type, TypeId};

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
                tail = format!(" __{value}{tail}");
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

fn name(ty: &Type) -> String {
    let named = |kind: &str, name: Option<&str>| match name {
        Some(name) => format!("{kind} {name}"),
        None => format!("an anonymous {kind}"),
    };
    match ty {
        Type::Int { name, .. } | Type::Float { name, .. } | Type::Typedef { name, .. } => {
            name.clone()
        }
        Type::Struct(composite) => named("struct", composite.name.as_deref()),
        Type::Union(composite) => named("union", composite.name.as_deref()),
        Type::Enum(list) | Type::Enum64(list) => named("enum", list.name.as_deref()),
        Type::Fwd { name, union: false } => format!("struct {name}"),
        Type::Fwd { name, union: true } => format!("union {name}"),
        Type::Datasec { name, .. } => format!("section {name}"),
        Type::FuncProto { .. } => "a function".to_owned(),
        _ => "…".to_owned(),
    }
}
