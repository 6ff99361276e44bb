//! Static slots: what the kernel would refuse to put into an outer map.

use std::fmt;

use foldhash::HashMap;

use super::KernelVersion;
use super::flags::flag_names;
use super::special::{Field, Record, SpecialFields};
use super::table::{FREE_INNER_ENTRIES, Inner, rules};
use crate::codes;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Map, MaxEntries, Plan, Slot, SlotTarget, Template};
use crate::uapi;

/// Slots that even the newest kernel refuses: beyond `max_entries`, with a target that is
/// missing, is an outer map itself, or does not fit the template (`bpf_map_meta_equal`).
#[must_use]
pub fn slot_errors(plan: &Plan) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    each_slot_error(plan, |diagnostic| found.push(diagnostic));
    found
}

/// As [`slot_errors`], for callers that do not keep all of them: a plan can have millions.
pub fn each_slot_error(plan: &Plan, mut each: impl FnMut(Diagnostic)) {
    if plan.maps.iter().all(|map| map.slots.is_empty()) {
        return;
    }
    let mut targets = Targets::of(plan);
    for map in &plan.maps {
        beyond(map).into_iter().for_each(&mut each);
        // Many slots may hold one map: it is compared once.
        let mut compared: HashMap<&str, Option<Mismatch>> = HashMap::default();
        for slot in &map.slots {
            let SlotTarget::Map(name) = &slot.target else {
                continue;
            };
            let Some(target) = targets.maps.get(name.as_str()).copied() else {
                let message = format!("there is no map '{}'", name.escape_debug());
                each(about(codes::SLOT_TARGET_MISSING, map, slot, &message));
                continue;
            };
            if target.is_outer() {
                each(nested(map, slot, target));
                continue;
            }
            let Some(template) = &map.inner else { continue };
            if equal(template, target) {
                continue;
            }
            let mismatch = compared
                .entry(name)
                .or_insert_with(|| targets.mismatch(template, target));
            if let Some(mismatch) = mismatch {
                each(misfit(map, slot, target, mismatch));
            }
        }
    }
}

/// Whether all that is compared is the same, as it is for most inner maps.
fn equal(template: &Template, target: &Map) -> bool {
    template.map_type == target.map_type
        && template.key_size == target.key_size
        && template.value_size == target.value_size
        && template.map_flags == target.map_flags
        && template.max_entries == target.max_entries
        && template.value_type == target.value_type
        && template.btf.is_some() == target.btf.is_some()
}

/// The maps by name, and the special fields of their values.
struct Targets<'a> {
    maps: HashMap<&'a str, &'a Map>,
    special: SpecialFields<'a>,
}

/// Slots that kernels of this version refuse and newer ones take.
pub(crate) fn slots_on(plan: &Plan, kernel: KernelVersion) -> Vec<Diagnostic> {
    if kernel >= FREE_INNER_ENTRIES {
        return Vec::new();
    }
    let mut found = Vec::new();
    let maps = Targets::of(plan).maps;
    for map in &plan.maps {
        let Some(template) = &map.inner else { continue };
        for slot in &map.slots {
            let SlotTarget::Map(name) = &slot.target else {
                continue;
            };
            let Some(target) = maps.get(name.as_str()) else {
                continue;
            };
            if target.max_entries == template.max_entries {
                continue;
            }
            let message = format!(
                "'{name}' has {} entries, the template has {}",
                entries(target.max_entries),
                entries(template.max_entries)
            );
            found.push(
                about(codes::KERNEL_TOO_OLD, map, slot, &message)
                    .note(format!(
                        "Linux {kernel} takes only inner maps with as many entries as the template; \
                         since {FREE_INNER_ENTRIES} they may differ"
                    ))
                    .at(target.source.as_ref(), "the inner map"),
            );
        }
    }
    found
}

/// One diagnostic for all slots beyond the end: they have the same reason.
fn beyond(map: &Map) -> Option<Diagnostic> {
    let MaxEntries::Count(max) = map.max_entries else {
        return None;
    };
    // It has to be set before a load, and is looked at then.
    if max == 0 {
        return None;
    }
    if map.map_type.0 == uapi::BPF_MAP_TYPE_HASH_OF_MAPS {
        let count = map.slots.len();
        if u32::try_from(count).is_ok_and(|count| count <= max) {
            return None;
        }
        let message = format!("{count} slots are declared, max_entries is {max}");
        return Some(
            Diagnostic::error(codes::SLOT_BEYOND_END, message)
                .map(&map.name)
                .field("values")
                .at(map.source.as_ref(), "declared here")
                .help(format!("raise max_entries to {count} or more")),
        );
    }
    let last = map.slots.iter().map(|slot| slot.index).max()?;
    if last < max {
        return None;
    }
    let slot = map.slots.iter().find(|slot| slot.index >= max)?;
    let message = format!("beyond the end, max_entries is {max}");
    let needed = u64::from(last) + 1;
    let found = about(codes::SLOT_BEYOND_END, map, slot, &message);
    Some(found.help(format!("raise max_entries to {needed} or more")))
}

