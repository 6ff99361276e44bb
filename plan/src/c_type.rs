//! Types as C spells them.

use std::collections::HashMap;

use crate::model::Plan;
use crate::plain::plain;
use crate::types::{Type, TypeId};

/// How deep a declaration nests before it is cut.
const DEEPEST: usize = 32;
/// Parts of a type in one line before it is cut.
const SHORT: usize = 64;

/// Writes declarations. A plan can be hostile, so the work is bounded by `fuel`.
#[derive(Debug)]
pub struct Declarator<'a> {
    plan: &'a Plan,
    /// Parts that may still be written.
    pub fuel: usize,
    /// Values of decl tags by type and component.
    tags: HashMap<(TypeId, Option<u32>), Vec<&'a str>>,
}

/// A declaration up to its base type.
#[derive(Debug)]
pub struct Declaration {
    /// The type that the declaration starts with.
    pub base: TypeId,
    /// Qualifiers in front of the base type, each with a space after it.
    pub qualifiers: String,
    /// Name, pointers, arrays and parameters behind the base type.
    pub declarator: String,
}

impl<'a> Declarator<'a> {
    /// For the types of a plan.
    #[must_use]
    pub fn new(plan: &'a Plan, fuel: usize) -> Self {
        let mut tags: HashMap<_, Vec<&str>> = HashMap::new();
        for ty in &plan.types {
            if let Type::DeclTag {
                value,
                to,
                component,
                ..
            } = ty
            {
                tags.entry((*to, *component)).or_default().push(value);
            }
        }
        Self { plan, fuel, tags }
    }

    /// A type in one line, such as `struct flow` or `__u32[4]`.
    #[must_use]
    pub fn short(plan: &'a Plan, id: TypeId) -> String {
        let mut this = Self {
            plan,
            fuel: SHORT,
            tags: HashMap::new(),
        };
        this.declare(id, String::new(), 0)
    }

    /// A declaration of `name` in one line, the members of anonymous structs left out.
    pub fn declare(&mut self, id: TypeId, name: String, depth: usize) -> String {
        let Declaration {
            base,
            qualifiers,
            declarator,
        } = self.split(id, name, depth);
        let base = self.base(base);
        match declarator.chars().next() {
            None => format!("{qualifiers}{base}"),
            Some('[') => format!("{qualifiers}{base}{declarator}"),
            Some(_) => format!("{qualifiers}{base} {declarator}"),
        }
    }

    /// Follows pointers, arrays, qualifiers and functions down to the base type.
    pub fn split(&mut self, id: TypeId, name: String, depth: usize) -> Declaration {
        let mut base = id;
        let mut qualifiers = String::new();
        let mut declarator = name;
        for _ in 0..DEEPEST {
            if self.fuel == 0 {
                break;
            }
            self.fuel -= 1;
            let Some(ty) = self.plan.type_by_id(base) else {
                break;
            };
            match ty {
                Type::Ptr { to } => {
                    let star = self.pointer_qualifiers(&mut qualifiers);
                    declarator = format!("*{star}{declarator}");
                    if matches!(
                        self.plan.type_by_id(*to),
                        Some(Type::Array { .. } | Type::FuncProto { .. })
                    ) {
                        declarator = format!("({declarator})");
                    }
                    base = *to;
                }
                Type::Array {
                    element, length, ..
                } => {
                    // BTF does not tell `[]` from `[0]`, and only this may stand anywhere.
                    declarator = format!("{declarator}[{length}]");
                    base = *element;
                }
                Type::FuncProto { returns, params } => {
                    let params = if depth < 4 {
                        params
                            .iter()
                            .map(|param| match (&param.name, param.ty) {
                                (None, TypeId::VOID) => "...".to_owned(),
                                (name, ty) => {
                                    let name = plain(name.as_deref().unwrap_or_default());
                                    self.declare(ty, name.into_owned(), depth + 1)
                                }
                            })
                            .collect::<Vec<_>>()
                            .join(", ")
                    } else {
                        "…".to_owned()
                    };
                    let params = if params.is_empty() { "void" } else { &params };
                    declarator = format!("{declarator}({params})");
                    base = *returns;
                }
                Type::Const { to } => {
                    qualifiers.push_str("const ");
                    base = *to;
                }
                Type::Volatile { to } => {
                    qualifiers.push_str("volatile ");
                    base = *to;
                }
                Type::Restrict { to } => {
                    qualifiers.push_str("restrict ");
                    base = *to;
                }
                Type::TypeTag { value, to, .. } => {
                    declarator = format!("__{} {declarator}", plain(value));
                    base = *to;
                }
                Type::Var { to, .. } => base = *to,
                _ => {
                    return Declaration {
                        base,
                        qualifiers,
                        declarator,
                    };
                }
            }
        }
        if self.plan.type_by_id(base).is_some_and(is_derived) {
            // Cut: what is left has no name of its own.
            qualifiers.push_str("… ");
            base = TypeId::VOID;
        }
        Declaration {
            base,
            qualifiers,
            declarator,
        }
    }

    /// Qualifiers seen so far belong to the pointer, behind its star.
    fn pointer_qualifiers(&self, qualifiers: &mut String) -> String {
        std::mem::take(qualifiers)
    }

    /// The base type of a declaration.
    fn base(&self, id: TypeId) -> String {
        let tagged = |keyword: &str, name: Option<&str>| match name {
            Some(name) => format!("{keyword} {}", plain(name)),
            None => format!("{keyword} {{…}}"),
        };
        match self.plan.type_by_id(id) {
            None => "void".to_owned(),
            Some(
                Type::Int { name, .. } | Type::Float { name, .. } | Type::Typedef { name, .. },
            ) => plain(name).into_owned(),
            Some(Type::Struct(composite)) => tagged("struct", composite.name.as_deref()),
            Some(Type::Union(composite)) => tagged("union", composite.name.as_deref()),
            Some(Type::Enum(list) | Type::Enum64(list)) => tagged("enum", list.name.as_deref()),
            Some(Type::Fwd { name, union }) => {
                tagged(if *union { "union" } else { "struct" }, Some(name))
            }
            Some(Type::Datasec { name, .. }) => format!("section {}", plain(name)),
            Some(_) => "…".to_owned(),
        }
    }

    /// Decl tags of a type, or of one of its components, as C attributes with a space in front.
    pub fn attributes(&self, ty: TypeId, component: Option<u32>) -> String {
        self.tags
            .get(&(ty, component))
            .into_iter()
            .flatten()
            .map(|value| {
                let mut parts = value.split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some("contains"), Some(node), Some(field), None) => {
                        format!(" __contains({}, {})", plain(node), plain(field))
                    }
                    _ => format!(" __attribute__((btf_decl_tag(\"{}\")))", plain(value)),
                }
            })
            .collect()
    }
}

fn is_derived(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Ptr { .. }
            | Type::Array { .. }
            | Type::FuncProto { .. }
            | Type::Const { .. }
            | Type::Volatile { .. }
            | Type::Restrict { .. }
            | Type::TypeTag { .. }
            | Type::Var { .. }
            | Type::DeclTag { .. }
    )
}
