//! The map of kernel configuration values that libbpf makes of the DATASEC `.kconfig`.
//!
//! There is no such section in the ELF file: libbpf lays the values out on its own
//! (`bpf_object__collect_externs`), and their contents are the target's.

use bpfplan_plan::contents::MAX_TOTAL;
use bpfplan_plan::model::{Extern, ExternKind, Map};
use bpfplan_plan::types::TypeId;
use bpfplan_plan::uapi::{
    BTF_INT_BOOL, BTF_INT_SIGNED, BTF_KIND_ARRAY, BTF_KIND_ENUM, BTF_KIND_ENUM64, BTF_KIND_INT,
};
use bpfplan_plan::{Diagnostic, MapType, MaxEntries, uapi};
use foldhash::{HashMap, HashSet};

use crate::btf::raw::{Raw, RawType};
use crate::bytes::{borrowed_text, text};
use crate::codes;
use crate::externs::KCONFIG;
use crate::fixup::{Datasec, Linkage, Variable};
use crate::globals::internal_map_name;
use crate::problems::Problems;

/// `MAX_RESOLVE_DEPTH` of libbpf.
const MAX_HOPS: usize = 32;
/// Largest alignment: that of 8 bytes.
const MAX_ALIGNMENT: u32 = 8;

/// An extern symbol in `.kconfig`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a [u8],
    /// Its `VAR`.
    pub(crate) var: u32,
    /// The `DATASEC` that has it.
    pub(crate) section: u32,
    pub(crate) weak: bool,
}

/// What a value is and how much room it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    kind: ExternKind,
    size: u32,
    alignment: u32,
}

/// The values with their places.
#[derive(Debug)]
pub(crate) struct Kconfig<'a> {
    pub(crate) datasec: Datasec<'a>,
    externs: Vec<Extern>,
    /// Whether the first type called `.kconfig` is that DATASEC: the kernel gets it then.
    pub(crate) typed: bool,
}

/// `find_kcfg_type` of libbpf, with size and alignment; `None` for types that no value has.
pub(crate) fn shape(raw: &Raw<'_>, var: &RawType<'_>) -> Option<Shape> {
    let mut hops = 0;
    let ty = skip(raw, var.last, &mut hops)?;
    let tristate = raw.name(ty.name) == b"libbpf_tristate";
    let (kind, alignment) = match ty.kind {
        BTF_KIND_INT => (integer(&ty)?, ty.last),
        BTF_KIND_ENUM if tristate && ty.last == 4 => (ExternKind::Tristate, ty.last),
        BTF_KIND_ENUM64 if tristate && matches!(ty.last, 4 | 8) => (ExternKind::Tristate, ty.last),
        BTF_KIND_ARRAY => {
            let [element, _, length] = ty.array();
            let element = skip(raw, element, &mut hops).filter(|it| it.kind == BTF_KIND_INT)?;
            let char = matches!(
                integer(&element)?,
                ExternKind::Char | ExternKind::UnsignedChar
            );
            return (char && length > 0).then_some(Shape {
                kind: ExternKind::String,
                size: length,
                alignment: 1,
            });
        }
        _ => return None,
    };
    Some(Shape {
        kind,
        size: ty.last,
        alignment: alignment.min(MAX_ALIGNMENT),
    })
}

fn integer(ty: &RawType<'_>) -> Option<ExternKind> {
    let encoding = ty.word() >> 24;
    let signed = encoding & BTF_INT_SIGNED != 0;
    match ty.last {
        1 if encoding & BTF_INT_BOOL != 0 => Some(ExternKind::Bool),
        _ if encoding & BTF_INT_BOOL != 0 => None,
        1 if signed => Some(ExternKind::Char),
        1 => Some(ExternKind::UnsignedChar),
        2 | 4 | 8 if signed => Some(ExternKind::Signed),
        2 | 4 | 8 => Some(ExternKind::Unsigned),
        _ => None,
    }
}

