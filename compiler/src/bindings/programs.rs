//! The programs of a plan as fields of the generated structs.

use bpfplan_plan::{Plan, plain};

use super::names::{self, Scope};

/// A program as a field.
#[derive(Debug)]
pub(super) struct ProgramField {
    /// Name in Rust.
    pub(super) name: String,
    /// Name of its function.
    pub(super) program: String,
    /// What it is, in words.
    pub(super) doc: String,
}

/// The fields, one for each program, in libbpf's order.
pub(super) fn fields(plan: &Plan) -> Vec<ProgramField> {
    let mut scope = Scope::default();
    let shown = |text: &str| plain(text).replace('`', "'");
    plan.programs
        .iter()
        .map(|program| ProgramField {
            name: scope.take(names::identifier(&program.name)),
            program: program.name.clone(),
            doc: format!(
                "`{}` in section `{}`.",
                shown(&program.name),
                shown(&program.section)
            ),
        })
        .collect()
}
