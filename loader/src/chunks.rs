//! Loads of more maps than descriptors: in chunks.
//!
//! An outer map keeps the maps in its slots alive, so their descriptors may be closed once it holds
//! them. Where a load cannot have a descriptor for each map, it creates some of these maps, fills
//! their slots, closes them, and goes on with the next ones. Each chunk waits for a grace period, so
//! chunks are as large as they can be.
//!
//! What may be closed is decided from the plan alone: maps in static slots of outer maps that the
//! load creates for certain. Outer maps that are pinned by name may be reused with the slots that they
//! have, and other maps that are pinned by name may be reused themselves; so these stay open.

use std::collections::{BTreeSet, HashMap};

use bpfplan_plan::{Map, Pinning, Plan, SlotTarget};

/// So few maps at a time are not worth a grace period.
const FEW: usize = 64;

/// Maps that are created together, and closed when their slots are filled.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Their indices in the plan, ascending.
    pub(crate) maps: Vec<usize>,
    /// In the plan's order; the first chunk also has those for maps that stay open.
    pub(crate) slots: Vec<ChunkSlot>,
}

/// A slot and the map that goes there, by their indices in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkSlot {
    pub(crate) outer: usize,
    pub(crate) slot: u32,
    pub(crate) target: usize,
}

/// The chunks of a load that can have so many descriptors for maps at a time; `None` if these are
/// too few. All slots of [`is_filled_in_chunks`] maps are in them.
pub(crate) fn chunks(plan: &Plan, descriptors: usize) -> Option<Vec<Chunk>> {
    let maps = plan.maps.iter().enumerate();
    let by_name: HashMap<&str, usize> = maps
        .map(|(index, map)| (map.name.as_str(), index))
        .collect();
    let (mut slots, mut in_slots, mut stay) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (outer, map) in plan.maps.iter().enumerate() {
        for slot in &map.slots {
            let SlotTarget::Map(name) = &slot.target else {
                continue;
            };
            let target = *by_name.get(name.as_str())?;
            if is_filled_in_chunks(map) {
                in_slots.insert(target);
                slots.push(ChunkSlot {
                    outer,
                    slot: slot.index,
                    target,
                });
            } else {
                stay.insert(target);
            }
        }
    }
    let closable = in_slots.difference(&stay).copied();
    let closable: Vec<usize> = closable
        .filter(|map| plan.maps.get(*map).is_some_and(may_be_closed))
        .collect();
    let open = plan.maps.len().saturating_sub(closable.len());
    let size = descriptors.saturating_sub(open);
    if closable.is_empty() || size < FEW.min(closable.len()) {
        return None;
    }
    let mut chunks: Vec<Chunk> = closable
        .chunks(size)
        .map(|maps| Chunk {
            maps: maps.to_vec(),
            slots: Vec::new(),
        })
        .collect();
    for slot in slots {
        let place = closable.binary_search(&slot.target);
        let chunk = place.map_or(0, |place| place.checked_div(size).unwrap_or_default());
        if let Some(chunk) = chunks.get_mut(chunk) {
            chunk.slots.push(slot);
        }
    }
    Some(chunks)
}

/// Whether the slots of an outer map are filled in chunks: the load creates it for certain.
pub(crate) fn is_filled_in_chunks(outer: &Map) -> bool {
    outer.pinning == Pinning::None && outer.with_programs.is_none()
}

/// Whether nothing is to be done about a map between its slots and its pin.
fn may_be_closed(map: &Map) -> bool {
    map.pinning == Pinning::None
        && map.with_programs.is_none()
        && map.inner.is_none()
        && map.slots.is_empty()
        && map.data.is_none()
        && map.externs.is_empty()
}

#[cfg(test)]
mod tests {
    use bpfplan_plan::{Endianness, MapType, MaxEntries, Object, Slot, format, uapi};

    use super::*;

