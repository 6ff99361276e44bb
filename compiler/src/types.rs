//! The plan's types: what keys and values reach, those for the kernel first.

use std::rc::Rc;

use bpfplan_plan::rules;
use bpfplan_plan::types::{Type, TypeId};
use foldhash::HashMap;

use crate::btf::reach::index;
use crate::btf::trim::Trimmed;
use crate::btf::view::View;

/// Tags by what they tag, and structs by the tag that names them.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    of: HashMap<TypeId, Vec<TypeId>>,
    contained: HashMap<TypeId, TypeId>,
}

impl Tags {
    pub(crate) fn new(view: &View, trimmed: &Trimmed) -> Self {
        let mut of: HashMap<TypeId, Vec<TypeId>> = HashMap::default();
        for (id, ty) in view.types() {
            if let Type::DeclTag { to, .. } = ty {
                of.entry(*to).or_default().push(id);
            }
        }
        let contained = trimmed.contained.iter();
        let contained = contained
            .map(|(tag, ty)| (TypeId(*tag), TypeId(*ty)))
            .collect();
        Self { of, contained }
    }
}

/// Collects types in the order in which they are reached and numbers them anew.
#[derive(Debug)]
pub(crate) struct Selection<'v> {
    view: &'v View,
    tags: &'v Tags,
    /// The new id by the old one; void for types that are not taken in.
    ids: Vec<TypeId>,
    order: Vec<TypeId>,
}

impl<'v> Selection<'v> {
    pub(crate) fn new(view: &'v View, tags: &'v Tags) -> Self {
        Self {
            view,
            tags,
            ids: vec![TypeId::VOID; view.len().saturating_add(1)],
            order: Vec::new(),
        }
    }

    /// Number of types so far.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.order.len()).unwrap_or(u32::MAX)
    }

    /// The new id of a type, which is taken in with all that it reaches.
    pub(crate) fn add(&mut self, root: TypeId) -> TypeId {
        let known = self.renumber(root);
        if known != TypeId::VOID {
            return known;
        }
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            let Some(ty) = self.view.get(id) else {
                continue;
            };
            if self.renumber(id) != TypeId::VOID {
                continue;
            }
            self.order.push(id);
            let new = TypeId(self.len());
            if let Some(place) = self.ids.get_mut(index(id.0)) {
                *place = new;
            }
            stack.extend(self.neighbours(id, ty).into_iter().rev());
        }
        self.renumber(root)
    }

    /// What comes along with a type: what it refers to, its tags, and what a tag names.
    fn neighbours(&self, id: TypeId, ty: &Type) -> Vec<TypeId> {
        let mut next = ty.references();
        next.extend(self.tags.of.get(&id).into_iter().flatten());
        next.extend(self.tags.contained.get(&id));
        next
    }

    /// The types that come along with one that the kernel's verifier refuses, with the reason.
    /// `types` are those of [`Selection::finish`].
    pub(crate) fn refused(&self, types: &[Type]) -> HashMap<TypeId, Rc<str>> {
        let mut reached_by: HashMap<TypeId, Vec<TypeId>> = HashMap::default();
        let mut refused = HashMap::default();
        let mut queue = Vec::new();
        for (id, old) in (1..).map(TypeId).zip(&self.order) {
            let next = self.view.get(*old).map(|ty| self.neighbours(*old, ty));
            for next in next.unwrap_or_default() {
                reached_by.entry(self.renumber(next)).or_default().push(id);
            }
            if let Some(reason) = rules::type_refusal(types, id) {
                refused.insert(id, Rc::from(reason));
                queue.push(id);
            }
        }
        while let Some(id) = queue.pop() {
            let Some(reason) = refused.get(&id).cloned() else {
                continue;
            };
            for outer in reached_by.remove(&id).unwrap_or_default() {
                refused.entry(outer).or_insert_with(|| {
                    queue.push(outer);
                    Rc::clone(&reason)
                });
            }
        }
        refused
    }

    fn renumber(&self, id: TypeId) -> TypeId {
        self.ids.get(index(id.0)).copied().unwrap_or(TypeId::VOID)
    }

    /// The types under their new ids.
    pub(crate) fn finish(&self) -> Vec<Type> {
        let types = self
            .order
            .iter()
            .filter_map(|id| self.view.get(*id))
            .cloned();
        types
            .map(|mut ty| {
                for id in ty.references_mut() {
                    *id = self.renumber(*id);
                }
                ty
            })
            .collect()
    }
}
