//! What differs between two declarations of one map (libbpf's `map_defs_match`).

use bpfplan_plan::uapi::{BTF_KIND_ARRAY, BTF_KIND_PTR, BTF_KIND_STRUCT};
use bpfplan_plan::{MapType, Pinning};

use super::types::{Budget, Place, difference, skip};
use crate::btf::raw::{Raw, RawType};
use crate::definition::Definition;

/// One declaration of a map: what it says, and its struct in BTF.
#[derive(Clone, Copy)]
pub(super) struct Declared<'r> {
    pub(super) definition: &'r Definition,
    pub(super) raw: &'r Raw<'r>,
    /// Id of the VAR, or of the struct of a template.
    pub(super) id: u32,
}

/// A field that differs, and how: `64 against 128`.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) field: String,
    pub(super) what: String,
}

/// All differences.
pub(super) fn all(here: Declared<'_>, there: Declared<'_>, budget: &mut Budget) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", here, there, budget, &mut found);
    found
}

fn compare(
    prefix: &str,
    here: Declared<'_>,
    there: Declared<'_>,
    budget: &mut Budget,
    found: &mut Vec<Difference>,
) {
    let (a, b) = (here.definition, there.definition);
    let mut add = |field: &str, here: String, there: String| {
        if here != there {
            put(found, prefix, field, format!("{here} against {there}"));
        }
    };
    let number = |number: u32| number.to_string();
    let hex = |number: u32| format!("{number:#x}");
    let pinning = |it: &Definition| match it.pinning() {
        Pinning::None => "none".to_owned(),
        Pinning::ByName => "by name".to_owned(),
    };
    let kind = |number: u32| MapType(number).to_string();
    add("type", kind(a.map_type), kind(b.map_type));
    add("key_size", number(a.key_size), number(b.key_size));
    add("value_size", number(a.value_size), number(b.value_size));
    add("max_entries", number(a.max_entries), number(b.max_entries));
    add("map_flags", hex(a.map_flags), hex(b.map_flags));
    // libbpf's linker does not look at it and takes the first.
    add(
        "map_extra",
        format!("{:#x}", a.map_extra),
        format!("{:#x}", b.map_extra),
    );
    add("numa_node", number(a.numa_node), number(b.numa_node));
    add("pinning", pinning(a), pinning(b));
    let (mine, theirs) = (Members::of(here), Members::of(there));
    let said = |known: bool| if known { "declared" } else { "not declared" }.to_owned();
    for (field, one, other) in [
        ("key", mine.key, theirs.key),
        ("value", mine.value, theirs.value),
    ] {
        match (one, other) {
            (Some(one), Some(other)) => {
                let (one, other): (Place<'_>, Place<'_>) = ((here.raw, one), (there.raw, other));
                if let Some(what) = difference(one, other, budget) {
                    put(found, prefix, field, what);
                }
            }
            (one, other) if one.is_some() != other.is_some() => {
                let what = format!("{} against {}", said(one.is_some()), said(other.is_some()));
                put(found, prefix, field, what);
            }
            _ => {}
        }
    }
    match (&a.inner, &b.inner) {
        (Some(inner), Some(other)) if prefix.is_empty() => {
            let (Some(id), Some(other_id)) = (mine.inner, theirs.inner) else {
                return;
            };
            let (raw, other_raw) = (here.raw, there.raw);
            let one = Declared {
                definition: inner,
                raw,
                id,
            };
            let two = Declared {
                definition: other,
                raw: other_raw,
                id: other_id,
            };
            compare("values.", one, two, budget, found);
        }
        (one, other) if one.is_some() != other.is_some() => {
            let what = format!("{} against {}", said(one.is_some()), said(other.is_some()));
            put(found, prefix, "values", what);
        }
        _ => {}
    }
}

fn put(found: &mut Vec<Difference>, prefix: &str, field: &str, what: String) {
    let field = format!("{prefix}{field}");
    found.push(Difference { field, what });
}

/// The types that a map's members name, by their ids.
#[derive(Default)]
struct Members {
    key: Option<u32>,
    value: Option<u32>,
    /// The struct of the template.
    inner: Option<u32>,
}

impl Members {
    /// Reads the struct; the last member of a name counts.
    fn of(place: Declared<'_>) -> Self {
        let raw = place.raw;
        let mut this = Self::default();
        let start = match raw.get(place.id) {
            Some(ty) if ty.kind != BTF_KIND_STRUCT => ty.last,
            _ => place.id,
        };
        let Some(map) = skip(raw, start).1.filter(|ty| ty.kind == BTF_KIND_STRUCT) else {
            return this;
        };
        for [name, member, _] in map.parts() {
            match raw.name(name) {
                b"key" => this.key = pointee(raw.get(member)),
                b"value" => this.value = pointee(raw.get(member)),
                b"values" => {
                    let array = raw.get(member).filter(|ty| ty.kind == BTF_KIND_ARRAY);
                    let element = array.map(|ty| {
                        let [element, ..] = ty.array();
                        element
                    });
                    let pointer = element.and_then(|element| skip(raw, element).1);
                    this.inner = pointee(pointer).map(|id| skip(raw, id).0);
                }
                _ => {}
            }
        }
        this
    }
}

fn pointee(ty: Option<RawType<'_>>) -> Option<u32> {
    ty.filter(|ty| ty.kind == BTF_KIND_PTR).map(|ty| ty.last)
}
