//! Types of keys and values, compared by what they mean for the bytes of a map.
//!
//! Ids of two BTF blobs have nothing to do with each other, so types are compared by structure.
//! Both sides may be hostile: pairs that were seen are not compared again, and the work is bounded.

use std::collections::{HashMap, HashSet, VecDeque};

use super::spell::spell;
use super::{Difference, MOST, MapTypes};
use crate::rules::layout::{get, resolve};
use crate::rules::special::{Field, Record, record};
use crate::types::{Composite, Enum, Member, Type, TypeId};

/// Deepest nesting that is compared: more than the kernel resolves.
const DEEPEST: usize = 64;
/// Members and types that are compared in all.
const MOST_STEPS: usize = 1 << 20;
/// Longest chain of qualifiers behind a pointer.
const LONGEST_CHAIN: usize = 32;

/// Where a member is, and how wide a bitfield.
type Place = (u32, Option<u8>);

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
                |(value, name)| format!("{name} = {}", value.cast_signed()),
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
                let tags: String = side.tags.iter().map(|tag| format!(" __{tag}")).collect();
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
                Some(name) => format!("tag {name}"),
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
        let mut left = left.rest(other);
        let mut missing = Vec::new();
        for member in unmatched {
            match left.take_at(member) {
                Some(renamed) => {
                    let difference =
                        Difference::warning(below(path, member), name(member), name(renamed));
                    self.found.push(difference);
                    self.members(path, member, renamed, depth);
                }
                None => missing.push(member),
            }
        }
        for member in missing {
            let text = self.place(self.declared, member);
            let pinned = left
                .take_moved(member)
                .map_or_else(|| "none".to_owned(), |moved| self.place(self.pinned, moved));
            let difference = Difference::error(below(path, member), text, pinned);
            self.found.push(difference);
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
                        format!("{} to {name} at {}", field.kind.name(), field.offset)
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

/// The members of a struct or union that have found no counterpart yet.
struct Members<'a> {
    by_name: HashMap<(Place, Option<&'a str>), VecDeque<usize>>,
    taken: HashSet<usize>,
    members: &'a [Member],
}

impl<'a> Members<'a> {
    fn of(composite: &'a Composite) -> Self {
        let mut by_name: HashMap<_, VecDeque<usize>> = HashMap::new();
        for (index, member) in composite.members.iter().enumerate() {
            let key = (place_of(member), member.name.as_deref());
            by_name.entry(key).or_default().push_back(index);
        }
        Self {
            by_name,
            taken: HashSet::new(),
            members: &composite.members,
        }
    }

    /// A member of that name in the same place.
    fn take_named(&mut self, member: &'a Member) -> Option<&'a Member> {
        let key = (place_of(member), member.name.as_deref());
        let index = self.by_name.get_mut(&key)?.pop_front()?;
        self.taken.insert(index);
        self.members.get(index)
    }

    fn rest(self, composite: &'a Composite) -> Rest<'a> {
        let members = composite.members.iter().enumerate();
        let members: Vec<&Member> = members
            .filter(|(index, _)| !self.taken.contains(index))
            .map(|(_, member)| member)
            .collect();
        let (mut by_place, mut by_name) = (HashMap::<_, VecDeque<_>>::new(), HashMap::new());
        for (index, member) in members.iter().enumerate() {
            by_place
                .entry(place_of(member))
                .or_default()
                .push_back(index);
            if let Some(name) = member.name.as_deref() {
                by_name.entry(name).or_insert(index);
            }
        }
        Rest {
            members: members.into_iter().map(Some).collect(),
            by_place,
            by_name,
        }
    }
}

/// What is left after all members of one name in one place were matched.
struct Rest<'a> {
    members: Vec<Option<&'a Member>>,
    by_place: HashMap<Place, VecDeque<usize>>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Rest<'a> {
    fn take(&mut self, index: usize) -> Option<&'a Member> {
        self.members.get_mut(index)?.take()
    }

    /// Some member in the same place.
    fn take_at(&mut self, member: &Member) -> Option<&'a Member> {
        let index = self.by_place.get_mut(&place_of(member))?.pop_front()?;
        self.take(index)
    }

    /// A member of that name in another place.
    fn take_moved(&mut self, member: &Member) -> Option<&'a Member> {
        let index = *self.by_name.get(member.name.as_deref()?)?;
        self.take(index)
    }

    fn all(self) -> impl Iterator<Item = &'a Member> {
        self.members.into_iter().flatten()
    }
}

