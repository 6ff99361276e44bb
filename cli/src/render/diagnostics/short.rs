//! Diagnostics on one line each, as editors and `grep` like them.

use bpfplan_plan::Diagnostic;

use super::{headline, primary};
use crate::render::escape::plain;

/// Renders `place: severity[code]: what`; the place is in the source where it is known, else it
/// is the object.
pub(crate) fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(line).collect()
}

fn line(diagnostic: &Diagnostic) -> String {
    let place = match (primary(diagnostic), &diagnostic.object) {
        (Some(label), _) => format!("{}: ", plain(&label.source.to_string())),
        (None, Some(object)) => format!("{}: ", plain(object)),
        (None, None) => String::new(),
    };
    format!(
        "{place}{}[{}]: {}\n",
        diagnostic.severity,
        diagnostic.code,
        headline(diagnostic)
    )
}