fn nested(map: &Map, slot: &Slot, target: &Map) -> Diagnostic {
    let what = if target.name == map.name {
        "the outer map itself"
    } else {
        "a map of maps"
    };
    about(
        codes::SLOT_TARGET_IS_OUTER,
        map,
        slot,
        &format!("'{}' is {what}", target.name),
    )
    .note("the kernel nests maps one level deep and answers EINVAL to more")
}

fn misfit(map: &Map, slot: &Slot, target: &Map, mismatch: &Mismatch) -> Diagnostic {
    let message = format!(
        "'{}' does not fit the template: {}",
        target.name, mismatch.what
    );
    let found = about(codes::SLOT_DOES_NOT_FIT, map, slot, &message)
        .at(target.source.as_ref(), "the inner map")
        .note("the kernel would refuse this slot with EINVAL and say no more");
    match mismatch.help {
        Some(help) => found.help(help),
        None => found,
    }
}

fn about(code: Code, map: &Map, slot: &Slot, message: &str) -> Diagnostic {
    Diagnostic::error(code, message)
        .map(&map.name)
        .field(format!("values[{}]", slot.index))
        .at(map.source.as_ref(), "the outer map")
}

/// Why a map does not fit a template.
struct Mismatch {
    what: String,
    help: Option<&'static str>,
}

impl Mismatch {
    fn new(what: String) -> Self {
        Self { what, help: None }
    }
}

impl<'a> Targets<'a> {
    fn of(plan: &'a Plan) -> Self {
        // Of two maps with one name the first counts, as in `Plan::map`.
        let maps = plan
            .maps
            .iter()
            .rev()
            .map(|map| (map.name.as_str(), map))
            .collect();
        Self {
            maps,
            special: SpecialFields::new(&plan.types),
        }
    }

    fn mismatch(&mut self, template: &Template, target: &Map) -> Option<Mismatch> {
        let differ = |what: &str, wanted: &dyn fmt::Display, found: &dyn fmt::Display| {
            Mismatch::new(format!("{what} is {found}, the template has {wanted}"))
        };
        if template.map_type != target.map_type {
            return Some(differ("type", &template.map_type, &target.map_type));
        }
        let sizes = [
            ("key_size", template.key_size, target.key_size),
            ("value_size", template.value_size, target.value_size),
        ];
        for (what, wanted, found) in sizes {
            if wanted != found {
                return Some(differ(what, &wanted, &found));
            }
        }
        let [wanted, found] = [template.map_flags, target.map_flags].map(kept_flags);
        if wanted != found {
            return Some(differ("map_flags", &flags(wanted), &flags(found)));
        }
        different_entries(template, target).or_else(|| self.different_fields(template, target))
    }

    fn different_fields(&mut self, template: &Template, target: &Map) -> Option<Mismatch> {
        let wanted = self.fields(template);
        let found = self.fields(target);
        if wanted == found {
            return None;
        }
        Some(Mismatch::new(format!(
            "special fields of its value: {}, the template's: {}",
            list(&found),
            list(&wanted)
        )))
    }

    /// The kernel knows special fields only of maps with BTF.
    fn fields<I>(&mut self, map: &Map<I>) -> Vec<Field> {
        let Some(value) = map.btf.and(map.value_type) else {
            return Vec::new();
        };
        let Record::Fields(mut fields) = self.special.record(value) else {
            return Vec::new();
        };
        fields.sort_by_key(|field| field.offset);
        fields
    }
}

fn list(fields: &[Field]) -> String {
    if fields.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = fields
        .iter()
        .map(|field| format!("{} at {}", field.kind.name(), field.offset))
        .collect();
    names.join(", ")
}

/// Flags by their names.
fn flags(flags: u32) -> String {
    match flags {
        0 => "0".to_owned(),
        flags => flag_names(flags).join("|"),
    }
}

/// `BPF_F_RDONLY` and `BPF_F_WRONLY` belong to the descriptor; the map does not keep them.
fn kept_flags(flags: u32) -> u32 {
    flags & !(uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY)
}

/// Whether inner maps may have another `max_entries` than their template (Linux 5.10).
pub(crate) fn entries_are_free(template: &Template) -> bool {
    rules(template.map_type).is_none_or(|row| match row.inner {
        Inner::SameEntries => false,
        Inner::SameEntriesUnlessFlag => template.map_flags & uapi::BPF_F_INNER_MAP != 0,
        Inner::Yes | Inner::No(_) => true,
    })
}

fn different_entries(template: &Template, target: &Map) -> Option<Mismatch> {
    let rule = rules(template.map_type)?.inner;
    if entries_are_free(template) || template.max_entries == target.max_entries {
        return None;
    }
    // What has to be set before a load is looked at then.
    if [template.max_entries, target.max_entries].contains(&MaxEntries::Count(0)) {
        return None;
    }
    let what = format!(
        "max_entries is {}, the template has {}",
        entries(target.max_entries),
        entries(template.max_entries)
    );
    let help = (rule == Inner::SameEntriesUnlessFlag)
        .then_some("add BPF_F_INNER_MAP to the template and to the inner maps (Linux 5.10)");
    Some(Mismatch { what, help })
}

fn entries(count: MaxEntries) -> String {
    match count {
        MaxEntries::Count(count) => count.to_string(),
        MaxEntries::PossibleCpus => "as many as possible CPUs".to_owned(),
    }
}
