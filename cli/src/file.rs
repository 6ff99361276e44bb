//! Writing a result to a file.

use std::io::{self, Write as _};
use std::path::Path;

use bpfplan_plan::Diagnostic;
use tempfile::NamedTempFile;

use crate::codes;

/// Writes a file that appears when it is complete, or not at all; `what` is in it.
///
/// # Errors
/// Why the file cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8], what: &str) -> Result<(), Diagnostic> {
    write_whole(path, bytes).map_err(|error| {
        let mut diagnostic = Diagnostic::error(
            codes::UNWRITABLE,
            format!("{what} cannot be written: {}", cause(&error)),
        );
        diagnostic.object = Some(path.to_string_lossy().into_owned());
        diagnostic
    })
}

/// Writes beside the file and renames, so that no reader ever sees half of it.
///
/// Something that is not a regular file (`/dev/stdout`, a pipe) is written to as it is.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    // Through symbolic links, so that the link stays and its target is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let present = path.metadata().ok();
    if present
        .as_ref()
        .is_some_and(|metadata| !metadata.is_file() && !metadata.is_dir())
    {
        return std::fs::OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(bytes);
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // What a file keeps when it is written again, or what a new one gets, less the umask.
    let mode = present.map_or(0o666, |metadata| metadata.permissions().mode());
    let mut file = tempfile::Builder::new()
        .prefix(".bpfplan-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    persist(file, &path)
}

/// The error without the temporary file's path, which would mean nothing to its reader.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" at path ")
        .map_or(text.clone(), |(cause, _)| cause.to_owned())
}

fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path).map(drop).map_err(|error| error.error)
}
