//! Why a build failed.

use std::fmt;
use std::io;
use std::path::Path;

use bpfplan_plan::Diagnostic;

use crate::codes;

/// A build that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// All problems, warnings included. Never empty.
    pub diagnostics: Vec<Diagnostic>,
    /// What clang said, whole; empty if it was not called or said nothing.
    pub clang_output: String,
}

impl BuildError {
    pub(super) fn new(diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            diagnostics,
            clang_output: String::new(),
        }
    }

    /// A file that cannot be used.
    pub(super) fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        let mut diagnostic =
            Diagnostic::error(codes::BUILD_FILE, format!("the file {what}: {error}"));
        diagnostic.object = Some(path.to_string_lossy().into_owned());
        Self::new(vec![diagnostic])
    }

    /// With what clang said before.
    pub(super) fn after(mut self, clang_output: String) -> Self {
        self.clang_output = clang_output;
        self
    }
}

impl fmt::Display for BuildError {
    /// What clang said, then one line for each diagnostic.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.clang_output)?;
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 || !(self.clang_output.is_empty() || self.clang_output.ends_with('\n')) {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}
