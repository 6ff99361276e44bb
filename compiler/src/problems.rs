//! Collects the diagnostics of one run.

use bpfplan_plan::Diagnostic;

use crate::codes;

/// So many problems of each severity are reported one by one; hostile objects could have millions.
const LIMIT: usize = 200;

/// The diagnostics of one run, in the order of their discovery.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Diagnostic>,
    errors: usize,
    others: usize,
}

impl Problems {
    /// Adds a diagnostic; beyond the limit they are only counted.
    pub(crate) fn add(&mut self, diagnostic: Diagnostic) {
        let count = if diagnostic.is_error() {
            &mut self.errors
        } else {
            &mut self.others
        };
        *count = count.saturating_add(1);
        if *count <= LIMIT {
            self.list.push(diagnostic);
        }
    }

    /// Whether no more errors are listed, so that nobody need word them.
    pub(crate) fn is_full(&self) -> bool {
        self.errors >= LIMIT
    }

    /// Counts errors that are not worded.
    pub(crate) fn count(&mut self, errors: usize) {
        self.errors = self.errors.saturating_add(errors);
    }

    /// Whether there is an error among them.
    pub(crate) fn failed(&self) -> bool {
        self.errors > 0
    }

    /// All of them, with a last one that counts those left out.
    pub(crate) fn into_list(mut self) -> Vec<Diagnostic> {
        let more = self.errors.saturating_sub(LIMIT);
        if more > 0 {
            let message = format!("{more} more errors are not listed");
            self.list.push(Diagnostic::error(codes::TOO_MANY, message));
        }
        let more = self.others.saturating_sub(LIMIT);
        if more > 0 {
            let message = format!("{more} more warnings are not listed");
            self.list
                .push(Diagnostic::warning(codes::TOO_MANY, message));
        }
        self.list
    }
}
