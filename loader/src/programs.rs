//! Maps that programs loaded later cannot use.
//!
//! The kernel compares graph roots and references to a program's own objects by BTF object, not
//! by structure: the map and the programs must have got the same one. Ours has its own small BTF.

use std::collections::BTreeSet;

use bpfplan_plan::{Diagnostic, Map, Plan, Type, TypeId};

use crate::codes;
use crate::kernel::Kernel;

/// Structs that the kernel treats as roots of its own graph structures.
const ROOTS: [&str; 2] = ["bpf_list_head", "bpf_rb_root"];

/// Type tags of references that programs exchange.
const REFERENCES: [&str; 2] = ["kptr", "percpu_kptr"];

/// What a map's values hold that binds them to a BTF object.
#[derive(Debug, Default)]
struct Bound<'a> {
    /// Names of graph roots.
    roots: BTreeSet<&'a str>,
    /// Names of structs that references lead to; they may be the kernel's, which is fine.
    referents: BTreeSet<&'a str>,
}

/// A map that is bound to the programs' BTF, and the structs that bind it.
#[derive(Debug)]
pub(crate) struct BoundMap<'a> {
    /// Index in the plan.
    pub(crate) index: usize,
    culprits: Vec<&'a str>,
}

/// The maps that only programs can use which got the same BTF object.
pub(crate) fn bound<'a, K: Kernel>(plan: &'a Plan, kernel: &K) -> Vec<BoundMap<'a>> {
    let mut found = Vec::new();
    for (index, map) in plan.maps.iter().enumerate() {
        let mut bound = Bound::default();
        collect(plan, map, &mut bound);
        if let Some(inner) = &map.inner {
            collect(plan, inner, &mut bound);
        }
        let mut culprits: Vec<&str> = bound.roots.into_iter().collect();
        if !bound.referents.is_empty() {
            let names: Vec<&str> = bound.referents.into_iter().collect();
            let known = kernel.kernel_structs(&names).unwrap_or_default();
            let local = names.iter().zip(known).filter(|(_, known)| !known);
            culprits.extend(local.map(|(name, _)| *name));
        }
        if !culprits.is_empty() {
            found.push(BoundMap { index, culprits });
        }
    }
    found
}

impl BoundMap<'_> {
    /// The warning that no program can use the map.
    pub(crate) fn warning(&self, map: &Map) -> Diagnostic {
        let list: Vec<String> = self
            .culprits
            .iter()
            .map(|name| format!("struct {}", name.escape_debug()))
            .collect();
        let what = if map.inner.is_some() {
            "values of its inner maps"
        } else {
            "its values"
        };
        Diagnostic::warning(
            codes::PROGRAM_BTF,
            format!(
                "programs that use {} in {what} will not load over this map",
                list.join(", ")
            ),
        )
        .map(&map.name)
        .at(map.source.as_ref(), "declared here")
        .note("the kernel wants such programs to have the very BTF object that the map has")
        .help("load maps and programs together: --pin-progs DIR")
    }
}

fn collect<'a, I>(plan: &'a Plan, map: &Map<I>, bound: &mut Bound<'a>) {
    let Some(ids) = map.btf else { return };
    let mut seen = BTreeSet::new();
    let mut open = vec![TypeId(ids.value_type_id)];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        match plan.type_by_id(id) {
            Some(Type::Struct(composite) | Type::Union(composite)) => match &composite.name {
                Some(name) if ROOTS.contains(&name.as_str()) => {
                    bound.roots.insert(name);
                }
                _ => open.extend(composite.members.iter().map(|member| member.ty)),
            },
            Some(Type::Array { element, .. }) => open.push(*element),
            Some(
                Type::Typedef { to, .. }
                | Type::Const { to }
                | Type::Volatile { to }
                | Type::Restrict { to }
                | Type::TypeTag { to, .. }
                | Type::Var { to, .. },
            ) => open.push(*to),
            Some(Type::Datasec { vars, .. }) => open.extend(vars.iter().map(|place| place.var)),
            Some(Type::Ptr { to }) => bound.referents.extend(referent(plan, *to)),
            _ => {}
        }
    }
}

/// Name of the struct that a pointer to `to` refers to, if it is a tagged one.
fn referent(plan: &Plan, mut to: TypeId) -> Option<&str> {
    let mut tagged = false;
    // A chain of tags and qualifiers is never longer than there are types.
    for _ in &plan.types {
        match plan.type_by_id(to)? {
            Type::TypeTag {
                value, to: next, ..
            } => {
                tagged |= REFERENCES.contains(&value.as_str());
                to = *next;
            }
            Type::Const { to: next }
            | Type::Volatile { to: next }
            | Type::Restrict { to: next } => {
                to = *next;
            }
            Type::Struct(composite) if tagged => return composite.name.as_deref(),
            _ => return None,
        }
    }
    None
}
