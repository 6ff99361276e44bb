//! Fields of map values that the kernel treats specially: locks, timers, kptrs, graph roots
//! (`btf_parse_fields`).

use std::rc::Rc;

use foldhash::HashMap;

use super::KernelVersion;
use super::layout::{get, resolve};
use super::table::TypeRules;
use crate::types::{Composite, SecVar, Type, TypeId};
use crate::uapi::*;

/// Kind of a special field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    SpinLock,
    ResSpinLock,
    Timer,
    Workqueue,
    TaskWork,
    KptrUntrusted,
    Kptr,
    PercpuKptr,
    Uptr,
    ListHead,
    RbRoot,
    Refcount,
}

/// A special field: where it is and what it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    /// Offset in the value in bytes.
    pub(crate) offset: u64,
    /// The struct that a kptr points to.
    pub(crate) pointee: Option<Rc<str>>,
}

/// Special fields of a value (`struct btf_record`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// The fields, none for most values.
    Fields(Vec<Field>),
    /// The kernel creates the map without looking at these fields, for this reason; programs
    /// that use them are refused.
    Malformed(&'static str),
}

/// `BTF_FIELDS_MAX`.
const MAX_FIELDS: usize = 11;
/// Deepest nesting of structs and arrays that is followed, as in the kernel.
const MAX_DEPTH: usize = 32;

const REPEATED: &str = "only kptrs, bpf_list_head and bpf_rb_root may be in arrays";

impl Kind {
    const NAMED: &[(&'static str, Self, u32)] = &[
        ("bpf_spin_lock", Self::SpinLock, 4),
        ("bpf_res_spin_lock", Self::ResSpinLock, 4),
        ("bpf_timer", Self::Timer, 16),
        ("bpf_wq", Self::Workqueue, 16),
        ("bpf_task_work", Self::TaskWork, 8),
        ("bpf_list_head", Self::ListHead, 16),
        ("bpf_rb_root", Self::RbRoot, 16),
        ("bpf_refcount", Self::Refcount, 4),
    ];

    const TAGGED: &[(&'static str, Self)] = &[
        ("kptr_untrusted", Self::KptrUntrusted),
        ("kptr", Self::Kptr),
        ("percpu_kptr", Self::PercpuKptr),
        ("uptr", Self::Uptr),
    ];

    /// The name in C.
    pub(crate) fn name(self) -> &'static str {
        let named = Self::NAMED
            .iter()
            .find(|(_, kind, _)| *kind == self)
            .map(|(name, ..)| *name);
        let tagged = || {
            Self::TAGGED
                .iter()
                .find(|(_, kind)| *kind == self)
                .map(|(name, _)| *name)
        };
        named.or_else(tagged).unwrap_or_default()
    }

    /// First kernel whose programs can use the field.
    pub(crate) fn since(self) -> KernelVersion {
        let (major, minor) = match self {
            Self::SpinLock => (5, 1),
            Self::Timer => (5, 15),
            Self::KptrUntrusted | Self::Kptr => (5, 19),
            Self::ListHead => (6, 2),
            Self::RbRoot => (6, 3),
            Self::Refcount => (6, 4),
            Self::PercpuKptr => (6, 7),
            Self::Workqueue => (6, 10),
            Self::Uptr => (6, 13),
            Self::ResSpinLock => (6, 15),
            Self::TaskWork => (6, 18),
        };
        KernelVersion { major, minor }
    }

    fn is_unique(self) -> bool {
        matches!(
            self,
            Self::SpinLock | Self::ResSpinLock | Self::Timer | Self::Workqueue | Self::TaskWork
        )
    }

    /// Whether an array may have it as its element (`btf_repeat_fields`).
    fn may_repeat(self) -> bool {
        matches!(
            self,
            Self::KptrUntrusted
                | Self::Kptr
                | Self::PercpuKptr
                | Self::Uptr
                | Self::ListHead
                | Self::RbRoot
        )
    }

    /// The map types whose values may have this field (`map_check_btf`).
    pub(crate) fn map_types(self) -> &'static [u32] {
        match self {
            Self::SpinLock | Self::ResSpinLock => &[
                BPF_MAP_TYPE_HASH,
                BPF_MAP_TYPE_ARRAY,
                BPF_MAP_TYPE_CGROUP_STORAGE,
                BPF_MAP_TYPE_SK_STORAGE,
                BPF_MAP_TYPE_INODE_STORAGE,
                BPF_MAP_TYPE_TASK_STORAGE,
                BPF_MAP_TYPE_CGRP_STORAGE,
            ],
            Self::Timer | Self::Workqueue | Self::TaskWork | Self::ListHead | Self::RbRoot => {
                &[BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_ARRAY]
            }
            Self::KptrUntrusted | Self::Kptr | Self::PercpuKptr | Self::Refcount => &[
                BPF_MAP_TYPE_HASH,
                BPF_MAP_TYPE_PERCPU_HASH,
                BPF_MAP_TYPE_LRU_HASH,
                BPF_MAP_TYPE_LRU_PERCPU_HASH,
                BPF_MAP_TYPE_ARRAY,
                BPF_MAP_TYPE_PERCPU_ARRAY,
                BPF_MAP_TYPE_SK_STORAGE,
                BPF_MAP_TYPE_INODE_STORAGE,
                BPF_MAP_TYPE_TASK_STORAGE,
                BPF_MAP_TYPE_CGRP_STORAGE,
            ],
            Self::Uptr => &[BPF_MAP_TYPE_TASK_STORAGE],
        }
    }
}

