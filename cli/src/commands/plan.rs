//! `bpfplan plan`.

use std::io;

use bpfplan_plan::{Diagnostic, Severity, format, rules};

use crate::args::{PlanArgs, PlanFormat};
use crate::exit::Exit;
use crate::input;
use crate::output;
use crate::render::{dot, mermaid, text};

/// Shows a plan.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &PlanArgs) -> io::Result<Exit> {
    let json = args.format == PlanFormat::Json;
    // Only a written plan has the object's hash.
    let input = match input::read(&args.inputs, json) {
        Ok(input) => input,
        Err(diagnostics) => {
            output::failure(&diagnostics, json)?;
            return Ok(Exit::Refused);
        }
    };
    let mut warnings = input.warnings;
    warnings.extend(
        rules::lint(&input.plan, args.kernel.as_slice())
            .into_iter()
            .map(as_warning),
    );
    output::diagnostics(&input::with_name(&args.inputs, warnings));
    let text = match args.format {
        PlanFormat::Text => text::render(&input.plan, output::colour(&io::stdout())),
        PlanFormat::Json => format::to_json(&input.plan).map_err(io::Error::other)?,
        PlanFormat::Dot => dot::render(&input.plan),
        PlanFormat::Mermaid => mermaid::render(&input.plan),
    };
    output::result(&text)?;
    Ok(Exit::Done)
}

/// What a kernel would refuse stops a load, not a look at the plan.
fn as_warning(mut diagnostic: Diagnostic) -> Diagnostic {
    diagnostic.severity = diagnostic.severity.min(Severity::Warning);
    diagnostic
}
