//! Which types the maps reach, and in which form: the rules of pruning.
//!
//! A plain pointer needs no more than the name of what it points to, so its pointee becomes a
//! forward declaration. A pointer with a type tag (`kptr`, `percpu_kptr`, `uptr`, `rcu` ...) is
//! looked through by the kernel, so its pointee stays.

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::{BTF_KIND_DECL_TAG, BTF_KIND_PTR, BTF_KIND_TYPE_TAG, BTF_KIND_VAR};

use foldhash::HashMap;

use super::raw::{Raw, RawType};
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
}

impl Form {
    /// Number of forms.
    pub(crate) const COUNT: usize = Self::Global as usize + 1;
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

/// Chains of modifiers up to this length are followed each time, longer ones once.
const SHORT: usize = 8;

/// Decides the form of every type that is reached.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    pub(crate) raw: &'a Raw<'a>,
    /// The ends of long chains by the id of each type in them.
    ends: HashMap<u32, End>,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(raw: &'a Raw<'a>) -> Self {
        Self {
            raw,
            ends: HashMap::default(),
        }
    }

    /// The node for what a node of the given form refers to; `kind` is the referring type's.
    pub(crate) fn target(&mut self, kind: u32, form: Form, id: u32) -> Result<Node, Diagnostic> {
        let form = match (form, kind) {
            (Form::Global, BTF_KIND_VAR) => Form::Full,
            (Form::Full, BTF_KIND_PTR) => Form::Cut,
            // A tag of a variable, which is there because of it.
            (Form::Full, BTF_KIND_DECL_TAG) if self.is_variable(id) => Form::Global,
            (form, _) => form,
        };
        let kind = self.raw.get(id).map_or(0, |ty| ty.kind);
        let form = match form {
            Form::Cut if self.is_cut(id)? => Form::Cut,
            Form::Global if kind == BTF_KIND_VAR => Form::Global,
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
        let (end, ty) = self.end(id)?;
        let named = |ty: &RawType<'_>| ty.is_composite() && !self.raw.name(ty.name).is_empty();
        Ok(!end.tagged && ty.is_some_and(|ty| named(&ty)))
    }

    /// Skips modifiers, type tags and typedefs: the id and type at the end of the chain.
    pub(crate) fn skip_modifiers(
        &mut self,
        id: u32,
    ) -> Result<(u32, Option<RawType<'a>>), Diagnostic> {
        let (end, ty) = self.end(id)?;
        Ok((end.id, ty))
    }

    /// Follows modifiers and typedefs to their end, which has this type.
    fn end(&mut self, start: u32) -> Result<(End, Option<RawType<'a>>), Diagnostic> {
        let mut end = End {
            id: start,
            tagged: false,
        };
        for _ in 0..SHORT {
            match self.raw.get(end.id) {
                Some(ty) if ty.is_modifier() => {
                    end.tagged |= is_tag(&ty);
                    end.id = ty.last;
                }
                ty => return Ok((end, ty)),
            }
        }
        let end = self.long_end(start)?;
        Ok((end, self.raw.get(end.id)))
    }

    /// As [`Reach::end`]: every type is visited once in all calls together.
    fn long_end(&mut self, start: u32) -> Result<End, Diagnostic> {
        let mut path = Vec::new();
        let mut id = start;
        let mut end = loop {
            if let Some(end) = self.ends.get(&id) {
                break *end;
            }
            match self.raw.get(id).filter(|ty| ty.is_modifier()) {
                Some(ty) => {
                    path.push((id, is_tag(&ty)));
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
            self.ends.insert(id, end);
        }
        Ok(end)
    }
}

/// Whether it is a tag as `btf_type_tag` writes it.
fn is_tag(ty: &RawType<'_>) -> bool {
    ty.kind == BTF_KIND_TYPE_TAG && !ty.flag
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
