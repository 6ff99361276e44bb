//! One map and its template.

use super::Problems;
use crate::codes;
use crate::model::{Map, MaxEntries, Pinning, Plan};
use crate::rules;
use crate::types::TypeId;
use crate::uapi;

/// Bytes of the longest name: as long as the kernel's BTF has them, and `.inner` of a template.
const LONGEST_NAME: usize = 511 + ".inner".len();

pub(super) fn check(plan: &Plan, map: &Map, problems: &mut Problems) {
    any(plan, map, problems);
    let Some(template) = &map.inner else { return };
    if !map.is_outer() {
        let message = format!("a map of type {} has no inner template", map.map_type);
        problems.map(map, codes::PLAN_MAP, "inner", message);
    }
    any(plan, template, problems);
    if template.data.is_some() || !template.externs.is_empty() {
        let message = "a template has no initial contents";
        problems.map(template, codes::PLAN_MAP, "data", message);
    }
    if template.with_programs.is_some() {
        let message = "a template comes with its outer map";
        problems.map(template, codes::PLAN_MAP, "with_programs", message);
    }
    if !template.slots.is_empty() {
        problems.map(
            template,
            codes::PLAN_MAP,
            "slots",
            "a template has no slots",
        );
    }
    if template.pinning != Pinning::None {
        problems.map(
            template,
            codes::PLAN_MAP,
            "pinning",
            "a template cannot be pinned",
        );
    }
}

/// What maps and templates have in common.
fn any<I>(plan: &Plan, map: &Map<I>, problems: &mut Problems) {
    if map.name.is_empty() {
        problems.map(map, codes::PLAN_NAME, "name", "the name is empty");
    }
    if map.name.len() > LONGEST_NAME {
        let message = format!("the name has more than {LONGEST_NAME} bytes");
        problems.map(map, codes::PLAN_NAME, "name", message);
    }
    if map.name.contains('\0') {
        problems.map(map, codes::PLAN_NAME, "name", "the name has a NUL byte");
    }
    if map.max_entries == MaxEntries::PossibleCpus
        && map.map_type.0 != uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY
    {
        let message = format!(
            "only a perf_event_array has as many entries as CPUs, not {}",
            map.map_type
        );
        problems.map(map, codes::PLAN_MAP, "max_entries", message);
    }
    for (field, id) in [("key_type", map.key_type), ("value_type", map.value_type)] {
        let Some(id) = id else { continue };
        if plan.type_by_id(id).is_none() {
            let message = format!("type [{}] is not in the plan", id.0);
            problems.map(map, codes::PLAN_TYPES, field, message);
        }
    }
    btf(plan, map, problems);
}

/// The kernel gets the ids of the types that the plan shows, and no others.
fn btf<I>(plan: &Plan, map: &Map<I>, problems: &mut Problems) {
    let Some(ids) = map.btf else { return };
    if !rules::wants_btf(map.map_type) {
        let message = format!("maps of type {} are created without BTF", map.map_type);
        problems.map(map, codes::PLAN_BTF, "btf", message);
    }
    let pairs = [
        ("key_type_id", ids.key_type_id, map.key_type),
        ("value_type_id", ids.value_type_id, map.value_type),
    ];
    for (field, id, declared) in pairs {
        if id != declared.unwrap_or(TypeId::VOID).0 {
            let message = format!("{field} is {id}, which is not the type that the map declares");
            problems.map(map, codes::PLAN_BTF, field, message);
        }
        if id > plan.kernel_types {
            let message = format!(
                "{field} is {id}, the kernel gets the types up to {}",
                plan.kernel_types
            );
            problems.map(map, codes::PLAN_BTF, field, message);
        }
    }
    if ids.value_type_id == 0 {
        problems.map(map, codes::PLAN_BTF, "value_type_id", "value_type_id is 0");
    }
}
