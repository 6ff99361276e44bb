//! What the graphs of a plan have in common.

use bpfplan_plan::{Map, MaxEntries, Slot, SlotTarget};

use super::escape::plain;

/// Runs of equal slots that an edge names before it only counts.
const SHOWN: usize = 8;

/// The lines in a map's box.
pub(super) fn lines<I>(map: &Map<I>) -> Vec<String> {
    let entries = match map.max_entries {
        MaxEntries::Count(count) => count.to_string(),
        MaxEntries::PossibleCpus => "possible CPUs".to_owned(),
    };
    let mut lines = vec![
        plain(&map.name).into_owned(),
        map.map_type.to_string(),
        format!(
            "key {}B, value {}B, max_entries {entries}",
            map.key_size, map.value_size
        ),
    ];
    if let Some(data) = &map.data {
        let frozen = if data.frozen { ", frozen" } else { "" };
        lines.push(format!("global data{frozen}"));
    }
    if let Some(why) = map.with_programs {
        lines.push(format!("created with the programs: {}", why.reason()));
    }
    if !map.externs.is_empty() {
        lines.push("kernel configuration, frozen".to_owned());
    }
    lines
}

/// The slots of a map by what they hold, in the order of the first slot of each.
pub(super) fn edges(map: &Map) -> Vec<(&SlotTarget, String)> {
    let mut targets: Vec<(&SlotTarget, Vec<&Slot>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for slot in &map.slots {
        let key = match &slot.target {
            SlotTarget::Map(name) => (false, name.as_str()),
            SlotTarget::Program(name) => (true, name.as_str()),
        };
        let place = *places.entry(key).or_insert_with(|| {
            targets.push((&slot.target, Vec::new()));
            targets.len() - 1
        });
        if let Some((_, slots)) = targets.get_mut(place) {
            slots.push(slot);
        }
    }
    targets
        .into_iter()
        .map(|(target, slots)| (target, label(&slots)))
        .collect()
}

fn label(slots: &[&Slot]) -> String {
    let mut text = slots
        .iter()
        .take(SHOWN)
        .map(|slot| format!("[{}]", slot.index))
        .collect::<Vec<_>>()
        .join(" ");
    if slots.len() > SHOWN {
        text.push_str(&format!(" and {} more", slots.len() - SHOWN));
    }
    text
}
