//! Structs that the kernel inspects as soon as their BTF is loaded (`btf_parse_struct_metas`):
//! programs could allocate them.

use super::layout::{get, resolve};
use super::special::{Record, SpecialFields};
use crate::types::{Composite, Type, TypeId};

/// `alloc_obj_fields`: a struct with a member of one of these types is inspected.
const FIELDS: [&str; 7] = [
    "bpf_spin_lock",
    "bpf_res_spin_lock",
    "bpf_list_head",
    "bpf_list_node",
    "bpf_rb_root",
    "bpf_rb_node",
    "bpf_refcount",
];
/// So is one with a pointer of one of these tags.
const TAGS: [&str; 3] = ["kptr", "kptr_untrusted", "percpu_kptr"];

/// Why the kernel refuses BTF with this struct in it; `None` if it takes it.
pub(super) fn refusal(
    special: &mut SpecialFields<'_>,
    id: TypeId,
    composite: &Composite,
) -> Option<&'static str> {
    let types = special.types;
    let inspected = |ty| match get(types, ty) {
        Some(Type::Struct(field)) => field
            .name
            .as_deref()
            .is_some_and(|name| FIELDS.contains(&name)),
        Some(Type::Volatile { to }) => get(types, *to).is_some_and(|ty| is_kptr(types, ty)),
        Some(ty) => is_kptr(types, ty),
        None => false,
    };
    if !composite.members.iter().any(|member| inspected(member.ty)) {
        return None;
    }
    match special.record(id) {
        Record::Malformed(reason) => Some(reason),
        Record::Fields(_) => None,
    }
}

fn is_kptr(types: &[Type], ty: &Type) -> bool {
    let Type::Ptr { to } = ty else { return false };
    let Some(Type::TypeTag {
        value,
        to,
        attribute: false,
    }) = get(types, *to)
    else {
        return false;
    };
    TAGS.contains(&value.as_str()) && matches!(resolve(types, *to), Some((_, Type::Struct(_))))
}
