//! Which maps come to be only together with the programs of their object.

use crate::model::{Map, Plan, WithPrograms};
use crate::types::{Type, TypeId};
use crate::uapi;

/// Structs that the kernel treats as roots of its own graph structures.
const ROOTS: [&str; 2] = ["bpf_list_head", "bpf_rb_root"];

/// Why maps of a plan need the programs.
///
/// References to objects of the programs' own (local kptrs) bind a map to them as well, but only
/// the target knows which types are its own.
#[derive(Debug)]
pub struct ProgramNeeds {
    /// By id - 1: whether values of the type hold a graph root.
    roots: Vec<bool>,
}

impl ProgramNeeds {
    /// For the maps of a plan with these types: those that values reach are looked at once.
    #[must_use]
    pub fn new(types: &[Type]) -> Self {
        let mut roots = vec![false; types.len()];
        if !types.iter().any(is_root) {
            return Self { roots };
        }
        let mut inside: Vec<Vec<usize>> = vec![Vec::new(); types.len()];
        let mut queue = Vec::new();
        for (index, ty) in types.iter().enumerate() {
            if is_root(ty) {
                if let Some(root) = roots.get_mut(index) {
                    *root = true;
                }
                queue.push(index);
                continue;
            }
            ty.each_part(|part| {
                let holders = place(part).and_then(|part| inside.get_mut(part));
                if let Some(holders) = holders {
                    holders.push(index);
                }
            });
        }
        while let Some(index) = queue.pop() {
            let holders = inside.get_mut(index).map(std::mem::take);
            for holder in holders.unwrap_or_default() {
                if let Some(root) = roots.get_mut(holder).filter(|root| !**root) {
                    *root = true;
                    queue.push(holder);
                }
            }
        }
        Self { roots }
    }

    /// Why the map needs the programs, if it does. Whether a `STRUCT_OPS` map is an optional one
    /// is not for its attributes to say.
    #[must_use]
    pub fn of(&self, map: &Map) -> Option<WithPrograms> {
        let roots =
            || self.has_roots(map) || map.inner.as_deref().is_some_and(|it| self.has_roots(it));
        match map.map_type.0 {
            uapi::BPF_MAP_TYPE_STRUCT_OPS => Some(WithPrograms::StructOps),
            uapi::BPF_MAP_TYPE_ARENA => map.data.as_ref().map(|_| WithPrograms::ArenaData),
            _ => roots().then_some(WithPrograms::GraphRoot),
        }
    }

    fn has_roots<I>(&self, map: &Map<I>) -> bool {
        let value = map.btf.and_then(|ids| place(TypeId(ids.value_type_id)));
        let known = value.and_then(|value| self.roots.get(value));
        known.copied().unwrap_or_default()
    }
}

fn place(id: TypeId) -> Option<usize> {
    usize::try_from(id.0).ok()?.checked_sub(1)
}

fn is_root(ty: &Type) -> bool {
    let name = match ty {
        Type::Struct(composite) | Type::Union(composite) => composite.name.as_deref(),
        _ => None,
    };
    name.is_some_and(|name| ROOTS.contains(&name))
}

impl WithPrograms {
    /// What binds the map to the programs, for people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::StructOps => "its members are programs",
            Self::OptionalStructOps => "its members are programs; left out unless it is asked for",
            Self::ArenaData => "global variables in an arena",
            Self::GraphRoot => "roots of lists or trees",
        }
    }

    /// Whether nobody but libbpf can make the map.
    #[must_use]
    pub fn is_libbpfs(self) -> bool {
        self != Self::GraphRoot
    }
}

impl Plan {
    /// Whether some map or slot comes with the programs of the object.
    #[must_use]
    pub fn needs_programs(&self) -> bool {
        let with_programs = |map: &Map| map.with_programs.is_some() || map.has_program_slots();
        self.jump_tables > 0 || self.maps.iter().any(with_programs)
    }
}
