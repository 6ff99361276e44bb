//! What the kernel says about a map.

use std::fmt;

use bpfplan_plan::rules::flags::flag_names;
use bpfplan_plan::{MapType, uapi};

/// A map as `BPF_OBJ_GET_INFO_BY_FD` describes it (`struct bpf_map_info`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The kernel's id, which is the map's identity.
    pub id: u32,
    /// The first 15 bytes of its name; empty before Linux 4.15.
    pub name: String,
    /// Kind of map.
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes; of one CPU's, where there is one for each.
    pub value_size: u32,
    /// Number of entries; bytes for ring buffers, pages for arenas.
    pub max_entries: u32,
    /// `BPF_F_*` flags that the kernel keeps, and those that it adds.
    pub map_flags: u32,
    /// Meaning depends on the type; 0 before Linux 5.16.
    pub map_extra: u64,
    /// The kernel's id of the map's BTF, 0 for none.
    pub btf_id: u32,
    /// Id of the key's type in it, 0 for none.
    pub btf_key_type_id: u32,
    /// Id of the value's type in it, 0 for none.
    pub btf_value_type_id: u32,
}

impl Info {
    /// Whether there is a value for each possible CPU.
    #[must_use]
    pub fn is_per_cpu(&self) -> bool {
        matches!(
            self.map_type.0,
            uapi::BPF_MAP_TYPE_PERCPU_ARRAY
                | uapi::BPF_MAP_TYPE_PERCPU_HASH
                | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
                | uapi::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE
        )
    }

    /// Bytes from one CPU's value to the next: the kernel rounds their size up to 8.
    pub(crate) fn value_stride(&self) -> usize {
        let size = usize::try_from(self.value_size).unwrap_or(usize::MAX);
        size.checked_next_multiple_of(8).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Info {
    /// `hash, key 4B, value 16B, max_entries 1024`, and the flags, if it has some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, key {}B, value {}B, max_entries {}",
            self.map_type, self.key_size, self.value_size, self.max_entries
        )?;
        if self.map_flags != 0 {
            write!(f, ", flags {}", flag_names(self.map_flags).join("|"))?;
        }
        Ok(())
    }
}
