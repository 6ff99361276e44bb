//! Maps that are left out (`bpf_map__set_autocreate` of libbpf).

use std::collections::{BTreeMap, HashSet};

use super::problem::{List, shown};
use super::target::Names;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{Map, Plan, SlotTarget};

/// The maps of these names. A map that a slot of a map that stays needs cannot be left out:
/// libbpf would fail to fill the slot.
pub(super) fn find(
    plan: &Plan,
    names: &Names<'_>,
    skip: &[String],
    problems: &mut List,
) -> HashSet<usize> {
    let mut skipped = HashSet::new();
    for name in skip {
        if problems.is_full() {
            return skipped;
        }
        match names.find(name) {
            Some(index) => drop(skipped.insert(index)),
            None => problems.add(missing(names, name)),
        }
    }
    let index_of = |name: &str| names.find(name).filter(|index| skipped.contains(index));
    for (index, map) in plan.maps.iter().enumerate() {
        if skipped.is_empty() || skipped.contains(&index) {
            continue;
        }
        let mut needed: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for slot in &map.slots {
            if let SlotTarget::Map(name) = &slot.target
                && let Some(target) = index_of(name)
            {
                needed.entry(target).or_default().push(slot.index);
            }
        }
        for (target, slots) in needed {
            if problems.is_full() {
                return skipped;
            }
            if let Some(target) = plan.maps.get(target) {
                problems.add(is_needed(map, target, &slots));
            }
        }
    }
    skipped
}

fn missing(names: &Names<'_>, name: &str) -> Diagnostic {
    let message = format!("there is no map '{}' to leave out", shown(name));
    let found = Diagnostic::error(codes::OVERRIDE_NAME, message);
    match names.near(name) {
        Some(help) => found.help(help),
        None => found,
    }
}

fn is_needed(outer: &Map, target: &Map, slots: &[u32]) -> Diagnostic {
    let first = slots.first().copied().unwrap_or_default();
    let more = match slots.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let name = outer.name.escape_debug();
    let message = format!("it cannot be left out: slot {first} of '{name}'{more} holds it");
    Diagnostic::error(codes::OVERRIDE_SKIPPED, message)
        .map(&target.name)
        .at(target.source.as_ref(), "declared here")
        .at(outer.source.as_ref(), "the outer map")
        .note("libbpf fails with EINVAL when it fills the slot")
        .help(format!("skip '{name}' as well"))
}

/// Takes the maps out of the plan.
pub(super) fn remove(plan: &mut Plan, skipped: &HashSet<usize>) {
    if skipped.is_empty() {
        return;
    }
    let mut index = 0..;
    plan.maps
        .retain(|_| index.next().is_none_or(|index| !skipped.contains(&index)));
    let kept: HashSet<&str> = plan.maps.iter().map(|map| map.name.as_str()).collect();
    plan.contents
        .retain(|contents| kept.contains(contents.map.as_str()));
}
