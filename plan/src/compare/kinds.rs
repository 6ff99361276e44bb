//! What kind of type one is, as far as a comparison needs it.

use crate::rules::layout::{get, resolve};
use crate::types::{Composite, Member, Type, TypeId};

/// The variables of a section, as if they were members.
pub(super) fn section(types: &[Type], ty: &Type, size: u32) -> Composite {
    let Type::Datasec { vars, .. } = ty else {
        return Composite {
            name: None,
            size,
            members: Vec::new(),
        };
    };
    let members = vars.iter().filter_map(|place| {
        let Some(Type::Var { name, to, .. }) = get(types, place.var) else {
            return None;
        };
        Some(Member {
            name: Some(name.clone()),
            ty: *to,
            bit_offset: place.offset.saturating_mul(8),
            bitfield_size: None,
        })
    });
    Composite {
        name: None,
        size,
        members: members.collect(),
    }
}

/// Size of what is one number.
pub(super) fn scalar(ty: &Type) -> Option<u32> {
    match ty {
        Type::Int { size, .. } => Some(*size),
        Type::Enum(list) | Type::Enum64(list) => Some(list.size),
        Type::Ptr { .. } => Some(8),
        _ => None,
    }
}

/// Whether one side is what is left of the other for kernels that do not know its kind
/// (`bpf_object__sanitize_btf` of libbpf, `sanitize` here).
pub(super) fn sanitized(one: &Type, other: &Type) -> bool {
    let replaced = |full: &Type, left: &Type| match (full, left) {
        (Type::Float { size, .. }, Type::Struct(composite)) => {
            composite.members.is_empty() && composite.size == *size
        }
        (Type::Enum64(list), Type::Union(composite)) => composite.size == list.size,
        (Type::Datasec { size, .. }, Type::Struct(composite)) => composite.size == *size,
        _ => false,
    };
    replaced(one, other) || replaced(other, one)
}

/// What tells two types of one spelling apart.
pub(super) fn detail(types: &[Type], id: TypeId) -> String {
    match resolve(types, id).map(|(_, ty)| ty) {
        Some(Type::Int { bits, encoding, .. }) => {
            let encoding = format!("{encoding:?}").to_lowercase();
            format!(", {encoding}, {bits} bits")
        }
        Some(Type::Float { size, .. }) => format!(", a float of {size} bytes"),
        Some(Type::Struct(composite) | Type::Union(composite)) => {
            format!(", {} bytes", composite.size)
        }
        Some(Type::Enum(list) | Type::Enum64(list)) => format!(", an enum of {} bytes", list.size),
        Some(Type::Array { .. }) => ", an array".to_owned(),
        Some(Type::Ptr { .. }) => ", a pointer".to_owned(),
        _ => String::new(),
    }
}
