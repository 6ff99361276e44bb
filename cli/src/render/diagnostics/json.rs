//! Diagnostics as the JSON document of the command-line contract.

use bpfplan_plan::Diagnostic;

use crate::documents::DiagnosticsDocument;

/// Renders `{"diagnostics": [...]}`.
///
/// # Errors
/// None in practice: a diagnostic has nothing that JSON cannot hold.
pub(crate) fn render(diagnostics: &[Diagnostic]) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&DiagnosticsDocument { diagnostics })?;
    text.push('\n');
    Ok(text)
}
