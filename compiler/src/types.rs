//! The plan's types: what keys and values reach, those for the kernel first.

use std::rc::Rc;

use bpfplan_plan::rules::SpecialFields;
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
    numbers: Numbers,
    /// Types that are taken in, but not what they reach.
    stack: Vec<TypeId>,
}

/// The new numbers of types.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// By the old id; 0 for types that are not taken in.
    ids: Vec<u32>,
    order: Vec<TypeId>,
}

impl<'v> Selection<'v> {
    pub(crate) fn new(view: &'v View, tags: &'v Tags) -> Self {
        Self {
            view,
            tags,
            numbers: Numbers {
                ids: vec![0; view.len().saturating_add(1)],
                order: Vec::with_capacity(view.len()),
            },
            stack: Vec::new(),
        }
    }

    /// Number of types so far.
    pub(crate) fn len(&self) -> u32 {
        self.numbers.len()
    }

    /// Takes in a type with all that it reaches.
    pub(crate) fn add(&mut self, root: TypeId) {
        if self.numbers.of(root) != TypeId::VOID {
            return;
        }
        let mut stack = std::mem::take(&mut self.stack);
        stack.push(root);
        while let Some(id) = stack.pop() {
            let Some(ty) = self.view.get(id) else {
                continue;
            };
            if !self.numbers.add(id) {
                continue;
            }
            let first = stack.len();
            self.each_neighbour(id, ty, |next| stack.push(next));
            stack.get_mut(first..).unwrap_or_default().reverse();
        }
        self.stack = stack;
    }

    /// What comes along with a type: what it refers to, its tags, and what a tag names.
    fn each_neighbour(&self, id: TypeId, ty: &Type, mut each: impl FnMut(TypeId)) {
        ty.each_reference(&mut each);
        self.tags
            .of
            .get(&id)
            .into_iter()
            .flatten()
            .copied()
            .for_each(&mut each);
        self.tags
            .contained
            .get(&id)
            .copied()
            .into_iter()
            .for_each(each);
    }

    /// The types that come along with one that the kernel's verifier refuses, with the reason.
    pub(crate) fn refused(&self) -> HashMap<TypeId, Rc<str>> {
        let mut refused: HashMap<TypeId, Rc<str>> = HashMap::default();
        let mut queue = Vec::new();
        let mut special = SpecialFields::new(self.view.as_slice());
        for id in &self.numbers.order {
            if let Some(reason) = special.type_refusal(*id) {
                refused.insert(*id, Rc::from(reason));
                queue.push(*id);
            }
        }
        if refused.is_empty() {
            return refused;
        }
        let mut reached_by: HashMap<TypeId, Vec<TypeId>> = HashMap::default();
        for id in &self.numbers.order {
            if let Some(ty) = self.view.get(*id) {
                self.each_neighbour(*id, ty, |next| {
                    reached_by.entry(next).or_default().push(*id);
                });
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

    /// The new numbers.
    pub(crate) fn finish(self) -> Numbers {
        self.numbers
    }
}

impl Numbers {
    fn len(&self) -> u32 {
        u32::try_from(self.order.len()).unwrap_or(u32::MAX)
    }

    /// Numbers a type; says whether it had no number.
    fn add(&mut self, id: TypeId) -> bool {
        let new = self.len().saturating_add(1);
        match self.ids.get_mut(index(id.0)) {
            Some(place @ 0) => {
                *place = new;
                self.order.push(id);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The new id of a type; void for one that was not taken in.
    pub(crate) fn of(&self, id: TypeId) -> TypeId {
        TypeId(self.ids.get(index(id.0)).copied().unwrap_or_default())
    }

    /// The types under their new ids.
    pub(crate) fn apply(&self, view: View) -> Vec<Type> {
        let mut types: Vec<Option<Type>> = view.into_types().map(Some).collect();
        let mut renumbered = Vec::with_capacity(self.order.len());
        for id in &self.order {
            let place = index(id.0).checked_sub(1);
            let ty = place.and_then(|place| types.get_mut(place)?.take());
            renumbered.extend(ty.map(|mut ty| {
                ty.each_reference_mut(|id| *id = self.of(*id));
                ty
            }));
        }
        renumbered
    }
}