/// The type behind modifiers, if libbpf finds its size (`btf__resolve_size`).
fn skip<'a>(raw: &Raw<'a>, mut id: u32, hops: &mut usize) -> Option<RawType<'a>> {
    loop {
        *hops += 1;
        let ty = raw.get(id).filter(|_| *hops <= MAX_HOPS)?;
        if !ty.is_modifier() {
            return Some(ty);
        }
        id = ty.last;
    }
}

/// Lays the values out. `symbols` are those whose BTF is as it should be.
pub(crate) fn lay_out<'a>(
    raw: &Raw<'a>,
    symbols: &[Symbol<'_>],
    problems: &mut Problems,
) -> Option<Kconfig<'a>> {
    let first = symbols.first()?;
    let mut bad = |symbol: &Symbol<'_>, what: &str| {
        let message = format!("extern '{}' {what}", text(symbol.name));
        problems.add(Diagnostic::error(codes::BAD_KCONFIG, message));
    };
    let mut names = HashSet::default();
    let mut shaped = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        if symbol.section != first.section {
            bad(symbol, "stands in a second section .kconfig");
        } else if !names.insert(symbol.name) {
            bad(symbol, "has two symbols");
        } else if let Some(shape) = raw.get(symbol.var).and_then(|var| shape(raw, &var)) {
            shaped.push((symbol, shape));
        }
    }
    shaped.sort_by_key(|(symbol, shape)| {
        let largest_first = std::cmp::Reverse(shape.alignment);
        (largest_first, shape.size, symbol.name)
    });
    let mut externs = Vec::with_capacity(shaped.len());
    let mut offsets = HashMap::default();
    let mut end = 0_u64;
    for (symbol, shape) in shaped {
        let start = end.next_multiple_of(shape.alignment.into());
        end = start + u64::from(shape.size);
        let offset = u32::try_from(start).ok().filter(|_| end <= MAX_TOTAL);
        let Some(offset) = offset else {
            let message = format!("the values in .kconfig have {end} bytes or more");
            problems.add(
                Diagnostic::error(codes::DATA_TOO_LARGE, message).note(format!(
                    "bpfplan takes {} MiB for an object",
                    MAX_TOTAL >> 20
                )),
            );
            return None;
        };
        offsets.insert(symbol.name, offset);
        externs.push(Extern {
            name: text(symbol.name),
            kind: shape.kind,
            offset,
            size: shape.size,
            weak: symbol.weak,
            source: None,
        });
    }
    let section = raw.get(first.section)?;
    let mut variables: Vec<Variable<'_>> = section
        .parts()
        .filter_map(|[id, _, size]| {
            let name = raw.name(raw.get(id)?.name);
            Some(Variable {
                id,
                name: borrowed_text(name),
                offset: *offsets.get(name)?,
                size,
                linkage: Linkage::Global,
            })
        })
        .collect();
    variables.sort_by_key(|variable| variable.offset);
    let named = raw
        .types()
        .find(|(_, ty)| raw.name(ty.name) == KCONFIG)
        .map(|(id, _)| id);
    Some(Kconfig {
        datasec: Datasec {
            id: first.section,
            name: KCONFIG,
            size: u32::try_from(end).unwrap_or(u32::MAX),
            variables,
        },
        externs,
        typed: named == Some(first.section),
    })
}

impl Kconfig<'_> {
    /// The map; `value_type` is the DATASEC in the view, `object` the object's file name.
    pub(crate) fn map(&self, value_type: Option<TypeId>, object: &str) -> Map {
        let mut map_flags = uapi::BPF_F_RDONLY_PROG;
        if value_type.is_some() {
            map_flags |= uapi::BPF_F_MMAPABLE;
        }
        Map {
            map_flags,
            value_type,
            externs: self.externs.clone(),
            ..Map::new(
                internal_map_name(KCONFIG, object),
                MapType(uapi::BPF_MAP_TYPE_ARRAY),
                4,
                self.datasec.size,
                MaxEntries::Count(1),
            )
        }
    }
}
