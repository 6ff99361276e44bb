//! `bpfplan unload`.

use std::io;

use bpfplan_loader::{RealKernel, unload};

use crate::args::UnloadArgs;
use crate::exit::Exit;
use crate::output;
use crate::render::escape::plain;

/// Removes what a load has pinned.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &UnloadArgs) -> io::Result<Exit> {
    let unloaded = match unload(&RealKernel::new(), &args.dir) {
        Ok(unloaded) => unloaded,
        Err(error) => {
            output::diagnostics(&error.diagnostics);
            return Ok(Exit::Refused);
        }
    };
    output::diagnostics(&unloaded.diagnostics);
    let removed = unloaded.removed.iter().chain(&unloaded.directory);
    let lines: String = removed
        .map(|path| format!("removed {}\n", plain(&path.to_string_lossy())))
        .collect();
    output::result(&lines)?;
    Ok(Exit::Done)
}