fn place_of(member: &Member) -> Place {
    (member.bit_offset, member.bitfield_size)
}

fn name(member: &Member) -> String {
    member
        .name
        .clone()
        .unwrap_or_else(|| "an anonymous member".to_owned())
}

/// Path of a member. Those of anonymous structs and unions are named as in C.
fn below(path: &str, member: &Member) -> String {
    match &member.name {
        Some(name) => format!("{path}.{name}"),
        None => path.to_owned(),
    }
}

/// The variables of a section, as if they were members.
fn section(types: &[Type], ty: &Type, size: u32) -> Composite {
    let Type::Datasec { vars, .. } = ty else {
        return Composite {
            name: None,
            size,
            members: Vec::new(),
        };
    };
    let members = vars.iter().filter_map(|place| {
        let Some(Type::Var { name, to, .. }) = get(types, place.var) else {
            return None;
        };
        Some(Member {
            name: Some(name.clone()),
            ty: *to,
            bit_offset: place.offset.saturating_mul(8),
            bitfield_size: None,
        })
    });
    Composite {
        name: None,
        size,
        members: members.collect(),
    }
}

/// Size of what is one number.
fn scalar(ty: &Type) -> Option<u32> {
    match ty {
        Type::Int { size, .. } => Some(*size),
        Type::Enum(list) | Type::Enum64(list) => Some(list.size),
        Type::Ptr { .. } => Some(8),
        _ => None,
    }
}

/// Whether one side is what is left of the other for kernels that do not know its kind
/// (`bpf_object__sanitize_btf` of libbpf, `sanitize` here).
fn sanitized(one: &Type, other: &Type) -> bool {
    let replaced = |full: &Type, left: &Type| match (full, left) {
        (Type::Float { size, .. }, Type::Struct(composite)) => {
            composite.members.is_empty() && composite.size == *size
        }
        (Type::Enum64(list), Type::Union(composite)) => composite.size == list.size,
        (Type::Datasec { size, .. }, Type::Struct(composite)) => composite.size == *size,
        _ => false,
    };
    replaced(one, other) || replaced(other, one)
}

/// What tells two types of one spelling apart.
fn detail(types: &[Type], id: TypeId) -> String {
    match resolve(types, id).map(|(_, ty)| ty) {
        Some(Type::Int { bits, encoding, .. }) => {
            let encoding = format!("{encoding:?}").to_lowercase();
            format!(", {encoding}, {bits} bits")
        }
        Some(Type::Float { size, .. }) => format!(", a float of {size} bytes"),
        Some(Type::Struct(composite) | Type::Union(composite)) => {
            format!(", {} bytes", composite.size)
        }
        Some(Type::Enum(list) | Type::Enum64(list)) => format!(", an enum of {} bytes", list.size),
        Some(Type::Array { .. }) => ", an array".to_owned(),
        Some(Type::Ptr { .. }) => ", a pointer".to_owned(),
        _ => String::new(),
    }
}

/// What a pointer leads to.
struct Pointee<'a> {
    /// Values of its type tags.
    tags: Vec<&'a str>,
    /// Struct, union or other type by name.
    name: String,
    /// Whether it is more than declared.
    full: bool,
}

fn pointee(types: &[Type], mut id: TypeId) -> Pointee<'_> {
    let mut tags = Vec::new();
    for _ in 0..LONGEST_CHAIN {
        id = match get(types, id) {
            Some(Type::TypeTag { value, to, .. }) => {
                tags.push(value.as_str());
                *to
            }
            Some(
                Type::Const { to }
                | Type::Volatile { to }
                | Type::Restrict { to }
                | Type::Typedef { to, .. },
            ) => *to,
            _ => break,
        };
    }
    Pointee {
        tags,
        name: match get(types, id) {
            Some(Type::Int { size, .. }) => format!("an integer of {size} bytes"),
            Some(Type::FuncProto { .. }) => "a function".to_owned(),
            Some(Type::Ptr { .. }) => "a pointer".to_owned(),
            Some(Type::Array { .. }) => "an array".to_owned(),
            _ => spell(types, id),
        },
        full: !matches!(get(types, id), Some(Type::Fwd { .. })),
    }
}
