//! Valid attributes of every map type, to start from.

use bpfplan_plan::uapi::*;
use bpfplan_plan::{Map, MapType, MaxEntries};

/// Type, key_size, value_size, max_entries, map_flags that the kernel takes.
pub const VALID: &[(u32, u32, u32, u32, u32)] = &[
    (BPF_MAP_TYPE_HASH, 4, 8, 4, 0),
    (BPF_MAP_TYPE_ARRAY, 4, 8, 4, 0),
    (BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4, 0),
    (BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4, 0),
    (BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 4, 0),
    (BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 4, 0),
    (BPF_MAP_TYPE_STACK_TRACE, 4, 64, 4, 0),
    (BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 4, 0),
    (BPF_MAP_TYPE_LRU_HASH, 4, 8, 4, 0),
    (BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 8, 4, 0),
    (BPF_MAP_TYPE_LPM_TRIE, 8, 8, 4, BPF_F_NO_PREALLOC),
    (BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4, 0),
    (BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 4, 0),
    (BPF_MAP_TYPE_DEVMAP, 4, 4, 4, 0),
    (BPF_MAP_TYPE_SOCKMAP, 4, 4, 4, 0),
    (BPF_MAP_TYPE_CPUMAP, 4, 4, 4, 0),
    (BPF_MAP_TYPE_XSKMAP, 4, 4, 4, 0),
    (BPF_MAP_TYPE_SOCKHASH, 4, 4, 4, 0),
    (BPF_MAP_TYPE_CGROUP_STORAGE, 8, 8, 0, 0),
    (BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4, 0),
    (BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 8, 8, 0, 0),
    (BPF_MAP_TYPE_QUEUE, 0, 8, 4, 0),
    (BPF_MAP_TYPE_STACK, 0, 8, 4, 0),
    (BPF_MAP_TYPE_SK_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC),
    (BPF_MAP_TYPE_DEVMAP_HASH, 4, 4, 4, 0),
    (BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, 0),
    (BPF_MAP_TYPE_INODE_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC),
    (BPF_MAP_TYPE_TASK_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC),
    (BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 4, 0),
    (BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096, 0),
    (BPF_MAP_TYPE_CGRP_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC),
    (BPF_MAP_TYPE_ARENA, 0, 0, 4, BPF_F_MMAPABLE),
    (BPF_MAP_TYPE_INSN_ARRAY, 4, 16, 4, 0),
];

/// A map with these attributes.
pub fn map<I>(&(map_type, key, value, entries, flags): &(u32, u32, u32, u32, u32)) -> Map<I> {
    Map {
        map_flags: flags,
        ..Map::new(
            "rules",
            MapType(map_type),
            key,
            value,
            MaxEntries::Count(entries),
        )
    }
}

/// Storage types cannot be created without BTF.
pub fn needs_btf(map_type: MapType) -> bool {
    matches!(
        map_type.0,
        BPF_MAP_TYPE_SK_STORAGE
            | BPF_MAP_TYPE_INODE_STORAGE
            | BPF_MAP_TYPE_TASK_STORAGE
            | BPF_MAP_TYPE_CGRP_STORAGE
    )
}
