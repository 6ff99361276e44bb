//! `--set` and `--skip`.

use bpfplan_plan::overrides::{Override, Overrides};
use clap::Args;

const SET_HELP: &str = "\
Set a field of a map or a variable of global data; may be repeated.

TARGET is one of
  MAP.FIELD: max_entries, map_flags, numa_node, pinning
  MAP.value_size, of a map of global data
  MAP.inner.FIELD: max_entries, map_flags, numa_node
  SECTION.VARIABLE: .rodata.port, .rodata.ports[1], .data.a.b

The longest name of a map wins. SECTION:VARIABLE is always a variable, MAP/FIELD a field.

VALUE is, as the target wants it,
  a number: 4096, 0x1000, -5, 64Ki, 10M, 'x', 0.75
  a name: true, false, an enumerator, none, by_name
  flags: BPF_F_NO_PREALLOC|BPF_F_NUMA_NODE
  a list: [1, 2, 3]; elements that are left out are 0
  text for an array of char: eth0, or \"eth 0\" with C's escapes

Nothing may be set twice. What a declaration may not say is refused here as well.";

/// What is set or left out between compiling and loading.
#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    /// Set a field of a map or a variable of global data; may be repeated.
    #[arg(long = "set", value_name = "TARGET=VALUE", long_help = SET_HELP)]
    set: Vec<Override>,
    /// Do not create this map; may be repeated.
    ///
    /// A map that a slot of another one holds can only be left out together with that one.
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
