//! What a caller decides about a load.

use std::path::PathBuf;

use crate::kconfig::KernelConfig;

/// How to load. The default neither pins nor holds, so it loads nothing but an empty plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Pin every map under its name in this directory of a BPF file system, which is made if it
    /// is missing, and leave the record that [`crate::unload()`] needs.
    pub pin_maps: Option<PathBuf>,
    /// The caller keeps [`crate::Loaded`], so maps that are pinned nowhere live on.
    pub hold: bool,
    /// Raise `RLIMIT_NOFILE` of this process if the plan needs more descriptors than it allows.
    pub raise_nofile: bool,
    /// Options of the kernel's configuration that count before those of the running kernel, for
    /// the externs of `.kconfig` (`open_opts.kconfig` of libbpf).
    pub kconfig: Option<KernelConfig>,
}
