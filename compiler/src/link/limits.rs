//! Keeps the linker's work within bounds: it looks names up one by one, compares types pair by
//! pair and follows them by recursion, which is quick for what compilers write and for nothing else.

use std::collections::HashMap;

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::{
    BTF_KIND_DATASEC, BTF_KIND_ENUM, BTF_KIND_ENUM64, BTF_KIND_STRUCT, BTF_KIND_UNION,
};

use super::part::{Part, is_visible};
use crate::btf::raw::{Raw, RawType};
use crate::codes;
use crate::elf::Role;
use crate::problems::Problems;

/// All sections of the linked object together, in bytes.
const MAX_SIZE: u64 = 256 << 20;
/// Types of all objects together; a whole kernel has 150000.
const MAX_TYPES: usize = 1 << 19;
/// Names that the linker compares.
const MAX_COMPARISONS: u64 = 1 << 30;
/// Pairs of types of one name and size that it compares.
const MAX_PAIRS: u64 = 1 << 22;

/// Checks that linking the objects is little enough work.
pub(super) fn check(parts: &[Part<'_>], problems: &mut Problems) {
    let message = match () {
        () if size(parts) > MAX_SIZE => "the linked object would have more than 256 MiB",
        () if types(parts) > MAX_TYPES => "the objects have more than 524288 types in BTF",
        () if comparisons(parts) > MAX_COMPARISONS => {
            "the objects have too many names for libbpf's linker"
        }
        () if pairs(parts) > MAX_PAIRS => {
            "the objects have too many different types of one name for libbpf's linker"
        }
        () => return,
    };
    problems.add(
        Diagnostic::error(codes::TOO_MUCH_TO_LINK, message).help("link fewer or smaller objects"),
    );
}

/// The size of all sections, those included that are not in the file.
fn size(parts: &[Part<'_>]) -> u64 {
    let mut sizes: HashMap<&[u8], u64> = HashMap::new();
    for section in parts.iter().flat_map(|part| &part.elf.sections) {
        if section.role == Role::Ignored {
            continue;
        }
        let size = sizes.entry(section.name).or_default();
        let alignment = section.alignment.max(1);
        *size = size
            .checked_next_multiple_of(alignment)
            .unwrap_or(u64::MAX)
            .saturating_add(section.size);
    }
    sizes
        .values()
        .fold(0, |sum, size| sum.saturating_add(*size))
}

fn types(parts: &[Part<'_>]) -> usize {
    let count = |part: &Part<'_>| part.raw.as_ref().map_or(0, Raw::len);
    parts.iter().map(count).sum()
}

/// How many names are compared at most.
fn comparisons(parts: &[Part<'_>]) -> u64 {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let all: u64 = parts.iter().map(|part| count(part.globals.len())).sum();
    let mut sum: u64 = 0;
    let mut sections: u64 = 0;
    for part in parts {
        let globals = count(part.globals.len());
        let symbols = count(part.elf.symbols.len());
        sections = sections.saturating_add(count(part.elf.sections.len()));
        let raw = part.raw.as_ref();
        let mut types = 0_u64;
        let mut visible = 0_u64;
        let mut members = 0_u64;
        for (_, ty) in raw.into_iter().flat_map(Raw::types) {
            types = types.saturating_add(1);
            visible = visible.saturating_add(u64::from(is_visible(&ty)));
            if ty.kind == BTF_KIND_DATASEC {
                members = members.saturating_add(u64::from(ty.vlen));
                sections = sections.saturating_add(1);
            }
        }
        let names = types.saturating_add(members).saturating_add(all);
        sum = sum
            .saturating_add(globals.saturating_mul(names))
            .saturating_add(visible.saturating_add(members).saturating_mul(all))
            .saturating_add(members.saturating_mul(symbols));
    }
    sum.saturating_add(sections.saturating_mul(sections))
}

/// What types must share to look alike: kind, name, size, number and first of their members.
type Looks<'a> = (u32, &'a [u8], u32, u16, &'a [u8]);

/// Structs, unions and enums that look alike from afar are compared with each other.
fn pairs(parts: &[Part<'_>]) -> u64 {
    let mut groups: HashMap<Looks<'_>, u64> = HashMap::new();
    for raw in parts.iter().filter_map(|part| part.raw.as_ref()) {
        for (_, ty) in raw.types() {
            let alike = matches!(
                ty.kind,
                BTF_KIND_STRUCT | BTF_KIND_UNION | BTF_KIND_ENUM | BTF_KIND_ENUM64
            );
            if alike {
                let key = (
                    ty.kind,
                    raw.name(ty.name),
                    ty.last,
                    ty.vlen,
                    first(raw, &ty),
                );
                *groups.entry(key).or_default() += 1;
            }
        }
    }
    let squares = groups.values().map(|count| count.saturating_mul(*count));
    squares.fold(0, u64::saturating_add)
}

/// The name of the first member.
fn first<'a>(raw: &Raw<'a>, ty: &RawType<'_>) -> &'a [u8] {
    let name = ty.parts::<1>().next();
    name.map_or(&[], |[name]| raw.name(name))
}
