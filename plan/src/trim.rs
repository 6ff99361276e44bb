//! The types of a plan that has changed: those that its maps reach, the kernel's first.

use std::collections::HashMap;

use bytes::Bytes;

use crate::btf::{EncodeError, encode};
use crate::model::{BtfIds, Map, Plan};
use crate::types::{Type, TypeId};

/// Leaves out the types that no map reaches, orders and numbers the others as the compiler does,
/// and writes the BTF again. A plan that the compiler made stays as it is.
///
/// The kernel gets the types of those maps that have [`Map::btf`]; its ids may be any.
pub(crate) fn trim(plan: &mut Plan) -> Result<(), EncodeError> {
    let types = std::mem::take(&mut plan.types);
    let mut selection = Selection::new(&types);
    let mut kernel_types = 0;
    for kernel in [true, false] {
        for map in &mut plan.maps {
            selection.renumber_map(map, kernel);
            if let Some(inner) = &mut map.inner {
                selection.renumber_map(inner, kernel);
            }
        }
        if kernel {
            kernel_types = selection.order.len();
        }
    }
    let trimmed = selection.finish();
    let kernel = trimmed.get(..kernel_types).unwrap_or_default();
    plan.btf = if kernel.is_empty() {
        Bytes::new()
    } else {
        encode(kernel, plan.object.endianness)?.into()
    };
    plan.kernel_types = u32::try_from(kernel_types).unwrap_or(u32::MAX);
    plan.types = trimmed;
    Ok(())
}

/// All types that these reach, with the tags of each and what the tags name.
pub(crate) fn reach(types: &[Type], roots: [Option<TypeId>; 2]) -> Vec<TypeId> {
    let mut selection = Selection::new(types);
    for root in roots.into_iter().flatten() {
        selection.add(root);
    }
    selection.order
}

/// Collects types in the order in which they are reached and numbers them anew.
struct Selection<'t> {
    types: &'t [Type],
    /// The tags of each type.
    tags: HashMap<TypeId, Vec<TypeId>>,
    /// The first struct of each name.
    structs: HashMap<&'t str, TypeId>,
    /// The new id by the old one.
    ids: HashMap<TypeId, TypeId>,
    order: Vec<TypeId>,
}

impl<'t> Selection<'t> {
    fn new(types: &'t [Type]) -> Self {
        let mut tags: HashMap<TypeId, Vec<TypeId>> = HashMap::new();
        let mut structs = HashMap::new();
        for (id, ty) in (1..).map(TypeId).zip(types) {
            match ty {
                Type::DeclTag { to, .. } => tags.entry(*to).or_default().push(id),
                Type::Struct(composite) => {
                    if let Some(name) = composite.name.as_deref() {
                        structs.entry(name).or_insert(id);
                    }
                }
                _ => {}
            }
        }
        Self {
            types,
            tags,
            structs,
            ids: HashMap::new(),
            order: Vec::new(),
        }
    }

    fn get(&self, id: TypeId) -> Option<&'t Type> {
        self.types.get((id.0 as usize).checked_sub(1)?)
    }

    fn renumber_map<I>(&mut self, map: &mut Map<I>, kernel: bool) {
        if map.btf.is_some() != kernel {
            return;
        }
        map.key_type = map.key_type.map(|id| self.add(id));
        map.value_type = map.value_type.map(|id| self.add(id));
        if let Some(ids) = &mut map.btf {
            let id = |ty: Option<TypeId>| ty.unwrap_or(TypeId::VOID).0;
            *ids = BtfIds {
                key_type_id: id(map.key_type),
                value_type_id: id(map.value_type),
            };
        }
    }

    /// The new id of a type, which is taken in with all that it reaches.
    fn add(&mut self, root: TypeId) -> TypeId {
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            let Some(ty) = self.get(id) else { continue };
            if self.ids.contains_key(&id) {
                continue;
            }
            self.order.push(id);
            let new = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
            self.ids.insert(id, TypeId(new));
            let mut next = ty.references();
            next.extend(self.tags.get(&id).into_iter().flatten());
            next.extend(contained(ty).and_then(|name| self.structs.get(name)));
            stack.extend(next.into_iter().rev());
        }
        self.renumber(root)
    }

    fn renumber(&self, id: TypeId) -> TypeId {
        self.ids.get(&id).copied().unwrap_or(TypeId::VOID)
    }

    /// The types under their new ids.
    fn finish(self) -> Vec<Type> {
        let types = self.order.iter().filter_map(|id| self.get(*id)).cloned();
        types
            .map(|mut ty| {
                ty.each_reference_mut(|id| *id = self.renumber(*id));
                ty
            })
            .collect()
    }
}

/// The struct that a tag such as `contains:node:link` names: the kernel looks for the nodes of a
/// list or tree by name.
fn contained(ty: &Type) -> Option<&str> {
    let Type::DeclTag { value, .. } = ty else {
        return None;
    };
    value.strip_prefix("contains:")?.split(':').next()
}