    fn map(name: &str, targets: &[&str]) -> Map {
        let slots = targets.iter().zip(0..).map(|(target, index)| Slot {
            index,
            target: SlotTarget::Map((*target).to_owned()),
        });
        Map {
            slots: slots.collect(),
            ..Map::new(
                name,
                MapType(uapi::BPF_MAP_TYPE_ARRAY),
                4,
                4,
                MaxEntries::Count(1),
            )
        }
    }

    fn plan(maps: Vec<Map>) -> Plan {
        Plan {
            version: format::VERSION,
            object: Object {
                name: "sample.bpf.o".to_owned(),
                sha256: None,
                endianness: Endianness::NATIVE,
                legacy_maps: false,
            },
            maps,
            programs: Vec::new(),
            jump_tables: 0,
            kernel_types: 0,
            types: Vec::new(),
            btf: bpfplan_plan::Bytes::new(),
            contents: Vec::new(),
        }
    }

    /// So many inner maps, after a map of another kind.
    fn inner(count: usize) -> (Vec<Map>, Vec<String>) {
        let names: Vec<String> = (0..count).map(|index| format!("in_{index}")).collect();
        let maps = names.iter().map(|name| map(name, &[]));
        (
            std::iter::once(map("other", &[])).chain(maps).collect(),
            names,
        )
    }

    /// For each chunk, how many maps and which outer maps with how many slots.
    fn shape(chunks: &[Chunk]) -> Vec<(usize, Vec<(usize, usize)>)> {
        let of = |chunk: &Chunk| {
            let outers = chunk.slots.chunk_by(|one, other| one.outer == other.outer);
            let outers = outers.map(|slots| (slots[0].outer, slots.len()));
            (chunk.maps.len(), outers.collect())
        };
        chunks.iter().map(of).collect()
    }

    #[test]
    fn chunks_are_as_large_as_descriptors_allow() {
        let (mut maps, names) = inner(250);
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        maps.push(map("outer", &all));
        // The outer map and the other one are open all the time.
        let chunks = chunks(&plan(maps), 102).unwrap();
        assert_eq!(
            shape(&chunks),
            [
                (100, vec![(251, 100)]),
                (100, vec![(251, 100)]),
                (50, vec![(251, 50)])
            ]
        );
        assert_eq!(chunks[1].maps, (101..=200).collect::<Vec<_>>());
        let slot = ChunkSlot {
            outer: 251,
            slot: 100,
            target: 101,
        };
        assert_eq!(chunks[1].slots[0], slot);
    }

    #[test]
    fn a_map_is_closed_when_all_its_slots_are_filled() {
        let (mut maps, names) = inner(128);
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        maps.push(map("one", &all));
        maps.push(map("two", &["in_0", "other", "in_127", "in_1"]));
        maps[0].pinning = Pinning::ByName;
        let chunks = chunks(&plan(maps), 67).unwrap();
        assert_eq!(
            shape(&chunks),
            [
                (64, vec![(129, 64), (130, 3)]),
                (64, vec![(129, 64), (130, 1)])
            ]
        );
    }

    #[test]
    fn maps_that_others_need_stay_open() {
        let (mut maps, names) = inner(100);
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        maps.push(map("outer", &all));
        // Its slots may be those of an earlier load.
        maps.push(Map {
            pinning: Pinning::ByName,
            ..map("named", &["in_7"])
        });
        maps[9].pinning = Pinning::ByName;
        let chunks = chunks(&plan(maps), 85).unwrap();
        assert_eq!(
            shape(&chunks),
            [(80, vec![(101, 82)]), (18, vec![(101, 18)])]
        );
        let closed = |map: &usize| chunks.iter().any(|chunk| chunk.maps.contains(map));
        assert!(closed(&7) && !closed(&8) && !closed(&9) && closed(&10));
    }

    #[test]
    fn too_few_descriptors_are_none() {
        let (mut maps, names) = inner(100);
        assert_eq!(chunks(&plan(maps.clone()), 100), None, "nothing holds them");
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        maps.push(map("outer", &all));
        assert_eq!(chunks(&plan(maps.clone()), 65), None);
        assert!(chunks(&plan(maps), 66).is_some());
    }
}
