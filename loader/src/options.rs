//! What a caller decides about a load.

use std::fmt;
use std::path::PathBuf;

use bpfplan_plan::{MapType, uapi};

use crate::kconfig::KernelConfig;

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
    /// Where that is not allowed and [`LoadOptions::hold`] is not set, maps in slots are closed as
    /// soon as their outer maps hold them ([`crate::Loaded::closed`]), and opened once more to be
    /// pinned, which needs CAP_SYS_ADMIN.
    pub raise_nofile: bool,
    /// Options of the kernel's configuration that count before those of the running kernel, for
    /// the externs of `.kconfig` (`open_opts.kconfig` of libbpf).
    pub kconfig: Option<KernelConfig>,
    /// What becomes of the object's programs.
    pub programs: Programs,
}

/// What a load does about the programs of the plan's object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Programs {
    /// They are not loaded. A plan with slots or maps that need them is refused.
    #[default]
    Unneeded,
    /// They are left out knowingly: slots for programs stay empty, and maps that only come to be
    /// with programs are not made. The load says which.
    LeftOut,
    /// libbpf loads them over the maps of the plan. This needs the feature `programs`.
    Load(ProgramOptions),
}

/// Which programs to load, and what becomes of them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProgramOptions {
    /// The object that the plan was made from. If the plan has the object's SHA-256, it must be
    /// the one of these bytes.
    pub object: Vec<u8>,
    /// Pin every program under its name in this directory, as [`LoadOptions::pin_maps`] does with
    /// maps; it may be the same directory. Without it, [`LoadOptions::hold`] is needed.
    pub pin: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn to_load(&self) -> Option<&ProgramOptions> {
        match self {
            Self::Load(options) => Some(options),
            Self::Unneeded | Self::LeftOut => None,
        }
    }
}

impl fmt::Debug for ProgramOptions {
    /// Without the bytes of the object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramOptions")
            .field("object", &format_args!("{} bytes", self.object.len()))
            .field("pin", &self.pin)
            .finish()
    }
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
