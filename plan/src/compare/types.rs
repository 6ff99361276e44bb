//! Types of keys and values, compared by what they mean for the bytes of a map.
//!
//! Ids of two BTF blobs have nothing to do with each other, so types are compared by structure.
//! Both sides may be hostile: pairs that were seen are not compared again, and the work is bounded.

use std::collections::HashSet;

use super::kinds::{detail, sanitized, scalar, section};
use super::members::Members;
use super::pointee::{Pointee, pointee};
use super::spell::{short, spell};
use super::{Difference, MOST, MapTypes};
use crate::rules::layout::resolve;
use crate::rules::special::{Field, Record, record};
use crate::types::{Composite, Enum, Member, Type, TypeId};

/// Deepest nesting that is compared: more than the kernel resolves.
const DEEPEST: usize = 64;
/// Members and types that are compared in all.
const MOST_STEPS: usize = 1 << 20;
/// Bytes of a path that are shown.
const LONGEST_PATH: usize = 256;

pub(super) fn compare(
    all: &[Type],
    [key, value]: [Option<TypeId>; 2],
    pinned: &MapTypes,
) -> Vec<Difference> {
    let mut walk = Walk {
        declared: all,
        pinned: &pinned.types,
        seen: HashSet::new(),
        steps: MOST_STEPS,
        cut: false,
        found: Vec::new(),
    };
    for (path, declared, pinned) in [("key", key, pinned.key), ("value", value, pinned.value)] {
        if let Some(declared) = declared.filter(|_| pinned != TypeId::VOID) {
            walk.pair(path, declared, pinned, 0);
        }
    }
    if let Some(value) = value.filter(|_| pinned.value != TypeId::VOID) {
        walk.special_fields(value, pinned.value);
    }
    if walk.cut {
        let far = "not compared any further";
        walk.found.push(Difference::warning("types", far, far));
    }
    walk.found
}

struct Walk<'a> {
    declared: &'a [Type],
    pinned: &'a [Type],
    /// Pairs that are equal, or are being compared further up.
    seen: HashSet<(TypeId, TypeId)>,
    steps: usize,
    /// Whether something was left out because it is too deep or too much.
    cut: bool,
    found: Vec<Difference>,
}

