//! The steps of a plan, one row each.

use bpfplan_plan::c_type::Declarator;
use bpfplan_plan::{
    Map, MaxEntries, Pinning, Plan, Slot, SlotTarget, Step, TypeId, WithPrograms, rules, uapi,
};

use super::maps_of_maps::slot_runs;
use super::names;
use super::summary::memory_of;
use crate::render::escape::plain;
use crate::render::style::Style;

/// Names wider than this stand on a line of their own.
const WIDEST: usize = 32;
/// Names, or runs of them, in one row.
const NAMES: usize = 4;
/// Slots that a row shows; the tree below shows more.
const SLOTS_SHOWN: usize = 4;

/// One row: what is done, to what, and the facts in columns.
#[derive(Default)]
struct Row {
    verb: &'static str,
    names: String,
    /// Type, key, value, max_entries, memory; empty where the columns do not apply.
    columns: [String; 5],
    /// Facts that few maps have.
    rest: String,
    /// Types of key and value.
    types: String,
}

/// Renders [`Plan::steps`].
pub(super) fn render(plan: &Plan, style: Style) -> String {
    let steps = plan.steps();
    let contents = plan.contents_by_map();
    let mut rows = Vec::new();
    let mut rest = steps.as_slice();
    while let Some((step, tail)) = rest.split_first() {
        rest = tail;
        let map = step.map_index().and_then(|index| plan.maps.get(index));
        match (step, map) {
            (Step::LoadBtf, _) => rows.push(btf(plan)),
            (Step::CreateTemplate { .. }, Some(outer)) => rows.extend(template(plan, outer)),
            (Step::CreateMap { .. }, Some(first)) => {
                let equal = 1 + rest
                    .iter()
                    .map_while(|step| same(plan, first, *step))
                    .count();
                rest = rest.get(equal - 1..).unwrap_or_default();
                rows.extend(creates(plan, step.map_index().unwrap_or_default(), equal));
            }
            (Step::WriteContents { .. }, Some(map)) => {
                rows.push(write(map, !contents.contains_key(map.name.as_str())))
            }
            (Step::Freeze { .. }, Some(map)) => rows.push(Row {
                verb: "freeze",
                names: plain(&map.name).into_owned(),
                rest: "user space cannot write to it any more".to_owned(),
                ..Row::default()
            }),
            (Step::LoadPrograms, _) => rows.extend(programs(plan)),
            (Step::FillSlots { .. }, Some(map)) => {
                rows.push(fill(map, |target| matches!(target, SlotTarget::Map(_))))
            }
            (Step::FillPrograms { .. }, Some(map)) => {
                rows.push(fill(map, |target| matches!(target, SlotTarget::Program(_))))
            }
            (Step::Pin { .. }, Some(map)) => rows.push(Row {
                verb: "pin",
                names: plain(&map.name).into_owned(),
                rest: "by name, under the pin root".to_owned(),
                ..Row::default()
            }),
            // Closing a template is told in the row that creates it.
            _ => {}
        }
    }
    align(&rows, style)
}

fn btf(plan: &Plan) -> Row {
    Row {
        verb: "btf",
        rest: format!(
            "{}, {} bytes",
            count(plan.kernel_types, "type"),
            plan.btf.len()
        ),
        ..Row::default()
    }
}

fn template(plan: &Plan, outer: &Map) -> Option<Row> {
    let inner = outer.inner.as_deref()?;
    let mut row = describe(plan, inner, 1);
    row.verb = "template";
    row.names = plain(&inner.name).into_owned();
    // It is gone before anything fills it.
    row.columns[4].clear();
    push_fact(
        &mut row.rest,
        &format!("(released after {})", plain(&outer.name)),
    );
    Some(row)
}

/// The map of a step that creates one just like `first`.
fn same<'a>(plan: &'a Plan, first: &Map, step: Step) -> Option<&'a Map> {
    let Step::CreateMap { map } = step else {
        return None;
    };
    let map = plan.maps.get(map)?;
    let like = Map {
        name: first.name.clone(),
        source: first.source.clone(),
        ..map.clone()
    };
    (map.inner.is_none() && map.slots.is_empty() && like == *first).then_some(map)
}

