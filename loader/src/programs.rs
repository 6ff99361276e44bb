//! Maps that programs loaded later cannot use.
//!
//! The kernel compares graph roots and references to a program's own objects by BTF object, not
//! by structure: the map and the programs must have got the same one. Ours has its own small BTF.

use std::collections::{BTreeMap, BTreeSet};

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
    // Most plans have nothing of the kind.
    if !plan.types.iter().any(binds) {
        return Vec::new();
    }
    // Many maps may have one type, which is looked at once.
    let mut by_value = BTreeMap::new();
    for map in &plan.maps {
        for value in values(map) {
            by_value
                .entry(value)
                .or_insert_with(|| Bound::of(plan, value));
        }
    }
    let referents = by_value.values().flat_map(|bound| &bound.referents);
    let referents: BTreeSet<&str> = referents.copied().collect();
    let mut local = BTreeSet::new();
    if !referents.is_empty() {
        let names: Vec<&str> = referents.into_iter().collect();
        let known = kernel.kernel_structs(&names).unwrap_or_default();
        let unknown = names.iter().zip(known).filter(|(_, known)| !known);
        local.extend(unknown.map(|(name, _)| *name));
    }
    let maps = plan.maps.iter().enumerate();
    let found = maps.filter_map(|(index, map)| {
        let bounds = || values(map).filter_map(|value| by_value.get(&value));
        let roots: BTreeSet<&str> = bounds().flat_map(|bound| &bound.roots).copied().collect();
        let referents = bounds().flat_map(|bound| bound.referents.intersection(&local));
        let referents: BTreeSet<&str> = referents.copied().collect();
        let culprits: Vec<&str> = roots.into_iter().chain(referents).collect();
        (!culprits.is_empty()).then_some(BoundMap { index, culprits })
    });
    found.collect()
}

/// Whether values that hold the type may be bound to a BTF object.
fn binds(ty: &Type) -> bool {
    match ty {
        Type::Struct(composite) | Type::Union(composite) => {
            let name = composite.name.as_deref();
            name.is_some_and(|name| ROOTS.contains(&name))
        }
        Type::TypeTag { value, .. } => REFERENCES.contains(&value.as_str()),
        _ => false,
    }
}

/// The types that the kernel gets of the values of a map and of its inner maps.
fn values(map: &Map) -> impl Iterator<Item = TypeId> {
    let inner = map.inner.as_ref().and_then(|inner| inner.btf);
    let ids = map.btf.into_iter().chain(inner);
    ids.map(|ids| TypeId(ids.value_type_id))
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

impl<'a> Bound<'a> {
    /// What values of that type hold.
    fn of(plan: &'a Plan, value: TypeId) -> Self {
        let mut bound = Self::default();
        let mut seen = BTreeSet::new();
        let mut open = vec![value];
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
                Some(Type::Datasec { vars, .. }) => {
                    open.extend(vars.iter().map(|place| place.var));
                }
                Some(Type::Ptr { to }) => bound.referents.extend(referent(plan, *to)),
                _ => {}
            }
        }
        bound
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
