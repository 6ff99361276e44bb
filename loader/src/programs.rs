//! Maps that programs loaded later cannot use.
//!
//! The kernel compares graph roots and references to a program's own objects by BTF object, not
//! by structure: the map and the programs must have got the same one. Ours has its own small BTF.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use bpfplan_plan::{Diagnostic, Map, Plan, Type, TypeId};

use crate::codes;
use crate::kernel::Kernel;

/// Structs that the kernel treats as roots of its own graph structures.
const ROOTS: [&str; 2] = ["bpf_list_head", "bpf_rb_root"];

/// Type tags of references that programs exchange.
const REFERENCES: [&str; 2] = ["kptr", "percpu_kptr"];

/// Structs that a message names. More are not remembered, as a plan may have many maps with many.
const SHOWN: usize = 8;

/// Characters of a name that a message shows.
const LENGTH: usize = 128;

/// A struct that binds values to a BTF object, roots before structs that references lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Culprit<'a> {
    /// Name of a graph root.
    Root(&'a str),
    /// Name of a struct of the programs' own that a reference leads to.
    Referent(&'a str),
}

/// The first ones of what binds values of a type, one more than are shown.
type Culprits<'a> = Rc<BTreeSet<Culprit<'a>>>;

/// A map that is bound to the programs' BTF, and the structs that bind it.
#[derive(Debug)]
pub(crate) struct BoundMap<'a> {
    /// Index in the plan.
    pub(crate) index: usize,
    culprits: BTreeSet<Culprit<'a>>,
}

/// The maps that only programs can use which got the same BTF object.
pub(crate) fn bound<'a, K: Kernel>(plan: &'a Plan, kernel: &K) -> Vec<BoundMap<'a>> {
    // Most plans have nothing of the kind.
    if !plan.types.iter().any(binds) {
        return Vec::new();
    }
    let mut search = Search {
        plan,
        local: local(plan, kernel),
        known: HashMap::new(),
    };
    let maps = plan.maps.iter().enumerate();
    let found = maps.filter_map(|(index, map)| {
        let mut culprits = BTreeSet::new();
        for value in values(map) {
            add(&mut culprits, &search.culprits(value));
        }
        (!culprits.is_empty()).then_some(BoundMap { index, culprits })
    });
    found.collect()
}

/// The structs that references in values lead to and that are not the kernel's.
fn local<'a, K: Kernel>(plan: &'a Plan, kernel: &K) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    let mut open: Vec<TypeId> = plan.maps.iter().flat_map(values).collect();
    let mut referents = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        if let Some(ty) = plan.type_by_id(id) {
            referents.extend(referent(plan, ty));
            each_part(ty, |part| open.push(part));
        }
    }
    if referents.is_empty() {
        return HashSet::new();
    }
    let names: Vec<&str> = referents.into_iter().collect();
    let known = kernel.kernel_structs(&names).unwrap_or_default();
    let unknown = names.iter().zip(known).filter(|(_, known)| !known);
    unknown.map(|(name, _)| *name).collect()
}

/// Whether values that hold the type may be bound to a BTF object.
fn binds(ty: &Type) -> bool {
    match ty {
        Type::TypeTag { value, .. } => REFERENCES.contains(&value.as_str()),
        _ => root(ty).is_some(),
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
        let names = self.culprits.iter().take(SHOWN).map(|culprit| {
            let (Culprit::Root(name) | Culprit::Referent(name)) = culprit;
            let shown: String = name.chars().take(LENGTH).collect();
            format!("struct {}", shown.escape_debug())
        });
        let mut list = names.collect::<Vec<_>>().join(", ");
        if self.culprits.len() > SHOWN {
            list.push_str(" or others");
        }
        let what = if map.inner.is_some() {
            "values of its inner maps"
        } else {
            "its values"
        };
        Diagnostic::warning(
            codes::PROGRAM_BTF,
            format!("programs that use {list} in {what} will not load over this map"),
        )
        .map(&map.name)
        .at(map.source.as_ref(), "declared here")
        .note("the kernel wants such programs to have the very BTF object that the map has")
        .help("load maps and programs together: --pin-progs DIR")
    }
}

/// Looks for what binds values, once in each type: many maps may have one, and many types as well.
struct Search<'a> {
    plan: &'a Plan,
    /// Structs of the programs' own.
    local: HashSet<&'a str>,
    known: HashMap<TypeId, Culprits<'a>>,
}

impl<'a> Search<'a> {
    /// What binds values of that type. Validation has bounded how deep types are nested.
    fn culprits(&mut self, id: TypeId) -> Culprits<'a> {
        if let Some(known) = self.known.get(&id) {
            return Rc::clone(known);
        }
        let mut found = BTreeSet::new();
        if let Some(ty) = self.plan.type_by_id(id) {
            found.extend(root(ty).map(Culprit::Root));
            let referent = referent(self.plan, ty).filter(|name| self.local.contains(name));
            found.extend(referent.map(Culprit::Referent));
            each_part(ty, |part| add(&mut found, &self.culprits(part)));
        }
        let found = Rc::new(found);
        self.known.insert(id, Rc::clone(&found));
        found
    }
}

fn add<'a>(culprits: &mut BTreeSet<Culprit<'a>>, more: &BTreeSet<Culprit<'a>>) {
    culprits.extend(more);
    while culprits.len() > SHOWN + 1 {
        culprits.pop_last();
    }
}

/// The name of a type that is a graph root.
fn root(ty: &Type) -> Option<&str> {
    match ty {
        Type::Struct(composite) | Type::Union(composite) => {
            let name = composite.name.as_deref();
            name.filter(|name| ROOTS.contains(name))
        }
        _ => None,
    }
}

/// As [`Type::each_part`]; what is in a root is the kernel's.
fn each_part(ty: &Type, each: impl FnMut(TypeId)) {
    if root(ty).is_none() {
        ty.each_part(each);
    }
}

/// Name of the struct that a pointer leads to, if what it points to is tagged as a reference.
fn referent<'a>(plan: &'a Plan, pointer: &Type) -> Option<&'a str> {
    let Type::Ptr { to } = pointer else {
        return None;
    };
    let (mut to, mut tagged) = (*to, false);
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
