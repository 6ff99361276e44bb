//! The JSON documents that are not the plan itself.

use bpfplan_loader::{ExternValue, Origin, ResolvedExtern};
use bpfplan_plan::Diagnostic;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;

/// What `load --format json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LoadDocument {
    /// The maps in libbpf's order.
    pub(crate) maps: Vec<LoadedMap>,
    /// The programs in libbpf's order; none without `--pin-progs`.
    pub(crate) programs: Vec<LoadedProgram>,
    /// What should be known although the load is done.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// What `load --dry-run --format json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DryRunDocument {
    /// The calls in order, one line each.
    pub(crate) calls: Vec<String>,
    /// What should be known before loading.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// What `load` prints as JSON when it succeeds.
#[derive(JsonSchema)]
#[schemars(untagged, title = "bpfplan load")]
#[allow(dead_code, reason = "only its schema is of use")]
enum LoadOutput {
    /// Of a load.
    Load(LoadDocument),
    /// Of a dry run.
    DryRun(DryRunDocument),
}

/// A map that a load made.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LoadedMap {
    /// Name of the map variable in full.
    pub(crate) name: String,
    /// The kernel's id of the map.
    pub(crate) id: u32,
    /// Path of its pin.
    pub(crate) pinned: Option<String>,
    /// Whether a map that was there before is used.
    pub(crate) reused: bool,
    /// Number of slots that were filled.
    pub(crate) filled: u32,
    /// Number of entries on this machine: possible CPUs and page size are known now.
    pub(crate) max_entries: u32,
    /// What the kernel configuration values of a `.kconfig` map became; empty for all other maps.
    pub(crate) externs: Vec<LoadedExtern>,
}

/// A kernel configuration value on this machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LoadedExtern {
    /// Name, such as `CONFIG_HZ`.
    pub(crate) name: String,
    /// What it is.
    pub(crate) value: LoadedValue,
    /// File and line that set it; null if the kernel was asked, or if nothing sets it.
    pub(crate) from: Option<String>,
}

/// The value of an extern: true or false, a number, or text (`y`, `n` and `m` of a tristate, a
/// string).
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum LoadedValue {
    /// Of a `bool`.
    Bool(bool),
    /// Of a signed integer.
    Signed(i64),
    /// Of an unsigned integer.
    Unsigned(u64),
    /// Of all others; what is not UTF-8 is replaced.
    Text(String),
}

impl LoadedExtern {
    /// The document of a value.
    pub(crate) fn new(value: &ResolvedExtern) -> Self {
        Self {
            name: value.name.clone(),
            value: match &value.value {
                ExternValue::Bool(value) => LoadedValue::Bool(*value),
                ExternValue::Signed(value) => LoadedValue::Signed(*value),
                ExternValue::Unsigned(value) => LoadedValue::Unsigned(*value),
                ExternValue::Letter(letter) => LoadedValue::Text(letter.to_string()),
                ExternValue::Text(text) => {
                    LoadedValue::Text(String::from_utf8_lossy(text).into_owned())
                }
            },
            from: match &value.origin {
                Origin::Line { file, line } => Some(format!("{file}:{line}")),
                Origin::Kernel | Origin::Unset => None,
            },
        }
    }
}

/// A program that a load made.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LoadedProgram {
    /// Name of the function.
    pub(crate) name: String,
    /// The kernel's id of the program.
    pub(crate) id: u32,
    /// Path of its pin.
    pub(crate) pinned: Option<String>,
}

/// What `slot list --format json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "bpfplan slot list")]
pub(crate) struct SlotsDocument {
    /// The kernel's id of the outer map.
    pub(crate) id: u32,
    /// Name of the map variable in full if a record tells it, else the kernel's 15 bytes of it.
    pub(crate) name: String,
    /// `array_of_maps` or `hash_of_maps`.
    #[serde(rename = "type")]
    pub(crate) map_type: String,
    /// Size of a key in bytes.
    pub(crate) key_size: u32,
    /// Number of slots.
    pub(crate) max_entries: u32,
    /// What inner maps look like, if the record of the load tells.
    pub(crate) template: Option<ListedTemplate>,
    /// The slots that hold maps, by key.
    pub(crate) slots: Vec<ListedSlot>,
}

/// An inner template.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedTemplate {
    /// Kind of map.
    #[serde(rename = "type")]
    pub(crate) map_type: String,
    /// Size of a key in bytes.
    pub(crate) key_size: u32,
    /// Size of a value in bytes.
    pub(crate) value_size: u32,
    /// Number of entries, null for the number of possible CPUs.
    pub(crate) max_entries: Option<u32>,
    /// `BPF_F_*` flags.
    pub(crate) map_flags: u32,
}

/// A slot that holds a map.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedSlot {
    /// The key as a number, null unless keys have 4 bytes.
    pub(crate) index: Option<u32>,
    /// The bytes of the key in hex.
    pub(crate) key: String,
    /// The key as `slot set` and `slot clear` take it.
    pub(crate) text: String,
    /// The kernel's id of the map.
    pub(crate) id: u32,
    /// The map, null if it may not be opened by its id.
    pub(crate) map: Option<InnerMap>,
}

/// A map in a slot.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InnerMap {
    /// Name of the map variable in full if a record tells it, else the kernel's 15 bytes of it.
    pub(crate) name: String,
    /// Kind of map.
    #[serde(rename = "type")]
    pub(crate) map_type: String,
    /// Size of a key in bytes.
    pub(crate) key_size: u32,
    /// Size of a value in bytes.
    pub(crate) value_size: u32,
    /// Number of entries.
    pub(crate) max_entries: u32,
    /// `BPF_F_*` flags as the kernel shows them.
    pub(crate) map_flags: u32,
}

/// What is printed where diagnostics are the result.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "bpfplan diagnostics")]
pub(crate) struct DiagnosticsDocument<'a> {
    /// All of them, in the order in which they were found.
    pub(crate) diagnostics: &'a [Diagnostic],
}

/// The schema of what `load` prints.
pub(crate) fn load_schema() -> Schema {
    schema_for!(LoadOutput)
}

/// The schema of [`SlotsDocument`].
pub(crate) fn slots_schema() -> Schema {
    schema_for!(SlotsDocument)
}

/// The schema of [`DiagnosticsDocument`].
pub(crate) fn diagnostics_schema() -> Schema {
    schema_for!(DiagnosticsDocument<'_>)
}
