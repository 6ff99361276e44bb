//! `bpfplan compile`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use bpfplan_plan::{Diagnostic, format, rules};
use tempfile::NamedTempFile;

use crate::args::{CompileArgs, CompileFormat};
use crate::codes;
use crate::exit::Exit;
use crate::input;
use crate::output;

/// Compiles an object into a file.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &CompileArgs) -> io::Result<Exit> {
    let json = args.format == CompileFormat::Json;
    let stdout = args.output == Path::new("-");
    if stdout && !json && io::stdout().is_terminal() {
        output::talk(
            "error: a binary plan is not fit for a terminal: redirect it, or use --format json",
        );
        return Ok(Exit::Usage);
    }
    let input = match input::read_object(&args.inputs, true) {
        Ok(input) => input,
        Err(diagnostics) => {
            output::failure(&diagnostics, json)?;
            return Ok(Exit::Refused);
        }
    };
    let mut warnings = input.warnings;
    let required = rules::required(&input.plan);
    let required = required
        .iter()
        .map(|required| required.diagnostic().as_warning());
    warnings.extend(input::with_name(&args.inputs, required.collect()));
    output::diagnostics(&warnings);
    let bytes = match args.format {
        CompileFormat::Binary => format::to_binary(&input.plan),
        CompileFormat::Json => format::to_json(&input.plan).map(String::into_bytes),
    }
    .map_err(io::Error::other)?;
    if stdout {
        output::bytes(&bytes)?;
        return Ok(Exit::Done);
    }
    if let Err(error) = write_whole(&args.output, &bytes) {
        let mut diagnostic = Diagnostic::error(
            codes::UNWRITABLE,
            format!("the plan cannot be written: {}", cause(&error)),
        );
        diagnostic.object = Some(args.output.to_string_lossy().into_owned());
        output::failure(&[diagnostic], json)?;
        return Ok(Exit::Refused);
    }
    Ok(Exit::Done)
}

/// Writes beside the file and renames, so that no reader ever sees half a plan.
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
