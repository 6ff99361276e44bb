//! Which types the maps reach, and in which form: the rules of pruning.
//!
//! A plain pointer needs no more than the name of what it points to, so its pointee becomes a
//! forward declaration. A pointer with a type tag (`kptr`, `percpu_kptr`, `uptr`, `rcu` ...) is
//! looked through by the kernel, so its pointee stays.

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::{
    BTF_KIND_ARRAY, BTF_KIND_DECL_TAG, BTF_KIND_PTR, BTF_KIND_STRUCT, BTF_KIND_TYPE_TAG,
    BTF_KIND_VAR,
};

use super::raw::Raw;
use crate::codes;

/// The form in which a type is kept. One type can be kept in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// As part of a key or value.
    Full,
    /// Behind a plain pointer, on the way to a named struct or union, which is left out.
    Cut,
    /// A variable of global data.
    Global,
    /// A map variable, or the way to the struct that declares a map.
    Definition,
    /// A member of such a struct: its pointers stand for numbers and types.
    Field,
    /// An element of the member `values`: its pointers lead to the inner map's definition.
    Element,
}

impl Form {
    /// Number of forms.
    pub(crate) const COUNT: usize = Self::Element as usize + 1;
}

/// A type in one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) id: u32,
    pub(crate) form: Form,
}

/// Where a chain of modifiers ends.
#[derive(Debug, Clone, Copy)]
struct End {
    id: u32,
    tagged: bool,
}

/// Decides the form of every type that is reached.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    pub(crate) raw: &'a Raw<'a>,
    /// By id.
    ends: Vec<Option<End>>,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(raw: &'a Raw<'a>) -> Self {
        Self {
            raw,
            ends: vec![None; raw.len().saturating_add(1)],
        }
    }

    /// The node for what a node of the given form refers to; `kind` is the referring type's.
    pub(crate) fn target(&mut self, kind: u32, form: Form, id: u32) -> Result<Node, Diagnostic> {
        let form = match (form, kind) {
            (Form::Definition, BTF_KIND_STRUCT) => Form::Field,
            (Form::Field, BTF_KIND_PTR) => Form::Full,
            (Form::Field, BTF_KIND_ARRAY) => Form::Element,
            (Form::Element, BTF_KIND_PTR) => Form::Definition,
            (Form::Global, BTF_KIND_VAR) => Form::Full,
            (Form::Full, BTF_KIND_PTR) => Form::Cut,
            // A tag of a variable, which is there because of it.
            (Form::Full, BTF_KIND_DECL_TAG) if self.is_variable(id) => Form::Global,
            (form, _) => form,
        };
        let kind = self.raw.get(id).map_or(0, |ty| ty.kind);
        let modifier = self.raw.get(id).is_some_and(|ty| ty.is_modifier());
        let form = match form {
            Form::Cut if self.is_cut(id)? => Form::Cut,
            Form::Global if kind == BTF_KIND_VAR => Form::Global,
            Form::Definition if modifier || matches!(kind, BTF_KIND_STRUCT | BTF_KIND_VAR) => form,
            Form::Field if modifier || matches!(kind, BTF_KIND_PTR | BTF_KIND_ARRAY) => form,
            Form::Element if modifier || kind == BTF_KIND_PTR => form,
            _ => Form::Full,
        };
        Ok(Node { id, form })
    }

    fn is_variable(&self, id: u32) -> bool {
        self.raw.get(id).is_some_and(|ty| ty.kind == BTF_KIND_VAR)
    }

    /// Whether a pointer to this type loses its pointee: a named struct or union without a tag.
    /// An anonymous one cannot be declared forward and stays.
    fn is_cut(&mut self, id: u32) -> Result<bool, Diagnostic> {
        let end = self.end(id)?;
        let named =
            |ty: &&super::raw::RawType<'_>| ty.is_composite() && !self.raw.name(ty.name).is_empty();
        Ok(!end.tagged && self.raw.get(end.id).filter(named).is_some())
    }

    /// Follows modifiers and typedefs; every type is visited once in all calls together.
    fn end(&mut self, start: u32) -> Result<End, Diagnostic> {
        let mut path = Vec::new();
        let mut id = start;
        let mut end = loop {
            if let Some(end) = self.ends.get(index(id)).copied().flatten() {
                break end;
            }
            match self.raw.get(id).filter(|ty| ty.is_modifier()) {
                Some(ty) => {
                    path.push((id, ty.kind == BTF_KIND_TYPE_TAG && !ty.flag));
                    id = ty.last;
                }
                None => break End { id, tagged: false },
            }
            if path.len() > self.raw.len() {
                return Err(cycle(start));
            }
        };
        for (id, tag) in path.into_iter().rev() {
            end.tagged |= tag;
            if let Some(known) = self.ends.get_mut(index(id)) {
                *known = Some(end);
            }
        }
        Ok(end)
    }
}

/// A type's place in a list by id.
pub(crate) fn index(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

/// The diagnostic for a circle of types.
pub(crate) fn cycle(id: u32) -> Diagnostic {
    let message = format!("corrupt BTF: type [{id}] refers to itself in a circle");
    Diagnostic::error(codes::TYPE_CYCLE, message)
        .note("nothing of finite size has such a type; libbpf can hang on it")
}
