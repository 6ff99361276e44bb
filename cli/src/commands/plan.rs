//! `bpfplan plan`.

use std::io;

use bpfplan_plan::{Code, Diagnostic, format, rules};

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
    let input = input::read(&args.inputs, json)
        .and_then(|input| input.overridden(&args.inputs, &args.overrides));
    let input = match input {
        Ok(input) => input,
        Err(diagnostics) => {
            output::failure(&diagnostics, json)?;
            return Ok(Exit::Refused);
        }
    };
    let mut warnings = input.warnings;
    // Overrides have said some of it, and which of them is the cause.
    let said: Vec<_> = warnings.iter().map(essence).collect();
    let found = rules::lint(&input.plan, args.kernel.as_slice());
    let new: Vec<_> = found
        .into_iter()
        .filter(|found| !said.contains(&essence(found)))
        .collect();
    warnings.extend(new.into_iter().map(Diagnostic::as_warning));
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

/// What tells a finding from others.
fn essence(found: &Diagnostic) -> (Code, Option<&str>, Option<&str>, &str) {
    let (map, field) = (found.map.as_deref(), found.field.as_deref());
    (found.code, map, field, &found.message)
}
