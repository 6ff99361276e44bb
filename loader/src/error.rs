//! Why a load or an unload did not happen.

use std::fmt;

use bpfplan_plan::Diagnostic;

/// A load or an unload that failed. Nothing of it is left unless a diagnostic says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// All that is known, the cause first. Never empty.
    pub diagnostics: Vec<Diagnostic>,
}

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The plan is not valid.
    Plan,
    /// The plan is valid, and this loader does not load it; nothing was created.
    Refused,
    /// Some map would survive nowhere: neither pinned nor held; nothing was created.
    NotKept,
    /// The kernel refused a step; everything before it was undone.
    Kernel,
    /// The caller asked to stop; everything was undone.
    Interrupted,
}

impl LoadError {
    pub(crate) fn new(kind: ErrorKind, diagnostics: Vec<Diagnostic>) -> Self {
        Self { kind, diagnostics }
    }
}

impl From<LoadError> for Vec<Diagnostic> {
    fn from(error: LoadError) -> Self {
        error.diagnostics
    }
}

impl fmt::Display for LoadError {
    /// One line for each diagnostic.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}
