//! Diagnostics; one module per output.

mod differences;
pub(crate) mod github;
pub(crate) mod json;
pub(crate) mod short;
pub(crate) mod source;
pub(crate) mod text;

use bpfplan_plan::{Diagnostic, Label};

use super::escape::plain;

/// `map 'lut', max_entries: this is what is wrong`, on one line and harmless to a terminal.
fn headline(diagnostic: &Diagnostic) -> String {
    let mut text = String::new();
    if let Some(map) = &diagnostic.map {
        text.push_str(&format!("map '{}'", plain(map)));
    }
    if let Some(program) = &diagnostic.program {
        text.push_str(&format!("program '{}'", plain(program)));
    }
    // The field is named once, by whoever names it better.
    let field = diagnostic
        .field
        .as_ref()
        .filter(|field| !diagnostic.message.contains(*field));
    if let Some(field) = field {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&plain(field));
    }
    if !text.is_empty() {
        text.push_str(": ");
    }
    text.push_str(&plain(&diagnostic.message));
    text
}

/// The primary place, if one is known.
fn primary(diagnostic: &Diagnostic) -> Option<&Label> {
    diagnostic.labels.first()
}
