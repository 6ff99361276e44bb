//! `--set` and `--skip`.

use bpfplan_plan::overrides::{Override, Overrides};
use clap::Args;

/// What is set or left out between compiling and loading.
#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    /// Set a field of a map or a variable of global data; may be repeated.
    ///
    /// TARGET is MAP.max_entries, .map_flags, .numa_node, .pinning or, for global data,
    /// .value_size; MAP.inner.max_entries, .map_flags or .numa_node of the inner template; or
    /// SECTION.VARIABLE, such as .rodata.port, which [INDEX] and .MEMBER may follow. The longest
    /// name of a map wins; SECTION:VARIABLE is always a variable, MAP/FIELD always a field.
    ///
    /// VALUE is a number (4096, 0x1000, -5, 64Ki, 10M), 'x', true or false, the name of an
    /// enumerator, flags such as BPF_F_NO_PREALLOC|BPF_F_NUMA_NODE, none or by_name, a list
    /// [1, 2, 3] whose missing elements are 0, or "text" for an array of char, which needs no
    /// quotes of its own unless it begins with a quote or a bracket.
    #[arg(long = "set", value_name = "TARGET=VALUE")]
    set: Vec<Override>,
    /// Do not create this map; may be repeated.
    #[arg(long, value_name = "MAP")]
    skip: Vec<String>,
}

impl OverrideArgs {
    /// As the library takes them.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            set: self.set.clone(),
            skip: self.skip.clone(),
        }
    }
}
