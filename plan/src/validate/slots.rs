//! The static slots of one map.

use super::{Problems, shown};
use crate::codes;
use crate::model::{Map, SlotTarget};
use crate::uapi;

pub(super) fn check(map: &Map, problems: &mut Problems) {
    let programs = map.map_type.0 == uapi::BPF_MAP_TYPE_PROG_ARRAY;
    if !map.slots.is_empty()
        && map.map_type.0 == uapi::BPF_MAP_TYPE_HASH_OF_MAPS
        && map.key_size != 4
    {
        let message = format!("slots have 4-byte keys, key_size is {}", map.key_size);
        problems.map(map, codes::PLAN_SLOTS, "key_size", message);
    }
    let mut last = None;
    for slot in &map.slots {
        let field = || format!("values[{}]", slot.index);
        if last.is_some_and(|last| slot.index <= last) {
            let message = format!("slot {} is not in ascending order", slot.index);
            problems.map(map, codes::PLAN_SLOTS, &field(), message);
        }
        last = Some(slot.index);
        let (name, fits) = match &slot.target {
            SlotTarget::Map(name) => (name, map.is_outer()),
            SlotTarget::Program(name) => (name, programs),
        };
        if !fits {
            let message = format!("slots of a map of type {} cannot hold this", map.map_type);
            problems.map(map, codes::PLAN_SLOTS, &field(), message);
        }
        if name.is_empty() || name.contains('\0') {
            let message = format!("slot {} names {:?}", slot.index, shown(name));
            problems.map(map, codes::PLAN_SLOTS, &field(), message);
        }
    }
}
