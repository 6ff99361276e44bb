//! The JSON documents that are not the plan itself.

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

/// The schema of [`DiagnosticsDocument`].
pub(crate) fn diagnostics_schema() -> Schema {
    schema_for!(DiagnosticsDocument<'_>)
}
