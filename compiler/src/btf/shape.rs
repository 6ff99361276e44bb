//! What a type is, in words, and how large it is.

use bpfplan_plan::uapi;
use bpfplan_plan::uapi::{
    BTF_KIND_ARRAY, BTF_KIND_CONST, BTF_KIND_DATASEC, BTF_KIND_DECL_TAG, BTF_KIND_ENUM,
    BTF_KIND_ENUM64, BTF_KIND_FLOAT, BTF_KIND_FUNC, BTF_KIND_FUNC_PROTO, BTF_KIND_FWD,
    BTF_KIND_INT, BTF_KIND_PTR, BTF_KIND_RESTRICT, BTF_KIND_STRUCT, BTF_KIND_TYPE_TAG,
    BTF_KIND_TYPEDEF, BTF_KIND_UNION, BTF_KIND_VAR, BTF_KIND_VOLATILE,
};
use foldhash::HashMap;

use super::raw::{Raw, RawType};

/// Size of a pointer in BPF.
const POINTER: u32 = 8;
/// `MAX_RESOLVE_DEPTH` of libbpf.
const MAX_HOPS: usize = 32;

/// Why a type has no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsized {
    /// `void`, a forward declaration, a function ...
    Incomplete,
    /// More than `u32::MAX` bytes.
    TooLarge,
    /// More typedefs, modifiers and arrays in a row than libbpf follows.
    TooDeep,
}

/// Which chains of typedefs, modifiers and arrays are circles. Each type is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Circles {
    known: HashMap<u32, bool>,
}

impl Circles {
    /// Whether the chain that starts there leads back to itself.
    pub(crate) fn contain(&mut self, raw: &Raw<'_>, start: u32) -> bool {
        let mut path = Vec::new();
        let mut next = Some(start);
        let circle = loop {
            let Some(id) = next else { break false };
            // A type on the way counts as one of a circle until it is known not to be.
            if let Some(circle) = self.known.insert(id, true) {
                self.known.insert(id, circle);
                break circle;
            }
            path.push(id);
            next = raw.get(id).and_then(|ty| hop(&ty));
        };
        self.known.extend(path.into_iter().map(|id| (id, circle)));
        circle
    }
}

/// What decides about the size of a type in its place.
fn hop(ty: &RawType<'_>) -> Option<u32> {
    match ty.kind {
        BTF_KIND_ARRAY => {
            let [element, _, _] = ty.array();
            Some(element)
        }
        BTF_KIND_VAR | BTF_KIND_DECL_TAG => Some(ty.last),
        _ => ty.is_modifier().then_some(ty.last),
    }
}

/// The size in bytes: `btf__resolve_size`.
pub(crate) fn size(raw: &Raw<'_>, mut id: u32) -> Result<u32, Unsized> {
    let mut length: u32 = 1;
    for _ in 0..MAX_HOPS {
        let ty = raw.get(id).ok_or(Unsized::Incomplete)?;
        let size = match ty.kind {
            BTF_KIND_INT | BTF_KIND_FLOAT | BTF_KIND_DATASEC | BTF_KIND_STRUCT | BTF_KIND_UNION
            | BTF_KIND_ENUM | BTF_KIND_ENUM64 => ty.last,
            BTF_KIND_PTR => POINTER,
            _ => {
                if ty.kind == BTF_KIND_ARRAY {
                    let [_, _, own] = ty.array();
                    length = length.checked_mul(own).ok_or(Unsized::TooLarge)?;
                }
                id = hop(&ty).ok_or(Unsized::Incomplete)?;
                continue;
            }
        };
        return size.checked_mul(length).ok_or(Unsized::TooLarge);
    }
    Err(Unsized::TooDeep)
}

/// `BTF_KIND_*` in words, as C programmers say it.
pub(crate) fn kind(ty: Option<RawType<'_>>) -> &'static str {
    match ty.map(|ty| ty.kind) {
        None => "void",
        Some(BTF_KIND_INT) => "an integer",
        Some(BTF_KIND_PTR) => "a pointer",
        Some(BTF_KIND_ARRAY) => "an array",
        Some(BTF_KIND_STRUCT) => "a struct",
        Some(BTF_KIND_UNION) => "a union",
        Some(BTF_KIND_ENUM | BTF_KIND_ENUM64) => "an enum",
        Some(BTF_KIND_FWD) => "a forward declaration",
        Some(BTF_KIND_TYPEDEF) => "a typedef",
        Some(BTF_KIND_VOLATILE) => "a volatile type",
        Some(BTF_KIND_CONST) => "a const type",
        Some(BTF_KIND_RESTRICT) => "a restrict type",
        Some(BTF_KIND_FUNC | BTF_KIND_FUNC_PROTO) => "a function",
        Some(BTF_KIND_VAR) => "a variable",
        Some(BTF_KIND_DATASEC) => "a section",
        Some(BTF_KIND_FLOAT) => "a floating-point number",
        Some(BTF_KIND_DECL_TAG | BTF_KIND_TYPE_TAG) => "a tag",
        // The section was refused if it has any other.
        Some(_) => "an unknown type",
    }
}

const _: () = assert!(
    uapi::BTF_KIND_MAX == 19,
    "a new kind of type needs words and a size"
);
