//! What a caller decides about a load.

use std::path::PathBuf;

use bpfplan_plan::{MapType, uapi};

/// How to load. The default neither pins nor holds, so it loads nothing but maps that are pinned
/// by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Pin every map under its name in this directory of a BPF file system, which is made if it
    /// is missing, and leave the record that [`crate::unload()`] needs. Maps that are pinned by
    /// name go to their own place only.
    pub pin_maps: Option<PathBuf>,
    /// Where maps are pinned by name (`LIBBPF_PIN_BY_NAME`): a directory of a BPF file system,
    /// made if it is missing; `None` for [`crate::PIN_ROOT`], as in libbpf.
    pub pin_root: Option<PathBuf>,
    /// What happens to the slots of maps that are reused; `None` for libbpf's way, see
    /// [`LoadOptions::slot_policy`].
    pub slots: Option<SlotPolicy>,
    /// The caller keeps [`crate::Loaded`], so maps that are pinned nowhere live on.
    pub hold: bool,
    /// Raise `RLIMIT_NOFILE` of this process if the plan needs more descriptors than it allows.
    pub raise_nofile: bool,
}

/// What happens to declared slots of a map that is there already. Slots that are not declared
/// always stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotPolicy {
    /// They stay as they are.
    Keep,
    /// Those that are empty are filled.
    FillEmpty,
    /// All are filled as declared.
    Overwrite,
}

impl LoadOptions {
    /// The policy for the slots of a reused map of that type. Unless the caller has chosen one,
    /// it is libbpf's: maps of maps keep their slots, program arrays are written again.
    #[must_use]
    pub fn slot_policy(&self, map_type: MapType) -> SlotPolicy {
        self.slots.unwrap_or(match map_type.0 {
            uapi::BPF_MAP_TYPE_PROG_ARRAY => SlotPolicy::Overwrite,
            _ => SlotPolicy::Keep,
        })
    }
}
