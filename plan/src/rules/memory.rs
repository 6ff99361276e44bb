//! How much kernel memory a map takes when it is full.

use super::table::{Cost, rules};
use crate::model::{Map, MaxEntries};
use crate::uapi;

/// What the memory of a map depends on besides the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Page size in bytes.
    pub page_size: u32,
    /// Number of possible CPUs.
    pub possible_cpus: u32,
}

/// Bytes of a map's own structure, about.
const MAP: u64 = 320;
/// Bytes of `struct htab_elem` before the key.
const HASH_HEADER: u64 = 48;
/// Bytes of a hash bucket.
const BUCKET: u64 = 16;
/// Bytes of a pointer.
const POINTER: u64 = 8;

/// Rough memory of the map in bytes, when it is full: the kernel's own estimate (`memlock` in
/// fdinfo), plus what an arena or a map without preallocation grows to.
///
/// Local storage lives with its owners and counts per owner, so it is not in the sum. 0 for types
/// that are not known here.
#[must_use]
pub fn memory<I>(map: &Map<I>, target: &Target) -> u64 {
    let Some(row) = rules(map.map_type) else {
        return 0;
    };
    let cpus = u64::from(target.possible_cpus.max(1));
    let page = u64::from(target.page_size.max(1));
    let entries = match map.max_entries {
        MaxEntries::Count(count) => u64::from(count),
        MaxEntries::PossibleCpus => cpus,
    };
    let key = round_up(map.key_size.into(), 8);
    let value = round_up(map.value_size.into(), 8);
    let buckets = entries
        .checked_next_power_of_two()
        .unwrap_or(entries)
        .saturating_mul(BUCKET);
    let body = match row.cost {
        Cost::Array if map.map_flags & uapi::BPF_F_MMAPABLE != 0 => {
            round_up(entries.saturating_mul(value), page)
        }
        Cost::Array | Cost::Queue => entries.saturating_mul(value),
        Cost::PercpuArray => {
            let per_entry = value.saturating_mul(cpus).saturating_add(POINTER);
            entries.saturating_mul(per_entry)
        }
        Cost::Pointers => entries.saturating_mul(POINTER),
        Cost::Hash => hash(map, entries, HASH_HEADER + key + value, cpus).saturating_add(buckets),
        Cost::PercpuHash => {
            let element = (HASH_HEADER + key + POINTER).saturating_add(value.saturating_mul(cpus));
            hash(map, entries, element, cpus).saturating_add(buckets)
        }
        Cost::HashOfPointers => entries
            .saturating_mul(HASH_HEADER + key + POINTER)
            .saturating_add(buckets),
        // A full trie has almost as many inner nodes as leaves; those carry no value.
        Cost::Trie => {
            let node = 40 + u64::from(map.key_size.saturating_sub(4));
            entries.saturating_mul(2 * node + u64::from(map.value_size))
        }
        Cost::Stack => {
            let buckets = entries.checked_next_power_of_two().unwrap_or(entries);
            let element = 24 + value;
            buckets
                .saturating_mul(POINTER)
                .saturating_add(entries.saturating_mul(element))
        }
        // bits = entries * hash functions / ln 2, up to a power of two (bloom_map_alloc).
        Cost::Bloom => {
            let functions = match map.map_extra & 0xf {
                0 => 5,
                functions => functions,
            };
            let bits = entries.saturating_mul(functions).saturating_mul(7) / 5;
            bits.max(64)
                .checked_next_power_of_two()
                .unwrap_or(bits)
                .min(1 << 32)
                / 8
        }
        // Data pages, two of positions, one for the kernel; each page has a pointer.
        Cost::Ring => {
            let pages = (entries / page).saturating_mul(2).saturating_add(3);
            entries
                .saturating_add(3 * page)
                .saturating_add(pages.saturating_mul(POINTER))
        }
        Cost::Arena => entries.saturating_mul(page),
        Cost::Local => 0,
    };
    body.saturating_add(MAP)
}

/// Elements of a hash map; a preallocated one has a spare per CPU.
fn hash<I>(map: &Map<I>, entries: u64, element: u64, cpus: u64) -> u64 {
    let lru = matches!(
        map.map_type.0,
        uapi::BPF_MAP_TYPE_LRU_HASH | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
    );
    let prealloc = map.map_flags & uapi::BPF_F_NO_PREALLOC == 0;
    let spare = if prealloc && !lru { cpus } else { 0 };
    entries.saturating_add(spare).saturating_mul(element)
}

fn round_up(size: u64, to: u64) -> u64 {
    size.checked_next_multiple_of(to).unwrap_or(size)
}