/// Rows that create `equal` maps of the same attributes, from index `start` on.
fn creates(plan: &Plan, start: usize, equal: usize) -> Vec<Row> {
    let maps = plan
        .maps
        .get(start..start.saturating_add(equal))
        .unwrap_or_default();
    let Some(first) = maps.first() else {
        return Vec::new();
    };
    let names: Vec<&str> = maps.iter().map(|map| map.name.as_str()).collect();
    let mut rows: Vec<Row> = Vec::new();
    let mut rest = names::runs(&names);
    while !rest.is_empty() {
        let later = rest.split_off(fitting(&rest));
        let maps = rest.iter().map(|run| run.count).sum();
        let texts: Vec<&str> = rest.iter().map(|run| run.text.as_str()).collect();
        rows.push(Row {
            verb: "create",
            names: texts.join(", "),
            ..describe(plan, first, maps)
        });
        rest = later;
    }
    rows
}

/// How many of the names go into one row: those that are not too wide together, at least one.
fn fitting(runs: &[names::Run]) -> usize {
    let mut width = 0;
    let fit = runs.iter().take(NAMES).take_while(|run| {
        width += run.text.chars().count() + 2;
        width <= WIDEST + 2
    });
    fit.count().max(1)
}

fn describe<I>(plan: &Plan, map: &Map<I>, maps: usize) -> Row {
    let size = |what: &str, size: u32| match size {
        0 => String::new(),
        size => format!("{what} {size}B"),
    };
    let each = if maps > 1 { " each" } else { "" };
    let memory = memory_of(map);
    let mut row = Row {
        columns: [
            map.map_type.to_string(),
            size("key", map.key_size),
            // The value of an outer map is a descriptor; its size says nothing.
            if map.is_outer() {
                String::new()
            } else {
                size("value", map.value_size)
            },
            match map.max_entries {
                MaxEntries::Count(0) if rules::entries_required(map) => {
                    "max_entries: to be set".to_owned()
                }
                MaxEntries::Count(0) => String::new(),
                MaxEntries::Count(count) => format!("max_entries {count}"),
                MaxEntries::PossibleCpus => "max_entries: possible CPUs".to_owned(),
            },
            format!("~{memory}{each}"),
        ],
        ..Row::default()
    };
    if map.map_flags != 0 {
        push_fact(&mut row.rest, &format!("flags {}", flags(map.map_flags)));
    }
    if map.map_extra != 0 {
        push_fact(&mut row.rest, &format!("map_extra {:#x}", map.map_extra));
    }
    if map.numa_node != 0 {
        push_fact(&mut row.rest, &format!("numa_node {}", map.numa_node));
    }
    if map.is_outer() && map.inner.is_some() && map.slots.is_empty() {
        push_fact(&mut row.rest, "no slots filled");
    }
    let typed = map.key_type.is_some() || map.value_type.is_some();
    if typed && map.btf.is_none() && rules::wants_btf(map.map_type) {
        push_fact(&mut row.rest, "without BTF");
    }
    if map.pinning == Pinning::ByName {
        push_fact(&mut row.rest, "pinning by name");
    }
    if map.is_internal() || map.data.is_some() {
        // The variables and their types stand below.
        return row;
    }
    let ty =
        |what, id: Option<TypeId>| id.map(|id| format!("{what} {}", Declarator::short(plan, id)));
    row.types = [ty("key", map.key_type), ty("value", map.value_type)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ");
    row
}

fn write(map: &Map, zero: bool) -> Row {
    let size = map.data.as_ref().map_or(map.value_size, |data| data.size);
    let what = match (map.externs.is_empty(), zero) {
        (false, _) => ", resolved on the target",
        (true, true) => ", all 0",
        (true, false) => "",
    };
    Row {
        verb: "write",
        names: plain(&map.name).into_owned(),
        rest: format!("{}{what}", count(size, "byte")),
        ..Row::default()
    }
}

/// What libbpf loads, and the maps that it makes meanwhile.
fn programs(plan: &Plan) -> Vec<Row> {
    let loaded = plan.programs.iter().filter(|program| program.is_loaded());
    let mut rows = vec![Row {
        verb: "load",
        names: count(loaded.count(), "program"),
        rest: "with libbpf, for --pin-progs".to_owned(),
        ..Row::default()
    }];
    for map in &plan.maps {
        let Some(why) = map.with_programs else {
            continue;
        };
        let mut row = describe(plan, map, 1);
        row.names = plain(&map.name).into_owned();
        if why == WithPrograms::OptionalStructOps {
            row.verb = "skip";
            push_fact(&mut row.rest, "its section begins with `?`");
        } else {
            row.verb = "create";
            let fact = format!("created with the programs: {}", why.reason());
            push_fact(&mut row.rest, &fact);
        }
        rows.push(row);
    }
    if plan.jump_tables > 0 {
        rows.push(Row {
            verb: "create",
            names: ".jumptables".to_owned(),
            rest: format!(
                "{}, created with the programs: where their jumps lead",
                count(plan.jump_tables, "byte")
            ),
            ..Row::default()
        });
    }
    rows
}

fn fill(map: &Map, of_kind: fn(&SlotTarget) -> bool) -> Row {
    let slots: Vec<&Slot> = map
        .slots
        .iter()
        .filter(|slot| of_kind(&slot.target))
        .collect();
    let mut rest = String::new();
    let mut shown = 0;
    for run in slot_runs(&slots).take(SLOTS_SHOWN) {
        push_fact(&mut rest, &format!("{} = {}", run.indexes(), run.target()));
        shown += run.count;
    }
    if shown < slots.len() {
        push_fact(&mut rest, &format!("and {} more", slots.len() - shown));
    }
    Row {
        verb: "fill",
        names: plain(&map.name).into_owned(),
        rest,
        ..Row::default()
    }
}

/// Flags in the kernel's spelling without `BPF_F_`; what has no name as a number.
fn flags(flags: u32) -> String {
    let mut unnamed = flags;
    let mut names = Vec::new();
    for (bit, name) in uapi::MAP_FLAGS {
        if flags & bit != 0 {
            unnamed &= !bit;
            names.push(name.strip_prefix("BPF_F_").unwrap_or(name).to_owned());
        }
    }
    if unnamed != 0 {
        names.push(format!("{unnamed:#x}"));
    }
    names.join("|")
}

/// `1 slot`, `2 slots`.
pub(super) fn count(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn push_fact(facts: &mut String, fact: &str) {
    if !facts.is_empty() {
        facts.push_str("  ");
    }
    facts.push_str(fact);
}

/// Lays the rows out in columns. A column that is empty everywhere takes no room.
fn align(rows: &[Row], style: Style) -> String {
    let width = |cell: &dyn Fn(&Row) -> &str| {
        rows.iter()
            .map(|row| cell(row).chars().count())
            .filter(|width| *width <= WIDEST)
            .max()
            .unwrap_or(0)
    };
    let names = width(&|row| &row.names);
    let columns: Vec<usize> = (0..5)
        .map(|n| width(&|row: &Row| row.columns.get(n).map_or("", String::as_str)))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("  + {:8} {}", row.verb, pad(&row.names, names));
        if row.names.chars().count() > WIDEST && !row.columns[0].is_empty() {
            text.push_str(&paint(&line, row, style));
            line = format!("\n{:13}{}", "", pad("", names));
        }
        if !row.columns[0].is_empty() {
            for (cell, width) in row
                .columns
                .iter()
                .zip(&columns)
                .filter(|(_, width)| **width > 0)
            {
                line.push_str("  ");
                line.push_str(&pad(cell, *width));
            }
        }
        if !row.rest.is_empty() {
            line.push_str("  ");
            line.push_str(&row.rest);
        }
        text.push_str(&paint(line.trim_end_matches(' '), row, style));
        text.push('\n');
        if !row.types.is_empty() {
            text.push_str(&style.dim(&format!("{:13}{}", "", row.types)));
            text.push('\n');
        }
    }
    text
}

/// Colours the verb and the names of a row that is laid out already.
fn paint(line: &str, row: &Row, style: Style) -> String {
    let verb = format!("  + {:8} ", row.verb);
    let Some(rest) = line
        .strip_prefix(&verb)
        .and_then(|rest| rest.strip_prefix(&row.names))
    else {
        return line.to_owned();
    };
    format!("{}{}{rest}", style.green(&verb), style.bold(&row.names))
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:width$}")
}
