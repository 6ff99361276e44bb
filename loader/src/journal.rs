//! What a load has made so far, so that exactly that can be undone.

use std::path::{Path, PathBuf};

use bpfplan_plan::Diagnostic;

use crate::codes;
use crate::kernel::{Errno, Kernel, PathKind};

/// What was made and outlives the process, in order.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
}

#[derive(Debug)]
enum Entry {
    Directory(PathBuf),
    Pin { path: PathBuf, what: Entered },
}

/// What is pinned, by the kernel's id. Maps and programs count apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    Map(u32),
    Program(u32),
}

/// What became of a pin that was to be removed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is removed.
    Done,
    /// It was not there any more.
    Gone,
    /// Something else is there now.
    NotOurs,
}

impl Journal {
    pub(crate) fn directory(&mut self, path: PathBuf) {
        self.entries.push(Entry::Directory(path));
    }

    pub(crate) fn pin(&mut self, path: PathBuf, what: Entered) {
        self.entries.push(Entry::Pin { path, what });
    }

    /// Removes everything again, the last first; says what could not be removed.
    pub(crate) fn undo<K: Kernel>(&mut self, kernel: &K) -> Vec<Diagnostic> {
        let mut left = Vec::new();
        while let Some(entry) = self.entries.pop() {
            let (path, problem) = match entry {
                Entry::Directory(path) => {
                    let problem = match kernel.remove_dir(&path) {
                        // Somebody else has put something there meanwhile, and keeps it.
                        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY) => continue,
                        Err(errno) => errno.to_string(),
                    };
                    (path, problem)
                }
                Entry::Pin { path, what } => {
                    let problem = match remove_pin(kernel, &path, what) {
                        Ok(Removal::Done | Removal::Gone) => continue,
                        Ok(Removal::NotOurs) => "something else is there now".to_owned(),
                        Err(errno) => errno.to_string(),
                    };
                    (path, problem)
                }
            };
            left.push(
                Diagnostic::warning(
                    codes::NOT_UNDONE,
                    format!("{} is left of the failed load: {problem}", path.display()),
                )
                .help("look at it and remove it"),
            );
        }
        left
    }
}

/// Removes the pin at `path` if it is that map or program. What is a link to it, or something
/// else, stays.
pub(crate) fn remove_pin<K: Kernel>(
    kernel: &K,
    path: &Path,
    what: Entered,
) -> Result<Removal, Errno> {
    match kernel.inspect(path) {
        Ok(PathKind::Other) => {}
        Ok(_) => return Ok(Removal::NotOurs),
        Err(Errno::ENOENT) => return Ok(Removal::Gone),
        Err(errno) => return Err(errno),
    }
    let found = match what {
        Entered::Map(_) => kernel
            .open_pin(path)
            .and_then(|map| Ok(Entered::Map(kernel.info(&map)?.id))),
        Entered::Program(_) => kernel.pinned_program(path).map(Entered::Program),
    };
    let ours = match found {
        Ok(found) => found == what,
        Err(Errno::ENOENT) => return Ok(Removal::Gone),
        Err(Errno::EINVAL) => false,
        Err(errno) => return Err(errno),
    };
    if !ours {
        return Ok(Removal::NotOurs);
    }
    match kernel.unlink(path) {
        Ok(()) => Ok(Removal::Done),
        Err(Errno::ENOENT) => Ok(Removal::Gone),
        Err(errno) => Err(errno),
    }
}