impl Walk<'_> {
    fn pair(&mut self, path: &str, declared: TypeId, pinned: TypeId, depth: usize) {
        if depth > DEEPEST || self.steps == 0 || self.found.len() >= MOST {
            self.cut = true;
            return;
        }
        self.steps -= 1;
        if !self.seen.insert((declared, pinned)) {
            return;
        }
        let before = self.found.len();
        self.unequal(path, declared, pinned, depth);
        if self.found.len() > before {
            // The same pair elsewhere is a difference there as well.
            self.seen.remove(&(declared, pinned));
        }
    }

    fn unequal(&mut self, path: &str, declared: TypeId, pinned: TypeId, depth: usize) {
        let (declared_types, pinned_types) = (self.declared, self.pinned);
        let one = resolve(declared_types, declared).map(|(_, ty)| ty);
        let other = resolve(pinned_types, pinned).map(|(_, ty)| ty);
        let (Some(one), Some(other)) = (one, other) else {
            if one.is_some() != other.is_some() {
                self.error(path, declared, pinned);
            }
            return;
        };
        match (one, other) {
            (
                Type::Int {
                    size,
                    bits,
                    bit_offset,
                    encoding,
                    ..
                },
                Type::Int {
                    size: other_size,
                    bits: other_bits,
                    bit_offset: other_offset,
                    encoding: other_encoding,
                    ..
                },
            ) => {
                if (size, bits, bit_offset) != (other_size, other_bits, other_offset) {
                    self.error(path, declared, pinned);
                } else if encoding != other_encoding {
                    self.warning(path, declared, pinned);
                }
            }
            (Type::Enum(one) | Type::Enum64(one), Type::Enum(other) | Type::Enum64(other)) => {
                self.enums(path, one, other);
            }
            (Type::Float { size, .. }, Type::Float { size: other, .. }) => {
                if size != other {
                    self.error(path, declared, pinned);
                }
            }
            (Type::Ptr { to }, Type::Ptr { to: other }) => self.pointers(path, *to, *other),
            (
                Type::Array {
                    element, length, ..
                },
                Type::Array {
                    element: other,
                    length: other_length,
                    ..
                },
            ) => {
                if length == other_length {
                    self.pair(&format!("{path}[]"), *element, *other, depth + 1);
                } else {
                    self.error(path, declared, pinned);
                }
            }
            (Type::Struct(one), Type::Struct(other)) | (Type::Union(one), Type::Union(other)) => {
                self.composites(path, one, other, depth);
            }
            (
                Type::Datasec { size, .. },
                Type::Datasec {
                    size: other_size, ..
                },
            ) => {
                let (one, other) = (
                    section(declared_types, one, *size),
                    section(pinned_types, other, *other_size),
                );
                self.composites(path, &one, &other, depth);
            }
            (one, other) if sanitized(one, other) => {}
            (one, other) => match (scalar(one), scalar(other)) {
                (Some(size), Some(other_size)) if size == other_size => {
                    self.warning(path, declared, pinned);
                }
                _ => self.error(path, declared, pinned),
            },
        }
    }

    fn error(&mut self, path: &str, declared: TypeId, pinned: TypeId) {
        self.differ(path, declared, pinned, Difference::error);
    }

    fn warning(&mut self, path: &str, declared: TypeId, pinned: TypeId) {
        self.differ(path, declared, pinned, Difference::warning);
    }

    /// Types with one spelling get their sizes beside it, so that the difference shows.
    fn differ(
        &mut self,
        path: &str,
        declared: TypeId,
        pinned: TypeId,
        make: fn(String, String, String) -> Difference,
    ) {
        let mut one = spell(self.declared, declared);
        let mut other = spell(self.pinned, pinned);
        if one == other {
            one.push_str(&detail(self.declared, declared));
            other.push_str(&detail(self.pinned, pinned));
        }
        self.found.push(make(path.to_owned(), one, other));
    }

    fn enums(&mut self, path: &str, one: &Enum, other: &Enum) {
        let bytes = |list: &Enum| format!("an enum of {} bytes", list.size);
        if one.size != other.size {
            let difference = Difference::error(path, bytes(one), bytes(other));
            self.found.push(difference);
            return;
        }
        let values = |list: &Enum| -> Vec<(u64, String)> {
            let variants = list.variants.iter();
            let mut values: Vec<_> = variants
                .map(|variant| (variant.value, variant.name.clone()))
                .collect();
            values.sort();
            values
        };
        let (one_values, other_values) = (values(one), values(other));
        if one_values == other_values {
            return;
        }
        let text = |values: &[(u64, String)], others: &[(u64, String)]| {
            let odd = values
                .iter()
                .find(|value| others.binary_search(value).is_err());
            odd.map_or_else(
                || format!("{} enumerators", values.len()),
                |(value, name)| format!("{} = {}", short(name), value.cast_signed()),
            )
        };
        self.found.push(Difference::warning(
            path,
            text(&one_values, &other_values),
            text(&other_values, &one_values),
        ));
    }

    /// A pointer is 8 bytes wherever it leads; what matters to the kernel is in the special
    /// fields. A plan has forward declarations where BTF may have more, so names decide.
    fn pointers(&mut self, path: &str, declared: TypeId, pinned: TypeId) {
        let (one, other) = (
            pointee(self.declared, declared),
            pointee(self.pinned, pinned),
        );
        if one.tags != other.tags || one.name != other.name {
            let text = |side: &Pointee<'_>| {
                let tags: String = side
                    .tags
                    .iter()
                    .map(|tag| format!(" __{}", short(tag)))
                    .collect();
                format!("{}{tags} *", side.name)
            };
            let difference = Difference::warning(path, text(&one), text(&other));
            self.found.push(difference);
        } else if !one.tags.is_empty() && one.full != other.full {
            let text = |side: &Pointee<'_>| {
                let how = if side.full {
                    "in full"
                } else {
                    "only declared"
                };
                format!("{} *, {how}", side.name)
            };
            let difference = Difference::warning(path, text(&one), text(&other));
            self.found.push(difference);
        }
    }

    fn composites<'x>(
        &mut self,
        path: &str,
        one: &'x Composite,
        other: &'x Composite,
        depth: usize,
    ) {
        // The map's own sizes say it of a key and a value.
        if depth > 0 && one.size != other.size {
            let text = |composite: &Composite| format!("{} bytes", composite.size);
            let difference = Difference::error(path, text(one), text(other));
            self.found.push(difference);
        }
        if one.name != other.name {
            let text = |composite: &Composite| match &composite.name {
                Some(name) => format!("tag {}", short(name)),
                None => "no tag".to_owned(),
            };
            let difference = Difference::warning(path, text(one), text(other));
            self.found.push(difference);
        }
        let mut left = Members::of(other);
        let mut unmatched = Vec::new();
        for member in &one.members {
            match left.take_named(member) {
                Some(same) => self.members(path, member, same, depth),
                None => unmatched.push(member),
            }
        }
        // A name that is elsewhere has moved; one that is nowhere may be a new one for the place.
        let mut left = left.rest(other);
        let mut nowhere = Vec::new();
        for member in unmatched {
            match left.take_moved(member) {
                Some(moved) => self.misplaced(path, member, Some(moved)),
                None => nowhere.push(member),
            }
            if self.is_full() {
                return;
            }
        }
        for member in nowhere {
            match left.take_at(member) {
                Some(renamed) => {
                    let difference =
                        Difference::warning(below(path, member), name(member), name(renamed));
                    self.found.push(difference);
                    self.members(path, member, renamed, depth);
                }
                None => self.misplaced(path, member, None),
            }
            if self.is_full() {
                return;
            }
        }
        for member in left.all() {
            let text = self.place(self.pinned, member);
            let difference = Difference::error(below(path, member), "none", text);
            self.found.push(difference);
            if self.is_full() {
                return;
            }
        }
    }

    fn misplaced(&mut self, path: &str, member: &Member, moved: Option<&Member>) {
        let declared = self.place(self.declared, member);
        let pinned =
            moved.map_or_else(|| "none".to_owned(), |moved| self.place(self.pinned, moved));
        let difference = Difference::error(below(path, member), declared, pinned);
        self.found.push(difference);
    }

    fn is_full(&mut self) -> bool {
        let full = self.found.len() >= MOST;
        self.cut |= full;
        full
    }

    fn members(&mut self, path: &str, one: &Member, other: &Member, depth: usize) {
        self.pair(&below(path, one), one.ty, other.ty, depth + 1);
    }

    /// `__u32 at 4`, with bits for bitfields.
    fn place(&self, types: &[Type], member: &Member) -> String {
        let ty = spell(types, member.ty);
        match member.bitfield_size {
            Some(bits) => format!("{ty}, {bits} bits at bit {}", member.bit_offset),
            None => format!("{ty} at {}", member.bit_offset / 8),
        }
    }

    /// Locks, timers, kptrs: the kernel takes care of them by the map's own BTF.
    fn special_fields(&mut self, declared: TypeId, pinned: TypeId) {
        let (Record::Fields(one), Record::Fields(other)) =
            (record(self.declared, declared), record(self.pinned, pinned))
        else {
            return;
        };
        let sorted = |mut fields: Vec<Field>| {
            fields.sort_by_key(|field| field.offset);
            fields
        };
        let (one, other) = (sorted(one), sorted(other));
        if one != other {
            let text = |fields: &[Field]| {
                let list = fields.iter().map(|field| match &field.pointee {
                    Some(name) => {
                        format!(
                            "{} to {} at {}",
                            field.kind.name(),
                            short(name),
                            field.offset
                        )
                    }
                    None => format!("{} at {}", field.kind.name(), field.offset),
                });
                let list: Vec<String> = list.collect();
                if list.is_empty() {
                    "none".to_owned()
                } else {
                    list.join(", ")
                }
            };
            let (one, other) = (text(&one), text(&other));
            self.found
                .push(Difference::error("value: special fields", one, other));
        }
    }
}

fn name(member: &Member) -> String {
    let name = member.name.as_deref();
    name.map_or_else(
        || "an anonymous member".to_owned(),
        |name| short(name).into_owned(),
    )
}

/// Path of a member, cut off at its start if it is very long. Members of anonymous structs and
/// unions are named as in C.
fn below(path: &str, member: &Member) -> String {
    let start = path.ceil_char_boundary(path.len().saturating_sub(LONGEST_PATH));
    let path = match path.get(start..) {
        Some(end) if start > 0 => format!("…{end}"),
        _ => path.to_owned(),
    };
    match &member.name {
        Some(name) => format!("{path}.{}", short(name)),
        None => path,
    }
}
