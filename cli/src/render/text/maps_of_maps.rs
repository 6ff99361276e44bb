//! Maps that hold maps or programs, as trees: the template, then the slots.

use bpfplan_plan::{Map, MaxEntries, Plan, Slot, SlotTarget, Template};

use super::rows::count;
use crate::render::escape::plain;
use crate::render::style::Style;

/// Runs of slots that a tree shows.
const RUNS_SHOWN: usize = 32;

/// Consecutive slots that hold the same thing.
pub(super) struct SlotRun<'a> {
    first: &'a Slot,
    /// Number of slots.
    pub(super) count: usize,
}

impl SlotRun<'_> {
    /// `[3]`, or `[3..7]` from the first to the last.
    pub(super) fn indexes(&self) -> String {
        let start = u64::from(self.first.index);
        match u64::try_from(self.count).unwrap_or(u64::MAX) {
            0 | 1 => format!("[{start}]"),
            count => format!("[{start}..{}]", start.saturating_add(count - 1)),
        }
    }

    /// What the slots hold.
    pub(super) fn target(&self) -> String {
        match &self.first.target {
            SlotTarget::Map(name) => plain(name).into_owned(),
            SlotTarget::Program(name) => format!("program {}", plain(name)),
        }
    }
}

/// Splits slots into runs.
pub(super) fn slot_runs<'a>(slots: &'a [&'a Slot]) -> impl Iterator<Item = SlotRun<'a>> {
    slots
        .chunk_by(|a, b| a.index.checked_add(1) == Some(b.index) && a.target == b.target)
        .filter_map(|run| {
            Some(SlotRun {
                first: run.first()?,
                count: run.len(),
            })
        })
}

/// Renders one tree per map that has slots; the rows tell of a template alone.
pub(super) fn render(plan: &Plan, style: Style) -> String {
    plan.maps
        .iter()
        .filter(|map| !map.slots.is_empty())
        .map(|map| tree(map, style))
        .collect()
}

/// What slots are compared with.
fn template(inner: &Template) -> String {
    let mut text = format!("template  {}", inner.map_type);
    for (what, size) in [("key", inner.key_size), ("value", inner.value_size)] {
        if size > 0 {
            text.push_str(&format!("  {what} {size}B"));
        }
    }
    match inner.max_entries {
        MaxEntries::Count(0) => {}
        MaxEntries::Count(count) => text.push_str(&format!("  max_entries {count}")),
        MaxEntries::PossibleCpus => text.push_str("  max_entries: possible CPUs"),
    }
    text
}

fn tree(map: &Map, style: Style) -> String {
    let room = match map.max_entries {
        MaxEntries::Count(0) => String::new(),
        MaxEntries::Count(room) => format!(" of {}", count(room, "slot")),
        MaxEntries::PossibleCpus => String::new(),
    };
    let mut text = format!(
        "  {} {}{room}, {} filled\n",
        style.bold(&plain(&map.name)),
        map.map_type,
        map.slots.len(),
    );
    let mut branches = Vec::new();
    if let Some(inner) = &map.inner {
        branches.push(template(inner));
    }
    let slots: Vec<&Slot> = map.slots.iter().collect();
    let mut shown = 0;
    for run in slot_runs(&slots).take(RUNS_SHOWN) {
        branches.push(format!("{:8}  {}", run.indexes(), run.target()));
        shown += run.count;
    }
    if shown < slots.len() {
        branches.push(format!(
            "and {}: see --format json",
            count(slots.len() - shown, "more slot")
        ));
    }
    for (n, branch) in branches.iter().enumerate() {
        let corner = if n + 1 == branches.len() {
            "└─"
        } else {
            "├─"
        };
        text.push_str(&format!("  {} {branch}\n", style.dim(corner)));
    }
    text
}
