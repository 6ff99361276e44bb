//! Diagnostics about overrides.

use super::Override;
use crate::btf::EncodeError;
use crate::codes;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Map;

/// Problems after which no others are looked for.
const SHOWN: usize = 100;
/// Characters of an override that a message shows.
const TEXT: usize = 80;

/// The problems so far.
#[derive(Debug, Default)]
pub(super) struct List(Vec<Diagnostic>);

impl List {
    pub(super) fn add(&mut self, problem: Diagnostic) {
        self.0.push(problem);
    }

    /// Whether there are enough of them.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= SHOWN
    }

    /// The problems, where they are no reason to stop.
    pub(super) fn into_inner(self) -> Vec<Diagnostic> {
        self.0
    }

    /// # Errors
    /// The problems, if there are any.
    pub(super) fn finish(mut self) -> Result<(), Vec<Diagnostic>> {
        if self.0.is_empty() {
            return Ok(());
        }
        if self.is_full() {
            let message = format!("no more than {SHOWN} problems of overrides are looked for");
            self.0.push(Diagnostic::error(codes::PLAN_MORE, message));
        }
        Err(self.0)
    }
}

/// A problem of an override that belongs to no map.
pub(super) fn of(set: &Override, code: Code, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, message).note(named(set))
}

/// A problem of an override about a field or variable of a map.
pub(super) fn about(
    set: &Override,
    code: Code,
    map: &Map,
    field: &str,
    message: impl Into<String>,
) -> Diagnostic {
    of(set, code, message)
        .map(&map.name)
        .field(field)
        .at(map.source.as_ref(), "declared here")
}

/// The types do not make BTF any more.
pub(super) fn types(error: &EncodeError) -> Diagnostic {
    let message = format!("the overridden types make no BTF: {error}");
    Diagnostic::error(codes::OVERRIDE_REFUSED, message)
}

/// Which override it is about.
pub(super) fn named(set: &Override) -> String {
    format!("in the override {}", shown(&set.to_string()))
}

/// Text of a user in a message: on one line, and not longer than one.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(TEXT).collect();
    let cut = if start.len() < text.len() { "…" } else { "" };
    format!(
        "{}{cut}",
        start
            .escape_debug()
            .to_string()
            .replace("\\\"", "\"")
            .replace("\\'", "'")
    )
}
