//! Places in the source, which a load only looks for when it has something to say about them.

use std::path::PathBuf;

use bpfplan_compiler::find_places;
use bpfplan_plan::Diagnostic;

use crate::input;

/// Where the places of a plan's maps are to be found, unless the plan has them.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// The object.
    object: Option<PathBuf>,
}

impl Places {
    pub(crate) fn in_object(path: PathBuf) -> Self {
        Self { object: Some(path) }
    }

    /// The diagnostics with their places, as far as they can be found.
    pub(crate) fn find(&self, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let Some(path) = &self.object else {
            return diagnostics;
        };
        if diagnostics.iter().any(Diagnostic::lacks_places) {
            match input::read_bytes(path) {
                Ok(file) => find_places(&file.bytes, &file.name, &mut diagnostics),
                // It is gone by now.
                Err(_) => diagnostics
                    .iter_mut()
                    .for_each(|it| it.find_places(|_| None)),
            }
        }
        diagnostics
    }
}
