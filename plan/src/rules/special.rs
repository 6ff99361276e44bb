//! Fields of map values that the kernel treats specially: locks, timers, kptrs, graph roots
//! (`btf_parse_fields`).

use foldhash::HashSet;

use super::KernelVersion;
use super::layout::{get, resolve};
use super::table::TypeRules;
use crate::types::{Composite, Type, TypeId};
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
    pub(crate) pointee: Option<String>,
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
    let mut search = Search {
        types,
        fields: Vec::new(),
        without: HashSet::default(),
        odd: false,
    };
    let found = match resolve(types, value) {
        Some((id, Type::Struct(composite))) => search.members(id, composite, 0, 0),
        Some((_, Type::Datasec { vars, .. })) => vars.iter().try_for_each(|place| {
            let Some(Type::Var { to, .. }) = get(types, place.var) else {
                return Ok(());
            };
            search.field(*to, u64::from(place.offset), 0)
        }),
        _ => Ok(()),
    };
    match found.and_then(|()| search.check()) {
        Ok(()) => Record::Fields(search.fields),
        Err(reason) => Record::Malformed(reason),
    }
}

struct Search<'a> {
    types: &'a [Type],
    fields: Vec<Field>,
    /// Structs without special fields, so that each is searched once.
    without: HashSet<TypeId>,
    /// Whether a member begins within a byte.
    odd: bool,
}

impl Search<'_> {
    fn members(
        &mut self,
        id: TypeId,
        composite: &Composite,
        offset: u64,
        depth: usize,
    ) -> Result<(), &'static str> {
        if self.without.contains(&id) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err("structs are nested too deeply");
        }
        let before = self.fields.len();
        for member in &composite.members {
            self.odd |= !member.bit_offset.is_multiple_of(8);
            self.field(
                member.ty,
                offset + u64::from(member.bit_offset / 8),
                depth + 1,
            )?;
        }
        if self.fields.len() == before {
            self.without.insert(id);
        }
        Ok(())
    }

    /// One member or variable. As in the kernel, a typedef or qualifier hides a field.
    fn field(&mut self, id: TypeId, offset: u64, depth: usize) -> Result<(), &'static str> {
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
        let (kind, size, pointee) = match ty {
            Type::Struct(composite) => {
                let named = Kind::NAMED
                    .iter()
                    .find(|(name, ..)| composite.name.as_deref() == Some(*name));
                match named {
                    Some((_, kind, size)) if composite.size == *size => (*kind, *size, None),
                    // Not the kernel's struct, whatever its name says.
                    Some(_) => return Ok(()),
                    None => return self.nested(id, composite, offset, count, depth),
                }
            }
            _ => match self.kptr(ty)? {
                Some((kind, pointee)) => (kind, 8, Some(pointee)),
                None => return Ok(()),
            },
        };
        if count > 1 && !kind.may_repeat() {
            return Err(REPEATED);
        }
        for index in 0..count {
            let offset = offset.saturating_add(index.saturating_mul(size.into()));
            self.add(Field {
                kind,
                offset,
                pointee: pointee.clone(),
            })?;
        }
        Ok(())
    }

    fn nested(
        &mut self,
        id: TypeId,
        composite: &Composite,
        offset: u64,
        count: u64,
        depth: usize,
    ) -> Result<(), &'static str> {
        let before = self.fields.len();
        self.members(id, composite, offset, depth)?;
        let of_one = self.fields.get(before..).unwrap_or_default().to_vec();
        if of_one.is_empty() {
            return Ok(());
        }
        if count > 1 && of_one.iter().any(|field| !field.kind.may_repeat()) {
            return Err(REPEATED);
        }
        for index in 1..count {
            for field in &of_one {
                let offset = field
                    .offset
                    .saturating_add(index.saturating_mul(composite.size.into()));
                self.add(Field {
                    offset,
                    ..field.clone()
                })?;
            }
        }
        Ok(())
    }

    fn add(&mut self, field: Field) -> Result<(), &'static str> {
        if field.kind.is_unique() && self.fields.iter().any(|other| other.kind == field.kind) {
            return Err("a value has at most one lock, timer, work queue or task work of a kind");
        }
        if self.fields.len() >= MAX_FIELDS {
            return Err("a value has at most 11 special fields");
        }
        self.fields.push(field);
        Ok(())
    }

    /// A pointer whose pointee is tagged as a kptr, with the struct's name.
    fn kptr(&self, ty: &Type) -> Result<Option<(Kind, String)>, &'static str> {
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
                Ok(Some((*kind, composite.name.clone().unwrap_or_default())))
            }
            _ => Err("a kptr points to something that is not a complete struct"),
        }
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
