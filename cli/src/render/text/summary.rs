//! What a plan comes to: counts, memory, the oldest kernel, and what is missing.

use std::fmt;

use bpfplan_plan::rules::{self, KernelVersion, SpecialFields, Target};
use bpfplan_plan::{Map, Plan, Step, WithPrograms};

use super::rows::count;
use crate::render::escape::plain;
use crate::render::style::Style;
use crate::size::human;

/// First kernel that updates outer maps in batches.
const BATCH: KernelVersion = KernelVersion {
    major: 5,
    minor: 19,
};

/// Memory of maps in bytes: a plan is for any machine, so what grows with the CPUs is apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    fixed: u64,
    per_cpu: u64,
}

impl Memory {
    fn add(self, other: Self) -> Self {
        Self {
            fixed: self.fixed.saturating_add(other.fixed),
            per_cpu: self.per_cpu.saturating_add(other.per_cpu),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.fixed, self.per_cpu) {
            (fixed, 0) => f.write_str(&human(fixed)),
            (0, per_cpu) => write!(f, "{} per CPU", human(per_cpu)),
            (fixed, per_cpu) => write!(f, "{} + {} per CPU", human(fixed), human(per_cpu)),
        }
    }
}

/// Memory of a map with pages of 4 KiB.
pub(super) fn memory_of<I>(map: &Map<I>) -> Memory {
    let on = |possible_cpus| {
        rules::memory(
            map,
            &Target {
                page_size: 4096,
                possible_cpus,
            },
        )
    };
    // Far enough apart that rounding to pages does not hide what a CPU costs.
    let (few, many) = (on(1), on(65));
    let per_cpu = many.saturating_sub(few) / 64;
    Memory {
        fixed: few.saturating_sub(per_cpu),
        per_cpu,
    }
}

/// Renders the closing lines.
pub(super) fn render(plan: &Plan, style: Style) -> String {
    let mut text = totals(plan);
    for required in rules::required(plan) {
        let line = format!("required: --set {}=N", plain(&required.target()));
        text.push_str(&style.yellow(&line));
        text.push('\n');
    }
    text
}

fn totals(plan: &Plan) -> String {
    let steps = plan.steps();
    let slots: usize = steps
        .iter()
        .filter_map(|step| match step {
            Step::FillSlots { map } | Step::FillPrograms { map } => plan.maps.get(*map),
            _ => None,
        })
        .map(|map| map.slots.len())
        .sum();
    let fills = steps
        .iter()
        .any(|step| matches!(step, Step::FillSlots { .. }));
    let skipped = |map: &&Map| map.with_programs == Some(WithPrograms::OptionalStructOps);
    let maps = plan.maps.len() - plan.maps.iter().filter(skipped).count();
    if plan.maps.is_empty() {
        return "No maps: nothing to create.\n".to_owned();
    }
    let mut text = format!("{} to create", count(maps, "map"));
    if slots > 0 {
        text.push_str(&format!(", {} to fill", count(slots, "slot")));
    }
    let memory = plan
        .maps
        .iter()
        .map(memory_of)
        .fold(Memory::default(), Memory::add);
    text.push_str(&format!(". About {memory}.\n"));
    text.push_str(&kernel(plan, fills));
    text
}

/// `Needs Linux 5.10 (luts: BPF_F_INNER_MAP); batch fill 5.19, else per slot.`
fn kernel(plan: &Plan, fills: bool) -> String {
    let mut special = SpecialFields::new(&plan.types);
    let mut needs = |map: &Map| {
        let own = special.needs(map);
        let own = own.map(|(version, why)| (version, map.name.clone(), why));
        let inner = map.inner.as_deref();
        let inner = inner.and_then(|inner| {
            let (version, why) = special.needs(inner)?;
            Some((version, inner.name.clone(), why))
        });
        [own, inner]
    };
    let newest = plan
        .maps
        .iter()
        .flat_map(&mut needs)
        .flatten()
        // The first of equals, so that the text points at the first cause.
        .reduce(|newest, next| if next.0 > newest.0 { next } else { newest });
    let Some((version, name, why)) = newest else {
        return String::new();
    };
    let batch = if fills && version < BATCH {
        format!("; fills in a batch from {BATCH} on, else slot by slot")
    } else {
        String::new()
    };
    format!("Needs Linux {version} ({}: {why}){batch}.\n", plain(&name))
}
