//! The map of kernel configuration values.

use std::collections::HashSet;

use super::{Problems, shown};
use crate::codes;
use crate::contents::MAX_TOTAL;
use crate::model::{Extern, ExternKind, Map, MaxEntries, Plan};
use crate::uapi;

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let mut maps = plan.maps.iter().filter(|map| !map.externs.is_empty());
    let Some(map) = maps.next() else { return };
    shape(map, problems);
    values(map, problems);
    for map in maps {
        let message = "another map has kernel configuration values, an object has one such map";
        problems.map(map, codes::PLAN_EXTERNS, "externs", message);
    }
}

/// The map is the one that libbpf makes of `.kconfig`.
fn shape(map: &Map, problems: &mut Problems) {
    let mut wrong = |field: &str, message: &str| {
        problems.map(map, codes::PLAN_EXTERNS, field, message);
    };
    if map.map_type.0 != uapi::BPF_MAP_TYPE_ARRAY {
        wrong("type", "a map of kernel configuration values is an array");
    }
    if map.key_size != 4 || map.max_entries != MaxEntries::Count(1) {
        wrong(
            "max_entries",
            "a map of kernel configuration values has keys of 4 bytes and one entry",
        );
    }
    if u64::from(map.value_size) > MAX_TOTAL {
        wrong("value_size", "its value is larger than global data may be");
    }
    let known = uapi::BPF_F_RDONLY_PROG | uapi::BPF_F_MMAPABLE;
    if map.map_flags & uapi::BPF_F_RDONLY_PROG == 0 || map.map_flags & !known != 0 {
        wrong(
            "map_flags",
            "a map of kernel configuration values has the flags BPF_F_RDONLY_PROG and BPF_F_MMAPABLE",
        );
    }
    let others = [
        map.data.is_some(),
        map.inner.is_some(),
        !map.slots.is_empty(),
        map.key_type.is_some(),
    ];
    if others.contains(&true) {
        wrong(
            "externs",
            "a map of kernel configuration values has no initial contents, no template, no slots and no key type",
        );
    }
}

/// The values lie in the map's value one after another, each as large as its kind is.
fn values(map: &Map, problems: &mut Problems) {
    let mut names = HashSet::new();
    let mut end = 0;
    for value in &map.externs {
        let mut wrong = |what: &str| {
            let message = format!("{:?} {what}", shown(&value.name));
            problems.map(map, codes::PLAN_EXTERNS, "externs", message);
        };
        if value.name.is_empty() || value.name.contains('\0') {
            wrong("is no name");
        }
        if !names.insert(value.name.as_str()) {
            wrong("stands twice");
        }
        if !fits(value) {
            wrong("has a size that its kind never has");
        }
        match value.offset.checked_add(value.size) {
            Some(after) if value.offset >= end && after <= map.value_size => end = after,
            _ => wrong("overlaps the one before it, or lies outside of the map's value"),
        }
    }
}

fn fits(value: &Extern) -> bool {
    match value.kind {
        ExternKind::Bool | ExternKind::Char | ExternKind::UnsignedChar => value.size == 1,
        ExternKind::Tristate => matches!(value.size, 4 | 8),
        ExternKind::Signed | ExternKind::Unsigned => matches!(value.size, 2 | 4 | 8),
        ExternKind::String => value.size > 0,
    }
}
