//! `bpfplan compile`.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use bpfplan_plan::{format, rules};

use crate::args::{CompileArgs, CompileFormat};
use crate::exit::Exit;
use crate::file;
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
    if let Err(diagnostic) = file::write(&args.output, &bytes, "the plan") {
        output::failure(&[diagnostic], json)?;
        return Ok(Exit::Refused);
    }
    Ok(Exit::Done)
}
