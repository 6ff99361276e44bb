//! BTF for kernels that do not know all kinds: each is rewritten into an older one of the same
//! size, as libbpf's `bpf_object__sanitize_btf` does.

use crate::types::{Composite, Enum, IntEncoding, Member, Type, TypeId};

/// The kinds of BTF that a kernel knows, besides those of the first BTF (Linux 4.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `VAR` and `DATASEC` (Linux 5.2).
    pub datasec: bool,
    /// `FLOAT` (Linux 5.13).
    pub float: bool,
    /// `DECL_TAG` (Linux 5.16).
    pub decl_tag: bool,
    /// `TYPE_TAG` (Linux 5.17).
    pub type_tag: bool,
    /// `ENUM64` and signed `ENUM` (Linux 6.0).
    pub enum64: bool,
    /// A `?` at the start of a `DATASEC`'s name, and `-` and others in it (Linux 6.9).
    pub question_mark: bool,
}

impl Features {
    /// All that this crate knows.
    pub const ALL: Self = Self {
        datasec: true,
        float: true,
        decl_tag: true,
        type_tag: true,
        enum64: true,
        question_mark: true,
    };

    /// None of them.
    pub const NONE: Self = Self {
        datasec: false,
        float: false,
        decl_tag: false,
        type_tag: false,
        enum64: false,
        question_mark: false,
    };
}

/// Rewrites types for a kernel with these features.
///
/// Ids stay as they are; a type that rewritten ones refer to may be appended.
#[must_use]
pub fn sanitize(types: &[Type], features: &Features) -> Vec<Type> {
    let placeholder = u32::try_from(types.len() + 1).map_or(TypeId::VOID, TypeId);
    let mut uses_placeholder = false;
    let mut rewritten: Vec<Type> = types
        .iter()
        .map(|ty| match ty {
            Type::Var { name, .. } if !features.datasec => byte(name),
            Type::Datasec { name, size, vars } if !features.datasec => {
                let members = vars
                    .iter()
                    .map(|place| Member {
                        name: var_name(types, place.var),
                        ty: place.var,
                        bit_offset: place.offset.saturating_mul(8),
                        bitfield_size: None,
                    })
                    .collect();
                let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                let name = Some(name);
                Type::Struct(Composite {
                    name,
                    size: *size,
                    members,
                })
            }
            Type::Datasec { name, size, vars } if !features.question_mark => {
                let known = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
                let name = name.chars();
                Type::Datasec {
                    name: name.map(|c| if known(&c) { c } else { '_' }).collect(),
                    size: *size,
                    vars: vars.clone(),
                }
            }
            Type::DeclTag { value, .. } if !features.decl_tag => byte(value),
            Type::Float { size, .. } if !features.float => Type::Struct(Composite {
                name: None,
                size: *size,
                members: Vec::new(),
            }),
            Type::TypeTag { to, .. } if !features.type_tag => Type::Const { to: *to },
            Type::Enum(list) if !features.enum64 => Type::Enum(Enum {
                signed: false,
                ..list.clone()
            }),
            Type::Enum64(list) if !features.enum64 => {
                uses_placeholder = true;
                let members = list
                    .variants
                    .iter()
                    .map(|variant| Member {
                        name: Some(variant.name.clone()),
                        ty: placeholder,
                        bit_offset: 0,
                        bitfield_size: None,
                    })
                    .collect();
                Type::Union(Composite {
                    name: list.name.clone(),
                    size: list.size,
                    members,
                })
            }
            other => other.clone(),
        })
        .collect();
    if uses_placeholder {
        rewritten.push(byte("enum64_placeholder"));
    }
    rewritten
}

/// The smallest type there is: a larger one could exceed what it stands for.
fn byte(name: &str) -> Type {
    let encoding = IntEncoding::Unsigned;
    Type::Int {
        name: name.to_owned(),
        size: 1,
        bits: 8,
        bit_offset: 0,
        encoding,
    }
}

fn var_name(types: &[Type], id: TypeId) -> Option<String> {
    match types.get((id.0 as usize).checked_sub(1)?) {
        Some(Type::Var { name, .. }) => Some(name.clone()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "sanitize_tests.rs"]
mod tests;
