//! Maps of global data and their initial contents.

use foldhash::HashMap;

use super::{Problems, header, shown};
use crate::codes;
use crate::contents::{MAX_TOTAL, stored};
use crate::model::{Contents, Data, Map, MaxEntries, Plan};
use crate::uapi;

/// Page size for which the plan's numbers are.
const PAGE_SIZE: u64 = 4096;

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let mut places = HashMap::default();
    let mut total = 0_u64;
    for (index, map) in plan.maps.iter().enumerate() {
        let Some(data) = &map.data else { continue };
        places.insert(map.name.as_str(), index);
        total = total.saturating_add(data.size.into());
        shape(map, data, problems);
    }
    if total > MAX_TOTAL {
        let message = format!("the initial contents have {total} bytes, more than {MAX_TOTAL}");
        problems.plan(codes::PLAN_CONTENTS, message);
        return;
    }
    let mut next = 0;
    for contents in &plan.contents {
        match places.get(contents.map.as_str()) {
            Some(index) if *index >= next => next = index + 1,
            place => {
                let what = if place.is_some() {
                    "stand twice, or not in the order of the maps"
                } else {
                    "belong to no map of global data"
                };
                let message = format!("the contents of {:?} {what}", shown(&contents.map));
                problems.plan(codes::PLAN_CONTENTS, message);
            }
        }
    }
    let contents = plan.contents.iter();
    let contents: HashMap<&str, &Contents> = contents.map(|it| (it.map.as_str(), it)).collect();
    for map in &plan.maps {
        if let Some(data) = &map.data {
            bytes(
                map,
                data,
                contents.get(map.name.as_str()).copied(),
                problems,
            );
        }
    }
}

/// The map is one that libbpf makes of a section of data.
fn shape(map: &Map, data: &Data, problems: &mut Problems) {
    let mut wrong = |field: &str, message: &str| {
        problems.map(map, codes::PLAN_CONTENTS, field, message);
    };
    if map.is_arena() {
        let pages = u64::from(data.size).div_ceil(PAGE_SIZE);
        let room = matches!(map.max_entries, MaxEntries::Count(count) if pages <= count.into());
        if data.size == 0 || !room {
            wrong(
                "data",
                "the variables do not fit into the pages of the arena",
            );
        }
        if data.frozen {
            wrong("data", "an arena is not frozen");
        }
        return;
    }
    if map.map_type.0 != uapi::BPF_MAP_TYPE_ARRAY {
        wrong("type", "a map with initial contents is an array");
    }
    if map.key_size != 4 {
        wrong(
            "key_size",
            "a map with initial contents has keys of 4 bytes",
        );
    }
    if map.max_entries != MaxEntries::Count(1) {
        wrong("max_entries", "a map with initial contents has one entry");
    }
    if data.size == 0 || data.size != map.value_size {
        wrong(
            "data",
            "the initial contents have another size than the value",
        );
    }
    let read_only = map.map_flags & uapi::BPF_F_RDONLY_PROG != 0;
    if data.frozen != read_only {
        wrong(
            "data",
            "what is frozen has the flag BPF_F_RDONLY_PROG, and nothing else has it",
        );
    }
    // The last one comes only from an override.
    let flags = uapi::BPF_F_RDONLY_PROG | uapi::BPF_F_MMAPABLE | uapi::BPF_F_NUMA_NODE;
    if map.map_flags & !flags != 0 {
        wrong(
            "map_flags",
            "a map with initial contents has no flags but BPF_F_RDONLY_PROG, BPF_F_MMAPABLE and \
             BPF_F_NUMA_NODE",
        );
    }
    if map.inner.is_some() || !map.slots.is_empty() || map.key_type.is_some() {
        wrong(
            "data",
            "a map with initial contents has no template, no slots and no key type",
        );
    }
}

fn bytes(map: &Map, data: &Data, contents: Option<&Contents>, problems: &mut Problems) {
    let mut wrong = |message: &str| problems.map(map, codes::PLAN_CONTENTS, "data", message);
    let bytes = contents.map_or(&[][..], |contents| &contents.bytes);
    if contents.is_some() && (bytes.is_empty() || stored(bytes).len() != bytes.len()) {
        wrong("its initial contents end in zeros, which a plan leaves out");
    }
    if u32::try_from(bytes.len()).map_or(true, |length| length > data.size) {
        wrong("its initial contents are longer than their size");
        return;
    }
    let Some(hash) = &data.sha256 else { return };
    if !header::is_sha256(hash) {
        wrong("sha256 is not 64 lower-case hex digits");
    } else if *data != Data::new(bytes, data.size, data.frozen) {
        wrong("its initial contents are not those that sha256 is of");
    }
}
