//! Places in the source, which a load only looks for when it has something to say about them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bpfplan_compiler::find_places;
use bpfplan_plan::Diagnostic;

use crate::input;

/// Where the places of a plan's maps are to be found, unless the plan has them.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// The object, and which file it was.
    object: Option<(PathBuf, Stamp)>,
}

/// What tells a file from another one that has its name later: device, inode, size and time of the
/// last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([u64; 3], [i64; 2]);

impl Stamp {
    /// `None` for what is no regular file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let file = path.metadata().ok().filter(Metadata::is_file)?;
        let time = [file.mtime(), file.mtime_nsec()];
        Some(Self([file.dev(), file.ino(), file.size()], time))
    }
}

impl Places {
    pub(crate) fn in_object(path: PathBuf, stamp: Stamp) -> Self {
        Self {
            object: Some((path, stamp)),
        }
    }

    /// The diagnostics with their places, as far as they can be found.
    pub(crate) fn find(&self, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let Some((path, stamp)) = &self.object else {
            return diagnostics;
        };
        if diagnostics.iter().any(Diagnostic::lacks_places) {
            let same = Stamp::of(path) == Some(*stamp);
            match same.then(|| input::read_bytes(path)) {
                Some(Ok(file)) => find_places(&file.bytes, &file.name, &mut diagnostics),
                // It is gone by now, or another one, with other places.
                _ => diagnostics
                    .iter_mut()
                    .for_each(|it| it.find_places(|_| None)),
            }
        }
        diagnostics
    }
}
