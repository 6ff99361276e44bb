//! Removing what a load has pinned.

use std::path::{Path, PathBuf};

use bpfplan_plan::{Diagnostic, Severity};

use crate::codes;
use crate::error::{ErrorKind, LoadError};
use crate::journal::{Entered, Removal, remove_pin};
use crate::kernel::{Errno, Kernel};
use crate::pins;
use crate::record::{self, Record};

/// What an unload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unloaded {
    /// The pins that were removed, the record's last.
    pub removed: Vec<PathBuf>,
    /// The directory, if it was removed as well.
    pub directory: Option<PathBuf>,
    /// Warnings and notes about what is not as the load left it.
    pub diagnostics: Vec<Diagnostic>,
}

/// Removes the pins that a load made in the directory, and the directory if the load made it and
/// nothing else is in it.
///
/// A pin is the load's if the map or program behind it has the id that the record names; whatever else is
/// there stays. The record goes last, so an unload that was interrupted can be run again.
///
/// # Errors
/// [`LoadError`] if there is no record, or if something could not be removed.
pub fn unload<K: Kernel>(kernel: &K, directory: &Path) -> Result<Unloaded, LoadError> {
    let directory = pins::existing_directory(kernel, directory)
        .map_err(|problem| LoadError::new(ErrorKind::Refused, vec![problem]))?;
    // Until the end: a load must not pin while pins are removed.
    let _lock = kernel.lock_dir(&directory).map_err(|errno| {
        LoadError::new(
            ErrorKind::Refused,
            vec![pins::not_locked(&directory, errno)],
        )
    })?;
    let record_path = directory.join(record::NAME);
    let (record, record_id) = Record::read(kernel, &record_path)?;
    let mut done = Unloaded {
        removed: Vec::new(),
        directory: None,
        diagnostics: Vec::new(),
    };
    let mut failures = Vec::new();
    for program in record.programs.iter().rev() {
        let path = directory.join(&program.pin);
        match remove(kernel, &path, Entered::Program(program.id), &mut done) {
            Ok(None) => {}
            Ok(Some(finding)) => done
                .diagnostics
                .push(finding.program(program.name.as_str())),
            Err(failure) => failures.push(failure.program(program.name.as_str())),
        }
    }
    for map in record.maps.iter().rev() {
        let path = directory.join(&map.pin);
        match remove(kernel, &path, Entered::Map(map.id), &mut done) {
            Ok(None) => {}
            Ok(Some(finding)) => done.diagnostics.push(finding.map(&map.name)),
            Err(failure) => failures.push(failure.map(&map.name)),
        }
    }
    if !failures.is_empty() {
        failures.extend(done.diagnostics);
        return Err(LoadError::new(ErrorKind::Kernel, failures));
    }
    match remove(kernel, &record_path, Entered::Map(record_id), &mut done) {
        Ok(finding) => done.diagnostics.extend(finding),
        Err(failure) => {
            let mut diagnostics = vec![failure];
            diagnostics.extend(done.diagnostics);
            return Err(LoadError::new(ErrorKind::Kernel, diagnostics));
        }
    }
    if record.made_directory {
        match kernel.remove_dir(&directory) {
            Ok(()) => done.directory = Some(directory),
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                let why = match errno {
                    Errno::ENOTEMPTY => "it is not empty".to_owned(),
                    errno => errno.to_string(),
                };
                done.diagnostics.push(Diagnostic::new(
                    codes::NOT_REMOVED,
                    Severity::Note,
                    format!("{} stays: {why}", directory.display()),
                ));
            }
        }
    }
    Ok(done)
}

/// Removes one pin; gives what there is to say about it.
fn remove<K: Kernel>(
    kernel: &K,
    path: &Path,
    what: Entered,
    done: &mut Unloaded,
) -> Result<Option<Diagnostic>, Diagnostic> {
    let shown = path.display();
    let (kind, id) = match what {
        Entered::Map(id) => ("map", id),
        Entered::Program(id) => ("program", id),
    };
    match remove_pin(kernel, path, what) {
        Ok(Removal::Done) => {
            done.removed.push(path.to_owned());
            Ok(None)
        }
        Ok(Removal::Gone) => Ok(Some(Diagnostic::new(
            codes::PIN_GONE,
            Severity::Note,
            format!("{shown} is gone already"),
        ))),
        Ok(Removal::NotOurs) => Ok(Some(
            Diagnostic::warning(
                codes::NOT_OURS,
                format!("{shown} stays: it is not the {kind} that the load created"),
            )
            .note(format!("the load created the {kind} with id {id}")),
        )),
        Err(errno) => Err(Diagnostic::error(
            codes::NOT_REMOVED,
            format!("removing {shown} failed: {errno}"),
        )
        .help("run `bpfplan unload` again once the cause is gone: the record is still there")),
    }
}
