//! The numbers of a map, and what the kernel makes of them.

use super::{Attributes, Difference};
use crate::model::{Map, MapType, MaxEntries};
use crate::rules::flags::flag_names;
use crate::rules::{Target, ring_buffer_size};
use crate::uapi;

pub(super) fn compare<I>(map: &Map<I>, pinned: &Attributes, target: &Target) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |path: &str, same: bool, declared: String, pinned: String| {
        if !same {
            found.push(Difference::error(path, declared, pinned));
        }
    };
    differ(
        "type",
        map.map_type == pinned.map_type,
        map.map_type.to_string(),
        pinned.map_type.to_string(),
    );
    for (path, declared, pinned) in [
        ("key_size", map.key_size, pinned.key_size),
        ("value_size", map.value_size, pinned.value_size),
    ] {
        differ(
            path,
            declared == pinned,
            declared.to_string(),
            pinned.to_string(),
        );
    }
    let (declared, kept) = entries(map, target);
    differ(
        "max_entries",
        kept == pinned.max_entries,
        declared,
        pinned.max_entries.to_string(),
    );
    let declared = kept_flags(map.map_flags);
    let pinned_flags = kept_flags(pinned.map_flags) & !added_flags(pinned.map_type);
    differ(
        "map_flags",
        declared == pinned_flags,
        flags(declared),
        flags(pinned_flags),
    );
    differ(
        "map_extra",
        map.map_extra == pinned.map_extra,
        format!("{:#x}", map.map_extra),
        format!("{:#x}", pinned.map_extra),
    );
    found
}

/// What is declared, in words, and what the kernel makes of it on that machine.
pub(super) fn entries<I>(map: &Map<I>, target: &Target) -> (String, u32) {
    let (text, wanted) = match map.max_entries {
        MaxEntries::PossibleCpus => {
            let cpus = target.possible_cpus;
            return (format!("{cpus} (the number of possible CPUs)"), cpus);
        }
        MaxEntries::Count(count) => (count.to_string(), count),
    };
    let kept = if map.map_type.is_ring_buffer() {
        ring_buffer_size(wanted, target.page_size)
    } else if is_per_cpu_lru(map) {
        per_cpu_lru(wanted, target.possible_cpus)
    } else {
        wanted
    };
    if kept == wanted {
        (text, kept)
    } else {
        (format!("{text} ({kept} on this machine)"), kept)
    }
}

fn is_per_cpu_lru<I>(map: &Map<I>) -> bool {
    map.map_flags & uapi::BPF_F_NO_COMMON_LRU != 0
        && matches!(
            map.map_type.0,
            uapi::BPF_MAP_TYPE_LRU_HASH | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
        )
}

/// `htab_map_alloc`: every CPU gets the same number of entries, rounded up, or down at the end of
/// the numbers.
fn per_cpu_lru(entries: u32, cpus: u32) -> u32 {
    if cpus == 0 {
        return entries;
    }
    entries
        .checked_next_multiple_of(cpus)
        .unwrap_or(entries - entries % cpus)
}

/// `BPF_F_RDONLY` and `BPF_F_WRONLY` belong to the descriptor, `BPF_F_TOKEN_FD` to the call
/// (`bpf_map_flags_retain_permanent`).
pub(super) fn kept_flags(flags: u32) -> u32 {
    flags & !(uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY | uapi::BPF_F_TOKEN_FD)
}

/// What the kernel adds to the flags: `dev_map_init_map` makes device maps read-only for programs.
pub(super) fn added_flags(map_type: MapType) -> u32 {
    match map_type.0 {
        uapi::BPF_MAP_TYPE_DEVMAP | uapi::BPF_MAP_TYPE_DEVMAP_HASH => uapi::BPF_F_RDONLY_PROG,
        _ => 0,
    }
}

pub(super) fn flags(flags: u32) -> String {
    match flags {
        0 => "0".to_owned(),
        flags => flag_names(flags).join("|"),
    }
}

#[cfg(test)]
mod tests {
    use super::per_cpu_lru;

    #[test]
    fn entries_are_rounded_as_the_kernel_does() {
        assert_eq!(per_cpu_lru(3, 2), 4);
        assert_eq!(per_cpu_lru(4, 2), 4);
        assert_eq!(per_cpu_lru(u32::MAX, 2), u32::MAX - 1);
        assert_eq!(per_cpu_lru(7, 0), 7);
    }
}