/// The special fields of a value type.
pub(crate) fn record(types: &[Type], value: TypeId) -> Record {
    SpecialFields::new(types).record(value)
}

/// What the kernel makes of the special fields of values: locks, timers, kptrs ...
///
/// Each struct and each section of variables is searched once, however many values it is in.
#[derive(Debug)]
pub struct SpecialFields<'t> {
    pub(super) types: &'t [Type],
    /// By struct, or section, and depth: at another depth, more of it may be nested too deeply.
    known: HashMap<(TypeId, usize), Result<Rc<Found>, &'static str>>,
}

/// What is in a struct, with offsets from its start.
#[derive(Debug, Clone, Default)]
struct Found {
    fields: Vec<Field>,
    /// Whether a member begins within a byte.
    odd: bool,
}

impl<'t> SpecialFields<'t> {
    /// For values of these types.
    #[must_use]
    pub fn new(types: &'t [Type]) -> Self {
        Self {
            types,
            known: HashMap::default(),
        }
    }

    /// The special fields of a value type.
    pub(crate) fn record(&mut self, value: TypeId) -> Record {
        let found = self.value(value).and_then(|found| {
            found.check()?;
            Ok(found.fields.clone())
        });
        match found {
            Ok(fields) => Record::Fields(fields),
            Err(reason) => Record::Malformed(reason),
        }
    }

    fn value(&mut self, value: TypeId) -> Result<Rc<Found>, &'static str> {
        match resolve(self.types, value) {
            Some((id, Type::Struct(composite))) => self.structure(id, composite, 0),
            Some((id, Type::Datasec { vars, .. })) => {
                self.once(id, 0, |special| special.variables(vars))
            }
            _ => Ok(Rc::default()),
        }
    }

    fn structure(
        &mut self,
        id: TypeId,
        composite: &Composite,
        depth: usize,
    ) -> Result<Rc<Found>, &'static str> {
        self.once(id, depth, |special| special.members(composite, depth))
    }

    /// What was found there before, or is found now.
    fn once(
        &mut self,
        id: TypeId,
        depth: usize,
        find: impl FnOnce(&mut Self) -> Result<Found, &'static str>,
    ) -> Result<Rc<Found>, &'static str> {
        if let Some(known) = self.known.get(&(id, depth)) {
            return known.clone();
        }
        let found = find(self).map(Rc::new);
        self.known.insert((id, depth), found.clone());
        found
    }

    fn variables(&mut self, vars: &[SecVar]) -> Result<Found, &'static str> {
        let mut found = Found::default();
        for place in vars {
            if let Some(Type::Var { to, .. }) = get(self.types, place.var) {
                self.field(&mut found, *to, u64::from(place.offset), 0)?;
            }
        }
        Ok(found)
    }

    fn members(&mut self, composite: &Composite, depth: usize) -> Result<Found, &'static str> {
        if depth > MAX_DEPTH {
            return Err("structs are nested too deeply");
        }
        let mut found = Found::default();
        for member in &composite.members {
            found.odd |= !member.bit_offset.is_multiple_of(8);
            let offset = u64::from(member.bit_offset / 8);
            self.field(&mut found, member.ty, offset, depth + 1)?;
        }
        Ok(found)
    }

    /// One member or variable. As in the kernel, a typedef or qualifier hides a field.
    fn field(
        &mut self,
        found: &mut Found,
        id: TypeId,
        offset: u64,
        depth: usize,
    ) -> Result<(), &'static str> {
        let mut id = id;
        let mut count = 1_u64;
        for _ in 0..MAX_DEPTH {
            let Some(Type::Array {
                element, length, ..
            }) = get(self.types, id)
            else {
                break;
            };
            count = count.saturating_mul(u64::from(*length));
            id = *element;
        }
        let Some(ty) = get(self.types, id) else {
            return Ok(());
        };
        if count == 0 {
            return Ok(());
        }
        let one = |kind, pointee| Field {
            kind,
            offset: 0,
            pointee,
        };
        match ty {
            Type::Struct(composite) => {
                let named = Kind::NAMED
                    .iter()
                    .find(|(name, ..)| composite.name.as_deref() == Some(*name));
                match named {
                    Some((_, kind, size)) if composite.size == *size => {
                        found.add(&[one(*kind, None)], offset, count, *size)
                    }
                    // Not the kernel's struct, whatever its name says.
                    Some(_) => Ok(()),
                    None => {
                        let inside = self.structure(id, composite, depth)?;
                        found.odd |= inside.odd;
                        found.add(&inside.fields, offset, count, composite.size)
                    }
                }
            }
            _ => match self.kptr(ty)? {
                Some((kind, pointee)) => found.add(&[one(kind, Some(pointee))], offset, count, 8),
                None => Ok(()),
            },
        }
    }

    /// A pointer whose pointee is tagged as a kptr, with the struct's name.
    fn kptr(&self, ty: &Type) -> Result<Option<(Kind, Rc<str>)>, &'static str> {
        let ty = match ty {
            Type::Volatile { to } => get(self.types, *to),
            _ => Some(ty),
        };
        let Some(Type::Ptr { to }) = ty else {
            return Ok(None);
        };
        let Some(Type::TypeTag {
            value,
            to,
            attribute: false,
        }) = get(self.types, *to)
        else {
            return Ok(None);
        };
        if matches!(get(self.types, *to), Some(Type::TypeTag { .. })) {
            return Err("a pointer has at most one type tag");
        }
        let Some((_, kind)) = Kind::TAGGED.iter().find(|(tag, _)| tag == value) else {
            return Err("a pointer has a type tag that is none of the kernel's");
        };
        match resolve(self.types, *to) {
            Some((_, Type::Struct(composite))) => {
                let name = composite.name.as_deref().unwrap_or_default();
                Ok(Some((*kind, name.into())))
            }
            _ => Err("a kptr points to something that is not a complete struct"),
        }
    }
}

impl Found {
    /// Adds the fields of something that stands `count` times at `offset`, `size` bytes each.
    fn add(
        &mut self,
        fields: &[Field],
        offset: u64,
        count: u64,
        size: u32,
    ) -> Result<(), &'static str> {
        if fields.is_empty() {
            return Ok(());
        }
        if count > 1 && fields.iter().any(|field| !field.kind.may_repeat()) {
            return Err(REPEATED);
        }
        for index in 0..count {
            let start = offset.saturating_add(index.saturating_mul(size.into()));
            for field in fields {
                self.add_one(Field {
                    offset: start.saturating_add(field.offset),
                    ..field.clone()
                })?;
            }
        }
        Ok(())
    }

    fn add_one(&mut self, field: Field) -> Result<(), &'static str> {
        if field.kind.is_unique() && self.fields.iter().any(|other| other.kind == field.kind) {
            return Err("a value has at most one lock, timer, work queue or task work of a kind");
        }
        if self.fields.len() >= MAX_FIELDS {
            return Err("a value has at most 11 special fields");
        }
        self.fields.push(field);
        Ok(())
    }

    /// What must be right about all fields together.
    fn check(&self) -> Result<(), &'static str> {
        let has = |kind| self.fields.iter().any(|field| field.kind == kind);
        if self.odd && !self.fields.is_empty() {
            return Err("a value with special fields has no bitfield that begins within a byte");
        }
        let locks = [Kind::SpinLock, Kind::ResSpinLock].map(has);
        if locks == [true, true] {
            return Err("a value has a bpf_spin_lock or a bpf_res_spin_lock, not both");
        }
        if (has(Kind::ListHead) || has(Kind::RbRoot)) && locks == [false, false] {
            return Err("a bpf_list_head or bpf_rb_root needs a lock beside it");
        }
        Ok(())
    }
}

/// Special fields that maps of this type cannot have.
pub(crate) fn unsupported(fields: &[Field], row: &TypeRules) -> Option<Kind> {
    fields
        .iter()
        .map(|field| field.kind)
        .find(|kind| !kind.map_types().contains(&row.map_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps may be many, and what is in the type of their values as well.
    #[test]
    fn values_of_one_type_are_searched_once() {
        let section = Type::Datasec {
            name: ".data".to_owned(),
            size: 4,
            vars: Vec::new(),
        };
        let structure = Type::Struct(Composite {
            name: None,
            size: 4,
            members: Vec::new(),
        });
        let types = [section, structure];
        let mut special = SpecialFields::new(&types);
        for value in [TypeId(1), TypeId(2)] {
            let first = special.value(value).unwrap();
            let second = special.value(value).unwrap();
            assert!(Rc::ptr_eq(&first, &second), "{value:?}");
        }
    }
}
